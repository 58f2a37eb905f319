"""How probable it is under CTC that a clip has said a known text up to each of its frames.

A search that goes on behind a text begins with that.

Import this module only where a search is opened: it needs numba.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from kernels.compile import Loop, compile_loop
from kernels.ctc_prefix_beam import log_add


@cache
def extend() -> Loop:
    """Compile one more label at the end of the known text. Its arguments, in order.

    log_probs: float32 (T, V).
    blank: The id of the blank.
    last: The label at the end of the text so far, -1 for none.
    label: The label that follows.
    before: float64 (T + 1, 2): for each number of frames the log-probability, summed over all alignments, that just the
        text was said, with and without a blank at the end.
    after: float64 (T + 1, 2), out: the same for the text with `label` behind it.

    Returns:
        T, or -1: the arrays do not fit together.
    """

    @compile_loop("int64(float32[:, ::1], int64, int64, int64, float64[:, ::1], float64[:, ::1])")
    def loop(log_probs, blank, last, label, before, after):  # type: ignore[no-untyped-def]
        frames = log_probs.shape[0]
        if before.shape[0] != frames + 1 or after.shape[0] != frames + 1:
            return -1
        after[0, 0] = after[0, 1] = -np.inf
        for t in range(frames):
            begins = before[t, 0] if last == label else log_add(before[t, 0], before[t, 1])
            after[t + 1, 1] = log_add(begins, after[t, 1]) + log_probs[t, label]
            after[t + 1, 0] = log_add(after[t, 0], after[t, 1]) + log_probs[t, blank]
        return frames

    return loop
