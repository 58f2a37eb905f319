"""The best alignment of known tokens to CTC log-probabilities: when each was said, and how sure the model was.

Import this module only where a decoder is opened: it needs numba.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from kernels.compile import Loop, compile_loop


@cache
def align() -> Loop:
    """Compile the alignment. Its arguments, in order.

    log_probs: float32 (T, V).
    blank: The id of the blank.
    tokens: int64 (L,), without blanks.
    frames: int64 (>= L, 2), out: first and last frame of each token, both inclusive.
    confidences: float32 (>= L,), out: the probability of each token in the best of its frames.

    Returns:
        L, or -1: there are fewer frames than the tokens need, or no alignment has a probability above zero.
    """

    @compile_loop("int64(float32[:, ::1], int64, int64[::1], int64[:, ::1], float32[::1])", allocates=True)
    def loop(log_probs, blank, tokens, frames, confidences):  # type: ignore[no-untyped-def]
        count, length = log_probs.shape[0], tokens.size
        if frames.shape[0] < length or confidences.size < length:
            return -1
        if length == 0:
            return 0
        if count == 0:
            return -1
        states = 2 * length + 1  # blank, token, blank, token, ..., blank
        score = np.full(states, -np.inf)
        back = np.zeros((count, states), np.uint8)  # how many states behind the one before was
        score[0] = log_probs[0, blank]
        score[1] = log_probs[0, tokens[0]]
        for t in range(1, count):
            first = max(0, states - 2 * (count - t))
            last = min(states, 2 * (t + 1))
            for s in range(last - 1, first - 1, -1):  # from the right: what is read is still the frame before
                best, step = score[s], 0
                if s >= 1 and score[s - 1] > best:
                    best, step = score[s - 1], 1
                skips = s % 2 == 1 and s >= 3 and tokens[s // 2] != tokens[s // 2 - 1]
                if skips and score[s - 2] > best:
                    best, step = score[s - 2], 2
                label = tokens[s // 2] if s % 2 == 1 else blank
                score[s] = best + log_probs[t, label]
                back[t, s] = step
            for s in range(first):
                score[s] = -np.inf
        s = states - 1 if score[states - 1] >= score[states - 2] else states - 2
        if score[s] == -np.inf:
            return -1
        for i in range(length):
            frames[i, 0] = -1
            confidences[i] = -np.inf
        for t in range(count - 1, -1, -1):
            if s % 2 == 1:
                i = s // 2
                if frames[i, 0] < 0:
                    frames[i, 1] = t
                frames[i, 0] = t
                confidences[i] = max(confidences[i], log_probs[t, tokens[i]])
            s -= back[t, s]
        for i in range(length):
            confidences[i] = np.exp(confidences[i])
        return length

    return loop
