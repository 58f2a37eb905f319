"""When the words of a text were said, for searches that keep no times."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipelines.contracts import CtcVocabulary, Float32, Word
from pipelines.decode.words import timed_words


class Aligner:
    """Aligns tokens to log-probabilities by Viterbi; opening one compiles the kernel or takes it from the cache."""

    def __init__(self, vocabulary: CtcVocabulary, frame_shift_s: float) -> None:
        from kernels import ctc_align

        self._vocabulary, self._frame_shift_s = vocabulary, frame_shift_s
        self._align = ctc_align.align().call

    def words(self, log_probs: Float32, tokens: Sequence[int]) -> tuple[Word, ...]:
        """The words of a token sequence with times and confidences; none where the tokens do not fit in the frames.

        Args:
            log_probs: float32 (frames, vocabulary), contiguous.
            tokens: Token ids without blanks.
        """
        count = len(tokens)
        frames, confidences = np.empty((count, 2), np.int64), np.empty(count, np.float32)
        ids = np.array(tokens, np.int64)
        if self._align(log_probs, self._vocabulary.blank, ids, frames, confidences) < 0:
            return ()
        return timed_words(self._vocabulary, tokens, frames.tolist(), confidences.tolist(), self._frame_shift_s)
