"""`decoder/greedy`: the best label of each frame of a CTC model, repeats collapsed, blanks dropped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from pipelines.contracts import AcousticModel, Float32, Hypotheses, Hypothesis, Kernels, LogProbs
from pipelines.decode.words import timed_words
from pipelines.registry import Context, Variant


class CtcGreedyDecoder:
    """Decodes each clip by one call of the fused kernel."""

    def __init__(self, model: AcousticModel, kernels: Kernels) -> None:
        self._model, self._kernels = model, kernels

    def decode(self, log_probs: LogProbs) -> list[Hypotheses]:
        """See `pipelines.contracts.Decoder`; a hypothesis' score is the log-probability of the best path."""
        return [(self._best(log_probs.values[row, :count]),) for row, count in enumerate(log_probs.lengths)]

    def _best(self, values: Float32) -> Hypothesis:
        vocabulary, count = self._model.vocabulary, len(values)
        tokens, frames = np.empty(count, np.int64), np.empty((count, 2), np.int64)
        confidences = np.empty(count, np.float32)
        carry = np.array([vocabulary.blank])
        found = self._kernels.ctc_greedy(values, vocabulary.blank, carry, tokens, confidences, frames)
        ids = tokens[:found].tolist()
        words = timed_words(
            vocabulary, ids, frames[:found].tolist(), confidences[:found].tolist(), self._model.frame_shift_s
        )
        score = float(values.max(axis=1).sum()) if count else 0.0
        return Hypothesis(vocabulary.text(ids), tuple(ids), score, words)


class CtcGreedy(Variant):
    """`decoder/greedy`."""

    id = "decoder/greedy"
    summary = "the best label of each frame, collapsed by one fused kernel call"
    families = ("ctc",)

    @classmethod
    @contextmanager
    def _open_impl(cls, context: Context, options: Any) -> Iterator[CtcGreedyDecoder]:
        yield CtcGreedyDecoder(context.parts["acoustic"], context.kernels)
