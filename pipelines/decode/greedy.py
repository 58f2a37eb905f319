"""`decoder/greedy`: the best label of each frame of a CTC model, repeats collapsed, blanks dropped."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from kernels.stream_calls import GreedyReader
from pipelines.contracts import AcousticModel, Float32, Hypotheses, Hypothesis, Kernels, Partial
from pipelines.decode.ctc import CtcDecoder, Search
from pipelines.decode.words import timed_words
from pipelines.registry import Context, Variant


class CtcGreedyDecoder(CtcDecoder):
    """Decodes each chunk by one call of the fused kernel. A score is the log-probability of the best path.

    Chunks are not looked through for NaN and infinities before: the score, which the kernel sums up, shows them.
    """

    def __init__(self, model: AcousticModel, kernels: Kernels) -> None:
        super().__init__(model)
        self.kernels = kernels

    def _open_search(self) -> Search:
        return _GreedySearch(self)

    def _checked_chunk(self, log_probs: Float32, first: int) -> Float32:
        self._check_shape(log_probs, "a chunk")
        return np.ascontiguousarray(log_probs)


class _GreedySearch:
    def __init__(self, decoder: CtcGreedyDecoder) -> None:
        self._decoder = decoder
        self._tokens: list[int] = []
        self._frames: list[list[int]] = []
        self._confidences: list[float] = []
        self._last = decoder.vocabulary.blank
        self._taken = 0
        self._reader: GreedyReader | None = None
        self._score = 0.0
        self._said = Partial("", 0)

    def push(self, log_probs: Float32) -> None:
        count, reader = len(log_probs), self._reader
        if reader is None or count > len(reader.tokens):
            reader = self._reader = self._decoder.kernels.greedy_reader(self._decoder.vocabulary.blank, count)
        found = self._read(reader, log_probs)
        if not math.isfinite(reader.score[0]):
            found = self._read(reader, self._decoder._checked(log_probs, f"the chunk from frame {self._taken} on"))
        if found:
            self._add(reader, found)
        self._score = float(reader.score[0])
        self._last = int(reader.carry[0])
        self._taken += count

    def _read(self, reader: GreedyReader, log_probs: Float32) -> int:
        reader.carry[0] = self._decoder.vocabulary.blank  # so that a token that runs on shows how long it does
        reader.score[0] = self._score
        return reader.read(log_probs)

    def _add(self, reader: GreedyReader, found: int) -> None:
        new_tokens, new_confidences = reader.tokens[:found].tolist(), reader.confidences[:found].tolist()
        new_frames = [[self._taken + first, self._taken + last] for first, last in reader.frames[:found].tolist()]
        if new_tokens[0] == self._last and new_frames[0][0] == self._taken:
            # It runs on over the edge of the chunks: one token, as if there were no edge.
            self._frames[-1][1] = new_frames[0][1]
            self._confidences[-1] = max(self._confidences[-1], new_confidences[0])
            del new_tokens[0], new_frames[0], new_confidences[0]
        self._tokens += new_tokens
        self._frames += new_frames
        self._confidences += new_confidences
        if new_tokens:
            text = self._decoder.vocabulary.text(self._tokens)
            self._said = Partial(text, len(text))  # a label once given is never taken back

    def partial(self) -> Partial:
        return self._said

    def finish(self) -> Hypotheses:
        vocabulary = self._decoder.vocabulary
        words = timed_words(vocabulary, self._tokens, self._frames, self._confidences, self._decoder.frame_shift_s)
        return (Hypothesis(vocabulary.text(self._tokens), tuple(self._tokens), self._score, words),)


class CtcGreedy(Variant):
    """`decoder/greedy`."""

    id = "decoder/greedy"
    summary = "the best label of each frame, collapsed by one fused kernel call"
    families = ("ctc",)

    @classmethod
    @contextmanager
    def _open_impl(cls, context: Context, options: Any) -> Iterator[CtcGreedyDecoder]:
        yield CtcGreedyDecoder(context.parts["acoustic"], context.kernels)
