"""Decoders of both families, and what joins them to a model: a recogniser."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from pipelines.contracts.data import AudioBatch, Encoded, Float32, Hypotheses, LogProbs, Partial
from pipelines.contracts.trace import Trace


class AedDecoder(Protocol):
    """Turns an encoded clip into text with the model's own decoder (the `decoder` axis, AED family)."""

    def decode(self, encoded: Encoded) -> tuple[Hypotheses, int]:
        """The n-best readings of one clip and the number of sequential decoder passes."""
        ...


@runtime_checkable
class DraftingDecoder(Protocol):
    """An `AedDecoder` that hears the clip itself first and writes a draft, which it then checks with the model."""

    def draft(self, batch: AudioBatch) -> Hypotheses:
        """What another, quicker recogniser makes of the clip, best first."""
        ...

    def check(self, encoded: Encoded, draft: Hypotheses) -> tuple[Hypotheses, int]:
        """The n-best readings of one clip and the number of sequential decoder passes, with the help of a draft."""
        ...


class DecoderStream(Protocol):
    """Decodes one stream chunk by chunk."""

    def push(self, log_probs: Float32) -> Partial:
        """Take the log-probabilities of the next frames, float32 (frames, vocabulary)."""
        ...

    def finish(self) -> Hypotheses:
        """The n-best readings of everything that was pushed: the same as `Decoder.decode` of all of it at once."""
        ...


class Decoder(Protocol):
    """Turns log-probabilities into text (the `decoder` axis, CTC family)."""

    def decode(self, log_probs: LogProbs) -> list[Hypotheses]:
        """The n-best readings of every clip of the batch."""
        ...

    def stream(self) -> DecoderStream:
        """A decoder for one stream."""
        ...


@runtime_checkable
class ExpectingDecoder(Protocol):
    """A `Decoder` that can be told what is going to be read."""

    def expecting(self, text: str) -> Decoder:
        """A decoder for readings of `text`."""
        ...


@runtime_checkable
class BiasedDecoder(Protocol):
    """A `Decoder` that can be told which words to prefer."""

    def preferring(self, words: Sequence[str]) -> Decoder:
        """A decoder that hears `words` more readily.

        Raises:
            AmiraError: It knows some of them not at all.
        """
        ...


class Recognizer(Protocol):
    """Audio in, text out: what a pipeline runs, whatever family it is of."""

    def warm_up(self) -> None:
        """Pay every first-time cost now: lazy allocation, compilation, page faults."""
        ...

    def recognize(self, pcm: bytes | memoryview, trace: Trace) -> tuple[Hypotheses, int]:
        """Recognise one clip of PCM16 little-endian mono at 16 kHz; returns n-best and decoder passes."""
        ...
