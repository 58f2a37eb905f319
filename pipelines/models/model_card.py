"""`model-card.toml`: what a model folder says about itself, read before anything of it is loaded."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
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
    """What goes in: the waveform, float32 (batch, samples) in [-1, 1) at 16 kHz, or features of it.

    Attributes:
        name: Name of the ONNX input.
        lengths: Name of the input that holds how many samples or feature frames of each row are real; `None` where
            there is none. A batch runs row by row unless there are lengths on both sides.
        window_samples: Samples of the waveform that one frame sees, if known: a clip of n samples then has
            1 + (n - window) // shift frames.
    """

    name: str = "samples"
    lengths: str | None = None
    window_samples: int | None = Field(default=None, ge=1)


class FeaturesCard(_Section):
    """The features that a model takes instead of the waveform (`kernels.features`).

    Attributes:
        convention: `kaldi` (icefall, WeNet) or `nemo`.
        mels: Mel channels.
        scale: What samples in [-1, 1) are multiplied by first: 32,768 for WeNet.
        low_hz: Lower edge of the lowest mel triangle.
        high_hz: Upper edge of the highest; below 0, so far from the Nyquist frequency, as Kaldi has it.
        per_feature: Whether each channel is normalised over the clip, as NeMo does.
        channels_first: Whether the input is (batch, mels, frames), as NeMo has it.
    """

    convention: Literal["kaldi", "nemo"]
    mels: int = Field(default=80, ge=1)
    scale: float = Field(default=1.0, gt=0)
    low_hz: float = Field(default=0.0, ge=0)
    high_hz: float = 8_000.0
    per_feature: bool = False
    channels_first: bool = False


class OutputCard(_Section):
    """What comes out: float32 (batch, frames, labels).

    Attributes:
        name: Name of the ONNX output.
        lengths: Name of the output that holds how many frames of each row are real; `None` where there is none.
        shift_samples: Samples from one frame to the next.
        kind: What the numbers are.
    """

    name: str = "log_probs"
    lengths: str | None = None
    shift_samples: int = Field(ge=1)
    kind: Literal["log_probs", "logits"] = "log_probs"


class StateCard(_Section):
    """One tensor that a streaming model hands from chunk to chunk; zeros at the start of a stream.

    Attributes:
        input: Name of the ONNX input.
        output: Name of the ONNX output that is the next chunk's input.
        batch_axis: Which of its axes counts the streams.
    """

    input: str
    output: str
    batch_axis: int = Field(default=0, ge=0)


class StreamingCard(_Section):
    """How a model is fed chunk by chunk.

    Attributes:
        chunk_frames: Frames of a chunk where nobody asks for another number.
        lookahead_samples: Audio behind a chunk that its frames wait for.
        states: What it remembers.
    """

    chunk_frames: int = Field(ge=1)
    lookahead_samples: int = Field(default=0, ge=0)
    states: tuple[StateCard, ...] = Field(min_length=1)


@dataclass(frozen=True, slots=True)
class WholeClip:
    """What must be known to bind all memory of a run before it: names, and how many frames come out."""

    samples: str
    lengths: str
    log_probs: str
    frames: str
    window_samples: int
    shift_samples: int


class CtcCard(_Section):
    """The card of a CTC model.

    Attributes:
        files: Precision to ONNX file, e.g. `fp32 = "model.fp32.onnx"`.
        features: For a model that takes features instead of the waveform.
        streaming: For a model that takes chunks and states instead of whole clips.
    """

    family: Literal["ctc"]
    name: str
    summary: str = ""
    language: str = "en"
    licence: str = ""
    files: dict[str, str] = Field(min_length=1)
    vocabulary: VocabularyCard = VocabularyCard()
    input: InputCard = InputCard()
    features: FeaturesCard | None = None
    output: OutputCard
    streaming: StreamingCard | None = None

    def whole_clip(self) -> WholeClip | None:
        """What a run on waveforms needs; `None` where the card does not say all of it."""
        given, made = self.input, self.output
        if self.features or self.streaming or made.kind != "log_probs":
            return None
        if given.lengths is None or made.lengths is None or given.window_samples is None:
            return None
        return WholeClip(given.name, given.lengths, made.name, made.lengths, given.window_samples, made.shift_samples)


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
