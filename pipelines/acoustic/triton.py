"""`acoustic/triton@fp32` and `@int8`: the acoustic part on Triton, over the connection of the `connection` axis.

Of an attention model only the encoder runs there. Its decoder stays in the process: a step takes and gives the keys
and values of every layer, some hundred times the bytes of the token that it is about, sixty times a clip. (Where the
whole clip belongs on the server, the repository's `moonshine-aed` does the loop there.)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from pipelines.acoustic.open_ctc import read_vocabulary
from pipelines.acoustic.ort import OrtAed
from pipelines.acoustic.sessions import SessionOptions
from pipelines.acoustic.triton_stream import TritonStreaming
from pipelines.contracts import (
    SAMPLE_RATE,
    AcousticModel,
    AudioBatch,
    CtcVocabulary,
    EncoderDecoderModel,
    Float32,
    LogProbs,
)
from pipelines.errors import AmiraError
from pipelines.models.model_card import CtcCard, ctc_card, family
from pipelines.registry import Context, Unavailable, Variant
from pipelines.triton import variants


class TritonAed(OrtAed):
    """Moonshine with its encoder on Triton."""

    def __init__(self, context: Context, precision: str, model: str) -> None:
        super().__init__(context, precision, f"step.{precision}", SessionOptions(), encoder=False)
        self._service = context.parts["connection"]
        self._model = model
        self._service.need(model)

    def _encode_impl(self, samples: Float32, hidden: Float32) -> None:
        inputs = {"input_values": np.ascontiguousarray(samples)}
        reply = self._service.infer(self._model, inputs, ("last_hidden_state",))
        hidden[:] = reply.outputs["last_hidden_state"]


class TritonCtc:
    """Implements `pipelines.contracts.AcousticModel`: a CTC model of whole clips on Triton."""

    def __init__(self, card: CtcCard, vocabulary: CtcVocabulary, service: Any, model: str) -> None:
        clip = card.whole_clip()
        if clip is None:
            raise AmiraError(
                f"model '{card.name}' does not take the waveform of whole clips, which is what runs on Triton here. "
                "Run it in process: acoustic = 'ort@fp32'"
            )
        self.vocabulary: CtcVocabulary = vocabulary
        self.frame_shift_s = clip.shift_samples / SAMPLE_RATE
        self._clip, self._model, self._service = clip, model, service

    def warm_up(self) -> None:
        """Run once on a second of silence."""
        self.infer(AudioBatch(np.zeros((1, SAMPLE_RATE), np.float32), np.array([SAMPLE_RATE])))

    def infer(self, batch: AudioBatch) -> LogProbs:
        """See `pipelines.contracts.AcousticModel.infer`."""
        clip, samples = self._clip, batch.samples
        if samples.shape[1] < clip.window_samples:  # shorter than one frame: zeros behind it, the length still says so
            samples = np.pad(samples, ((0, 0), (0, clip.window_samples - samples.shape[1])))
        lengths = np.ascontiguousarray(batch.lengths, np.int64)[:, None]
        inputs = {clip.samples: np.ascontiguousarray(samples), clip.lengths: lengths}
        reply = self._service.infer(self._model, inputs, (clip.log_probs, clip.frames))
        return LogProbs(reply.outputs[clip.log_probs], reply.outputs[clip.frames][:, 0])


@contextmanager
def open_ctc(context: Context, model: str, chunk_frames: int | None) -> Iterator[AcousticModel]:
    """The CTC model of a context, which is `model` on Triton; one with a streaming card streams there, too.

    Raises:
        AmiraError: Triton has no such model, its card does not fit, or chunks are asked for that it does not have.
    """
    card = ctc_card(context.folder)
    vocabulary = read_vocabulary(context.folder, card)
    if card.streaming is None and chunk_frames is not None:
        raise AmiraError(f"chunk_frames is for streaming models, and the card of '{card.name}' has no [streaming]")
    service = context.parts["connection"]
    if card.streaming is not None and card.features is not None:
        raise AmiraError(
            f"model '{card.name}' streams features, and on Triton streaming models take the waveform. Run it in "
            "process: acoustic = 'ort@fp32'"
        )
    if card.streaming is None:
        whole = TritonCtc(card, vocabulary, service, model)
        service.need(model)
        yield whole
        return
    service.need(model)
    frames = chunk_frames or card.streaming.chunk_frames
    with closing(TritonStreaming(card, card.streaming, vocabulary, service, model, frames)) as streaming:
        yield streaming


class TritonOptions(BaseModel):
    """Options of the `triton` variants.

    Attributes:
        chunk_frames: Frames of a chunk, for streaming models; `None` for what the model's card says.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    chunk_frames: int | None = Field(default=None, ge=1, le=128)


class _Triton(Variant):
    options = TritonOptions
    families = ("aed", "ctc")
    needs = ("connection",)
    precision: ClassVar[str]
    suffix: ClassVar[str]
    """What the names of the repository's models of this precision end in."""

    @classmethod
    def available(cls) -> Unavailable | None:
        """The client or the server that this machine lacks."""
        return variants.problem()

    @classmethod
    @contextmanager
    def _open_impl(cls, context: Context, options: TritonOptions) -> Iterator[EncoderDecoderModel | AcousticModel]:
        if family(context.folder) == "ctc":
            with open_ctc(context, f"{Path(context.model).name}{cls.suffix}", options.chunk_frames) as model:
                yield model
        else:
            yield TritonAed(context, cls.precision, f"moonshine-encoder{cls.suffix}")


class Fp32(_Triton):
    """`acoustic/triton@fp32`."""

    id = "acoustic/triton@fp32"
    summary = "the acoustic graphs of ort@fp32 on a Triton server"
    precision = "fp32"
    suffix = ""


class Int8(_Triton):
    """`acoustic/triton@int8`."""

    id = "acoustic/triton@int8"
    summary = "the acoustic graphs of ort@int8 on a Triton server"
    precision = "int8"
    suffix = "-int8"
