"""The `partials` axis: what is said about a segment while it still grows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from pipelines.assemble import Pipeline
from pipelines.contracts import (
    SAMPLE_RATE,
    AudioBatch,
    Decoder,
    DecoderStream,
    Hypotheses,
    Hypothesis,
    Kernels,
    Partial,
    StreamingAcousticModel,
    StreamState,
    Word,
)
from pipelines.errors import AmiraError
from pipelines.registry import Context, NoOptions, Variant
from pipelines.wishes import Wishes, decoder_for, unable


class FirstPass(Protocol):
    """Hears the chunks of many segments in one batch."""

    chunk_samples: int

    def open(self) -> Any:
        """The state of a new segment."""
        ...

    def push(self, segments: Sequence[Any], pcm: Sequence[bytes]) -> list[Partial]:
        """Hear the next chunk of each segment: PCM16, `chunk_samples` long, or shorter where it is the last."""
        ...

    def finish(self, segment: Any) -> Hypotheses:
        """What the whole segment says; its state is closed."""
        ...

    def close(self, segment: Any) -> None:
        """Give up a segment that nobody waits for any more."""
        ...

    def personal(self, wishes: Wishes) -> FirstPass:
        """A pass for one session, whose segments any pass of this kind can hear together with others.

        Raises:
            AmiraError: It cannot do what the session wishes.
        """
        ...


@dataclass(frozen=True, slots=True)
class Regrow:
    """Recognise the growing segment again and again: after `step` samples, later when it grew by `growth`.

    With growth 0.3 a segment of n samples costs at most 1 / 0.3 + 1 times its one recognition, however long it gets.
    """

    step: int
    growth: float

    def next_length(self, length: int) -> int:
        """The length at which a segment that was recognised at `length` is recognised again."""
        return max(length + self.step, int(length * (1 + self.growth)))


@dataclass(frozen=True, slots=True)
class Partials:
    """What makes partials: a first pass, or a whole-utterance pipeline again and again, or nothing.

    Attributes:
        first_pass: Hears chunk by chunk.
        regrow: When the growing segment is recognised anew.
        pipeline: By which pipeline; that of the finals if `None`.
    """

    first_pass: FirstPass | None = None
    regrow: Regrow | None = None
    pipeline: Pipeline | None = None

    def personal(self, wishes: Wishes) -> Partials:
        """The same for one session.

        Raises:
            AmiraError: They cannot do what the session wishes.
        """
        if self.first_pass is not None:
            return replace(self, first_pass=self.first_pass.personal(wishes))
        return self if self.pipeline is None else replace(self, pipeline=self.pipeline.personal(wishes))


@dataclass(slots=True)
class _Segment:
    state: StreamState
    decoder: DecoderStream
    heard: int = 0


class StreamingPass:
    """A streaming acoustic model and an incremental decoder."""

    def __init__(self, model: StreamingAcousticModel, decoder: Decoder, kernels: Kernels) -> None:
        self._model, self._decoder, self._kernels = model, decoder, kernels
        self.chunk_samples = model.chunk_samples

    def open(self) -> _Segment:
        """See `FirstPass`."""
        return _Segment(self._model.open(), self._decoder.stream())

    def push(self, segments: Sequence[_Segment], pcm: Sequence[bytes]) -> list[Partial]:
        """See `FirstPass`."""
        lengths = np.array([len(chunk) // 2 for chunk in pcm])
        samples = np.zeros((len(pcm), self.chunk_samples), np.float32)
        for row, chunk, length in zip(samples, pcm, lengths, strict=True):
            self._kernels.pcm16_to_float32(chunk, row[:length])
        log_probs = self._model.infer_chunk([segment.state for segment in segments], AudioBatch(samples, lengths))
        for segment, length in zip(segments, lengths.tolist(), strict=True):
            segment.heard += length
        return [
            segment.decoder.push(values[:frames])
            for segment, values, frames in zip(segments, log_probs.values, log_probs.lengths, strict=True)
        ]

    def finish(self, segment: _Segment) -> Hypotheses:
        """See `FirstPass`."""
        if self._model.lookahead_samples and segment.heard % self.chunk_samples == 0:
            self.push([segment], [b""])  # what waits for audio behind the last chunk, which was a whole one
        hypotheses = segment.decoder.finish()
        segment.state.close()
        return hypotheses

    def close(self, segment: _Segment) -> None:
        """See `FirstPass`."""
        segment.state.close()

    def personal(self, wishes: Wishes) -> StreamingPass:
        """The same model with a decoder for one session; its segments go into the others' batches.

        Raises:
            AmiraError: The decoder cannot do what the session wishes.
        """
        return StreamingPass(self._model, decoder_for(self._decoder, wishes), self._kernels)


def heard(samples: int) -> str:
    """What a pass that recognises nothing says."""
    return f"heard {samples * 1000 // SAMPLE_RATE} ms"


@lru_cache(maxsize=4_096)
def _partial(samples: int) -> Partial:
    return Partial(heard(samples), len("heard "))


def heard_words(samples: int) -> Hypothesis:
    """The same as a hypothesis, its words spread evenly over the audio."""
    text = heard(samples)
    words = text.split()
    step = samples / SAMPLE_RATE / len(words)
    spread = tuple(Word(word, k * step, (k + 1) * step, 1.0) for k, word in enumerate(words))
    return Hypothesis(text, (), 0.0, spread)


class NullPass:
    """Counts samples."""

    chunk_samples = 1_600

    def open(self) -> list[int]:
        """See `FirstPass`."""
        return [0]

    def push(self, segments: Sequence[list[int]], pcm: Sequence[bytes]) -> list[Partial]:
        """See `FirstPass`."""
        for count, chunk in zip(segments, pcm, strict=True):
            count[0] += len(chunk) // 2
        return [_partial(count[0]) for count in segments]

    def finish(self, segment: list[int]) -> Hypotheses:
        """See `FirstPass`."""
        return (heard_words(segment[0]),)

    def close(self, segment: list[int]) -> None:
        """See `FirstPass`."""

    def personal(self, wishes: Wishes) -> FirstPass:
        """See `FirstPass`."""
        raise unable(wishes, "the null recogniser")


class StreamingPartials(Variant):
    """`partials/streaming`."""

    id = "partials/streaming"
    summary = "a streaming model chunk by chunk, all sessions in one batch"

    @classmethod
    @contextmanager
    def _open_impl(cls, context: Context, options: Any) -> Iterator[Partials]:
        with context.parts["first"].parts() as parts:
            if not isinstance(parts["acoustic"], StreamingAcousticModel):
                raise AmiraError(
                    "'partials/streaming' needs an acoustic variant that works chunk by chunk, which that of "
                    '[recognizer.first] does not. Use partials = "growing", or another model'
                )
            parts["acoustic"].warm_up()
            yield Partials(first_pass=StreamingPass(parts["acoustic"], parts["decoder"], parts["kernel"]))


class RegrowOptions(BaseModel):
    """Options of `partials/growing`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    step_ms: int = Field(default=600, ge=100, le=10_000)
    growth: float = Field(default=0.3, ge=0.05, le=4.0)


class GrowingPartials(Variant):
    """`partials/growing`."""

    id = "partials/growing"
    summary = "a whole-utterance pipeline over the growing segment, again when it grew by a third"
    options = RegrowOptions

    @classmethod
    @contextmanager
    def _open_impl(cls, context: Context, options: Any) -> Iterator[Partials]:
        regrow = Regrow(options.step_ms * SAMPLE_RATE // 1000, options.growth)
        first = context.parts["first"]
        if first.config is None:
            yield Partials(regrow=regrow)
            return
        with first.pipeline() as pipeline:
            pipeline.warm_up()
            yield Partials(regrow=regrow, pipeline=pipeline)


class NoPartials(Variant):
    """`partials/off`."""

    id = "partials/off"
    summary = "finals only"

    @classmethod
    @contextmanager
    def _open_impl(cls, context: Context, options: NoOptions) -> Iterator[Partials]:
        yield Partials()


class NullPartials(Variant):
    """`partials/null`."""

    id = "partials/null"
    summary = "says how much it heard, every 100 ms: what is left is the server's own cost"

    @classmethod
    @contextmanager
    def _open_impl(cls, context: Context, options: NoOptions) -> Iterator[Partials]:
        yield Partials(first_pass=NullPass())
