"""`model-card.toml`: what a model folder says about itself, read before anything of it is loaded."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipelines.errors import AmiraError, unknown

FILE = "model-card.toml"
FAMILIES = ("aed", "ctc")


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class VocabularyCard(_Section):
    """The labels.

    Attributes:
        file: One label a line (`pipelines.acoustic.tokens`).
        blank: Id or symbol of the blank; without it, one of the usual names is looked for.
        lower_case: Write the text in lower case.
    """

    file: str = "tokens.txt"
    blank: int | str | None = None
    lower_case: bool = False


class InputCard(_Section):
    """What goes in: the waveform, float32 (batch, samples) in [-1, 1) at 16 kHz.

    Attributes:
        name: Name of the ONNX input.
        lengths: Name of the input that holds how many samples of each row are real.
        window_samples: Samples that one frame sees; a clip of n samples has 1 + (n - window) // shift frames.
    """

    name: str = "samples"
    lengths: str = "lengths"
    window_samples: int = Field(ge=1)


class OutputCard(_Section):
    """What comes out: log-probabilities, float32 (batch, frames, labels).

    Attributes:
        name: Name of the ONNX output.
        lengths: Name of the output that holds how many frames of each row are real.
        shift_samples: Samples from one frame to the next.
    """

    name: str = "log_probs"
    lengths: str = "frames"
    shift_samples: int = Field(ge=1)


class CtcCard(_Section):
    """The card of a CTC model.

    Attributes:
        files: Precision to ONNX file, e.g. `fp32 = "model.fp32.onnx"`.
    """

    family: Literal["ctc"]
    name: str
    summary: str = ""
    language: str = "en"
    licence: str = ""
    files: dict[str, str] = Field(min_length=1)
    vocabulary: VocabularyCard = VocabularyCard()
    input: InputCard
    output: OutputCard


def family(folder: Path) -> str:
    """The family of the model in a folder.

    Raises:
        AmiraError: There is no card, it is not TOML, or its family is unknown.
    """
    found = str(_read(folder).get("family", ""))
    if found not in FAMILIES:
        raise unknown("model family", found, FAMILIES, f"Mend 'family' in {folder / FILE}.")
    return found


def ctc_card(folder: Path) -> CtcCard:
    """The card of the CTC model in a folder.

    Raises:
        AmiraError: There is no card, or it says something that is wrong or unknown.
    """
    try:
        return CtcCard.model_validate(_read(folder))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        more = f" ({error.error_count() - 1} more after it)" if error.error_count() > 1 else ""
        raise AmiraError(f"model card {folder / FILE}: '{place}': {first['msg']}{more}. Mend that value") from error


def file_of(card: CtcCard, folder: Path, precision: str) -> Path:
    """The ONNX file of one precision.

    Raises:
        AmiraError: The model has no such form.
    """
    if precision not in card.files:
        remedy = f"Add it under [files] in {folder / FILE}, or pick another variant: amira variants"
        raise unknown(f"form of model '{card.name}'", precision, card.files, remedy)
    return folder / card.files[precision]


def _read(folder: Path) -> dict[str, Any]:
    path = folder / FILE
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise AmiraError(
            f"model '{folder.name}' is not here: there is no {path}. Build the default models: amira models build. "
            f"A model of your own is a folder with a {FILE}"
        ) from error
    except (OSError, ValueError) as error:
        raise AmiraError(f"model card {path} cannot be read: {error}") from error
