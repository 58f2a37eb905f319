"""How probable it is under CTC that a clip has said a known text up to each of its frames.

A search that goes on behind a text begins with that.

Import this module only where a search is opened: it needs numba.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from kernels.compile import Loop, compile_loop
from kernels.ctc_prefix_beam import log_add

FAR = 30.0
"""How much less probable than the best, in natural log, it may be that the text has ended at a frame before that counts
as impossible: most of a clip is that far from where a text ends."""


@cache
def extend() -> Loop:
    """Compile one more label at the end of the known text. Its arguments, in order.

    log_probs: float32 (T, V).
    blank: The id of the blank.
    last: The label at the end of the text so far, -1 for none.
    label: The label that follows.
    rest: float64 (T + 1,): for each number of frames the log-probability of the best that can follow.
    before: float64 (T + 1, 2): for each number of frames the log-probability, summed over all alignments, that just the
        text was said, with and without a blank at the end.
    after: float64 (T + 1, 2), out: the same for the text with `label` behind it, where that is not `FAR` from the best;
        elsewhere it is left as it was, and has to be -inf.
    window: int64 (2,): numbers of frames between which (both included) `before` is finite; then the same for `after`.

    Returns:
        T, or -1: the arrays do not fit together.
    """

    @compile_loop(
        "int64(float32[:, ::1], int64, int64, int64, float64[::1], float64[:, ::1], float64[:, ::1], int64[::1])"
    )
    def loop(log_probs, blank, last, label, rest, before, after, window):  # type: ignore[no-untyped-def]
        frames = log_probs.shape[0]
        if before.shape[0] != frames + 1 or after.shape[0] != frames + 1 or rest.shape[0] != frames + 1:
            return -1
        low, high = window[0], window[1]
        best, stop = -np.inf, low
        blank_end = label_end = -np.inf
        for t in range(low, frames):
            begins = before[t, 0] if last == label else log_add(before[t, 0], before[t, 1])
            either = log_add(blank_end, label_end)
            label_end = log_add(begins, label_end) + log_probs[t, label]
            blank_end = either + log_probs[t, blank]
            after[t + 1, 0], after[t + 1, 1] = blank_end, label_end
            here = log_add(blank_end, label_end) + rest[t + 1]
            best = max(best, here)
            stop = t + 1
            if t >= high and here < best - FAR:  # from here on it can only fall
                break
        first = low + 1
        while first < stop and log_add(after[first, 0], after[first, 1]) + rest[first] < best - FAR:
            after[first, 0] = after[first, 1] = -np.inf
            first += 1
        window[0], window[1] = first, stop
        return frames

    return loop
