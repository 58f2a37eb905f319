"""The greedy CTC pass over frames in explicit vectors."""

from __future__ import annotations

from typing import Any

import numpy as np

from kernels import simd, simd_math, simd_rows


@simd.inlined
def collapse(
    log_probs: Any, count: int, labels: int, blank: int,
    carry: Any, tokens: Any, confidences: Any, frames: Any, lanes: int,
) -> Any:  # fmt: skip
    """See `kernels.ctc_greedy`; the outputs have room for `count` frames. Returns how many tokens were found."""
    simd.target(lanes)
    previous = carry[0]
    found = 0
    running = False
    for t in range(count):
        label, best = simd_rows.first_largest(log_probs, t * labels, labels, lanes)
        if label != previous:
            running = label != blank
            if running:
                tokens[found] = label
                confidences[found] = best
                frames[found, 0] = t
                frames[found, 1] = t
                found += 1
        elif running:
            frames[found - 1, 1] = t
            if best > confidences[found - 1] or best != best:
                confidences[found - 1] = best
        previous = label
    carry[0] = previous
    i = 0
    while i < found:
        some = min(lanes, found - i)
        logs = simd.load_part(confidences, i, some, simd.splat(np.float32(0), lanes))
        simd.store_part(confidences, i, some, simd_math.exp(logs, lanes))
        i += lanes
    return found
