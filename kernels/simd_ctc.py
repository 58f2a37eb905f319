"""The greedy CTC pass over frames in explicit vectors."""

from __future__ import annotations

from typing import Any

import numpy as np

from kernels import simd, simd_argmax, simd_math


@simd.inlined
def collapse(
    log_probs: Any, count: int, labels: int, blank: int,
    carry: Any, tokens: Any, confidences: Any, frames: Any, score: Any, lanes: int,
) -> Any:  # fmt: skip
    """See `kernels.ctc_greedy`; the outputs have room for `count` frames. Returns how many tokens were found.

    `score`, float64 (1,) or `None`: every frame's largest is added to it, one after the other.

    Without a branch on the labels, which no processor can foretell: each frame writes the run that it belongs to where
    the next token goes, and the place moves on when a run of a token ends. By branches: 1.2 times the time.
    """
    simd.target(lanes)
    run = (carry[0], 0, 0, np.float32(0), 0)
    total = np.float64(0) if score is None else score[0]
    t = 0
    while t < count:
        base = t * labels
        if t + 4 <= count and labels >= lanes:
            best, starts, alarm = simd_argmax.four_rows(log_probs, base, labels, lanes)
            if not alarm:
                first = simd_argmax.label_of(log_probs, base, labels, best, starts, 0, lanes)
                second = simd_argmax.label_of(log_probs, base, labels, best, starts, 1, lanes)
                third = simd_argmax.label_of(log_probs, base, labels, best, starts, 2, lanes)
                fourth = simd_argmax.label_of(log_probs, base, labels, best, starts, 3, lanes)
                if score is not None:
                    total = total + first[1] + second[1] + third[1] + fourth[1]
                run = _longer(run, first, t, False, blank, tokens, confidences, frames)
                run = _longer(run, second, t + 1, False, blank, tokens, confidences, frames)
                run = _longer(run, third, t + 2, False, blank, tokens, confidences, frames)
                run = _longer(run, fourth, t + 3, False, blank, tokens, confidences, frames)
                t += 4
                continue
        only = simd_argmax.first_largest(log_probs, base, labels, lanes)
        if score is not None:
            total = total + only[1]
        run = _longer(run, only, t, only[1] != only[1], blank, tokens, confidences, frames)
        t += 1
    carry[0] = run[0]
    if score is not None:
        score[0] = total
    found = run[1] + run[4]
    i = 0
    while i < found:
        some = min(lanes, found - i)
        logs = simd.load_part(confidences, i, some, simd.splat(np.float32(0), lanes))
        simd.store_part(confidences, i, some, simd_math.exp(logs, lanes))
        i += lanes
    return found


@simd.inlined
def _longer(
    run: Any, found: Any, t: int, broken: bool, blank: int, tokens: Any, confidences: Any, frames: Any
) -> Any:  # fmt: skip
    """The run after frame `t`: its label, its place, its first frame, its best value, and 1 if it is a token's.

    `broken` says whether the frame's value is a NaN, which no comparison finds the larger.
    """
    previous, place, start, high, counts = run
    label, best = found
    changed = label != previous
    place += counts if changed else 0
    start = t if changed else start
    high = best if changed | (best > high) | broken else high
    counts = (1 if label != blank else 0) if changed else counts
    simd.put(tokens, place, label)
    simd.put(confidences, place, high)
    simd.put(frames, 2 * place, start)
    simd.put(frames, 2 * place + 1, t)
    return label, place, start, high, counts
