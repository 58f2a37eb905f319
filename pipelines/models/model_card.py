"""`model-card.toml`: what a model folder says about itself, read before anything of it is loaded."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
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
        convention: `kaldi` (icefall, WeNet) or `nemo`, with frames of 25 ms every 10 ms.
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
    """A tensor that a streaming model hands from chunk to chunk, or many of them whose names have one pattern.

    Attributes:
        input: Name of the ONNX input; a `*` in it stands for whatever is there in the file (`cached_key_*`).
        output: Name of the ONNX output that is the next chunk's input, with a `*` where `input` has one.
        batch_axis: Which of its axes counts the streams; -1 for none: such a model hears one stream at a time.
        shape: Its sizes at the start of a stream, for a file that leaves some of them open.
        start: What it is filled with at the start of a stream.
    """

    input: str
    output: str
    batch_axis: int = Field(default=0, ge=-1)
    shape: tuple[int, ...] = ()
    start: float = 0.0


class MadeCard(_Section):
    """An input that is made anew for each step.

    Attributes:
        input: Name of the ONNX input.
    """

    input: str


class ConstantCard(MadeCard):
    """An input that is the same at every step, as WeNet's `required_cache_size`."""

    value: int


class CounterCard(MadeCard):
    """An input that grows at every step, as WeNet's `offset`.

    Attributes:
        start: What it is at a stream's first step.
        step: What is added from step to step; `None` for the frames of a chunk.
    """

    start: int = 0
    step: int | None = None


class MaskCard(MadeCard):
    """Which frames are real: first those of a cache, then those of the chunk (WeNet's `att_mask`).

    It is boolean (streams, 1, cached + chunk).

    Attributes:
        cached_frames: Frames that the cache holds; a new stream's are not real yet.
    """

    cached_frames: int = Field(ge=1)


class StreamingCard(_Section):
    """How a model is fed chunk by chunk.

    Attributes:
        chunk_frames: Frames that a step gives; where the model takes the waveform, those of a chunk if nobody asks
            for another number.
        lookahead_samples: Audio behind a chunk that its frames wait for. With [features] it follows from
            `window_frames`, and need not be said.
        window_frames: Feature frames that a step takes: those of its chunk, and before and behind them what the
            first layers need (`T` of icefall, `decoding_window` of WeNet, `window_size` of sherpa's NeMo exports).
        history_frames: How many of them lie before the chunk; zeros at the start of a stream (NeMo's
            `pre_encode_cache_size`).
        states: What it remembers.
        constants, counters, masks: Inputs that are made anew for each step.
    """

    chunk_frames: int = Field(ge=1)
    lookahead_samples: int | None = Field(default=None, ge=0)
    window_frames: int | None = Field(default=None, ge=1)
    history_frames: int = Field(default=0, ge=0)
    states: tuple[StateCard, ...] = Field(min_length=1)
    constants: tuple[ConstantCard, ...] = ()
    counters: tuple[CounterCard, ...] = ()
    masks: tuple[MaskCard, ...] = ()


class HeadCard(_Section):
    """A second graph behind the first, which turns its output into labels (WeNet's `ctc.onnx`).

    Attributes:
        files: Precision to ONNX file.
        input: Its input, fed with what [output] names.
        output: Its output: float32 (batch, frames, labels).
    """

    files: dict[str, str] = Field(min_length=1)
    input: str = "hidden"
    output: str = "probs"


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
        head: For a model whose labels come from a second graph.
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
    head: HeadCard | None = None

    def whole_clip(self) -> WholeClip | None:
        """What a run on waveforms needs; `None` where the card does not say all of it."""
        given, made = self.input, self.output
        if self.features or self.streaming or self.head or made.kind != "log_probs":
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
    return folder / _named(card, card.files, "[files]", folder, precision)


def head_file_of(card: CtcCard, folder: Path, precision: str) -> Path | None:
    """The ONNX file of one precision of the head, `None` where the model has no head of its own.

    Raises:
        AmiraError: The head has no such form.
    """
    if card.head is None:
        return None
    return folder / _named(card, card.head.files, "files of [head]", folder, precision)


def _named(card: CtcCard, files: Mapping[str, str], where: str, folder: Path, precision: str) -> str:
    if precision not in files:
        remedy = f"Add it under {where} in {folder / FILE}, or pick another variant: amira variants"
        raise unknown(f"form of model '{card.name}'", precision, files, remedy)
    return files[precision]


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
