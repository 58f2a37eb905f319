"""What every CTC decoder has in common: inputs are checked once, whole clips and streams go the same way."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Protocol

import numpy as np

from pipelines.contracts import (
    AcousticModel,
    DecoderStream,
    Float32,
    Hypotheses,
    Hypothesis,
    LogProbs,
    Partial,
    StreamingAcousticModel,
)
from pipelines.errors import AmiraError

IMPOSSIBLE = np.float32(-1e4)
"""What a log-probability of minus infinity counts as."""
NOTHING: Hypotheses = (Hypothesis("", (), 0.0),)
"""What a clip without frames says."""


class Search(Protocol):
    """Decodes one stream; its inputs are checked already."""

    def push(self, log_probs: Float32) -> None:
        """Take the next frames, float32 (frames, vocabulary), at least one; the array is the caller's."""
        ...

    def partial(self) -> Partial:
        """What is understood so far."""
        ...

    def finish(self) -> Hypotheses:
        """The n-best readings of everything."""
        ...


class CtcDecoder(ABC):
    """Base class of decoders of log-probabilities (see `pipelines.contracts.Decoder`).

    Args:
        model: Whose log-probabilities they are; its vocabulary and frame shift are used.
    """

    incremental: ClassVar[bool] = True
    """Whether a stream knows anything before its end."""

    def __init__(self, model: AcousticModel | StreamingAcousticModel) -> None:
        self.vocabulary = model.vocabulary
        self.frame_shift_s = model.frame_shift_s

    def decode(self, log_probs: LogProbs) -> list[Hypotheses]:
        """The n-best readings of every clip of the batch.

        Raises:
            ValueError: The array has the wrong type or shape, or a clip is longer than the batch.
            AmiraError: It does not fit the vocabulary, or holds NaN.
        """
        values, lengths = log_probs.values, log_probs.lengths
        if values.ndim != 3 or len(lengths) != len(values):
            raise ValueError(
                f"log-probabilities must be (batch, frames, vocabulary) with a length for each clip, "
                f"got {values.shape} and {len(lengths)} lengths"
            )
        results: list[Hypotheses] = []
        for row, length in enumerate(lengths):
            if not 0 <= length <= values.shape[1]:
                raise ValueError(f"clip {row} has {length} frames, the batch has {values.shape[1]}")
            frames = self._checked(values[row, :length], f"clip {row}")
            results.append(self._decode_impl(frames) if length else NOTHING)
        return results

    def stream(self) -> DecoderStream:
        """A decoder for one stream."""
        return _Stream(self, self._open_search())

    def _decode_impl(self, log_probs: Float32) -> Hypotheses:
        """Decode one clip of at least one frame. The default pushes it as one chunk."""
        search = self._open_search()
        search.push(log_probs)
        return search.finish()

    @abstractmethod
    def _open_search(self) -> Search:
        """Start decoding a stream."""

    def _checked_chunk(self, log_probs: Float32, first: int) -> Float32:
        """The chunk of a stream from frame `first` on; a search that notices NaN and infinities leaves them to it."""
        return self._checked(log_probs, f"the chunk from frame {first} on")

    def _checked(self, log_probs: Float32, where: str) -> Float32:
        self._check_shape(log_probs, where)
        # One pass without an array of flags: a NaN or an infinity anywhere makes the sum one.
        if not np.isfinite(log_probs.sum()):
            wrong = np.isnan(log_probs) | (log_probs == np.inf)
            if wrong.any():
                frame, label = np.argwhere(wrong)[0]
                raise AmiraError(
                    f"the log-probabilities of {where} hold {log_probs[frame, label]}, first at frame {frame}, label "
                    f"{label}: the acoustic model is broken or overflows. Try its fp32 form, and look at the clip"
                )
            # Impossible labels stay so, but a search must not lose its last path over one.
            log_probs = np.maximum(log_probs, IMPOSSIBLE)
        return np.ascontiguousarray(log_probs)

    def _check_shape(self, log_probs: Float32, where: str) -> None:
        if log_probs.dtype != np.float32 or log_probs.ndim != 2:
            raise ValueError(
                f"log-probabilities must be float32 (frames, vocabulary), got {log_probs.dtype} {log_probs.shape}"
            )
        if log_probs.shape[1] != len(self.vocabulary):
            raise AmiraError(
                f"the log-probabilities of {where} are over {log_probs.shape[1]} labels, the vocabulary has "
                f"{len(self.vocabulary)}: the model and its tokens.txt do not belong together"
            )


class _Stream:
    """A stream behind the checks (see `pipelines.contracts.DecoderStream`)."""

    def __init__(self, decoder: CtcDecoder, search: Search) -> None:
        self._decoder = decoder
        self._search: Search | None = search
        self._frames = 0

    def push(self, log_probs: Float32) -> Partial:
        """Take the next frames; no frames at all are fine.

        Raises:
            ValueError: Wrong type or shape, or the stream was finished.
            AmiraError: They do not fit the vocabulary, or hold NaN.
        """
        search = self._open()
        checked = self._decoder._checked_chunk(log_probs, self._frames)
        if len(checked):
            search.push(checked)
            self._frames += len(checked)
        return search.partial() if self._frames else Partial("", 0)

    def finish(self) -> Hypotheses:
        """The n-best readings of everything that was pushed; the stream is of no use afterwards."""
        search = self._open()
        self._search = None
        return search.finish() if self._frames else NOTHING

    def _open(self) -> Search:
        if self._search is None:
            raise ValueError("this stream was finished: open another one for more audio")
        return self._search


class Frames:
    """Keeps the frames of a stream until its end, for the times and confidences of what they said."""

    def __init__(self) -> None:
        self._chunks: list[Float32] = []

    def __bool__(self) -> bool:
        return bool(self._chunks)

    def add(self, log_probs: Float32) -> None:
        """Keep a copy of a chunk."""
        self._chunks.append(log_probs.copy())

    def all(self) -> Float32:
        """Everything, float32 (frames, vocabulary)."""
        if len(self._chunks) > 1:
            self._chunks = [np.concatenate(self._chunks)]
        return self._chunks[0]
