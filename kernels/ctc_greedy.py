"""The greedy CTC pass in one call: best label of each frame, repeats collapsed, blanks dropped.

Each takes
    log_probs: float32 (T, V), V > 0
    blank: the id of the blank, in [0, V)
    carry: int64 (1,), in and out: the label of the frame before the first one (the blank at the start of a stream),
        so that a token which runs on over the edge of two chunks is given once, by the first of them
    tokens, confidences, frames: int64 (>= T,), float32 (>= T,), int64 (>= T, 2): what is found
and returns how many tokens it found; the places behind them, up to T, may be written as well. A token's confidence is
the probability of its best frame, exp(max log_prob); its frames are the first and the last in which it is the best
label, both inclusive. Ties and NaN as in `kernels.argmax`: the first of equals, a NaN before all others (with
confidence NaN).

Confidence by the best frame needs one exp for each token; the mean over frames would need one for each frame.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from kernels.compile import Loop, compile_loop

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]

SIGNATURE = "int64(float32[:, ::1], int64, int64[::1], int64[::1], float32[::1], int64[:, ::1])"


def refuse(log_probs: Float32, blank: int, carry: Int64, tokens: Int64, confidences: Float32, frames: Int64) -> None:
    """Say what is wrong with arrays that a kernel did not take.

    Raises:
        ValueError: Wrong dtype, shape or layout, a blank that is no label, outputs too small or read-only.
    """
    if log_probs.dtype != np.float32 or log_probs.ndim != 2 or not log_probs.flags.c_contiguous:
        raise ValueError(
            f"log_probs must be contiguous native float32 (frames, labels), got {log_probs.dtype.str} {log_probs.shape}"
        )
    if not 0 <= blank < log_probs.shape[1]:
        raise ValueError(f"blank must be one of the {log_probs.shape[1]} labels, got {blank}")
    count = log_probs.shape[0]
    for name, array, dtype, tail, least in (
        ("carry", carry, np.int64, (), 1),
        ("tokens", tokens, np.int64, (), count),
        ("confidences", confidences, np.float32, (), count),
        ("frames", frames, np.int64, (2,), count),
    ):
        good = array.dtype == dtype and array.flags.c_contiguous and array.flags.writeable
        if not good or array.ndim != 1 + len(tail) or array.shape[1:] != tail or array.shape[0] < least:
            raise ValueError(
                f"{name} must be contiguous writable native {np.dtype(dtype).name} with at least {least} rows "
                f"of {tail or 'one'}, got {array.dtype.str} {array.shape}"
            )


def collapse(
    labels: Int64, best: Float32, blank: int, carry: Int64, tokens: Int64, confidences: Float32, frames: Int64
) -> int:
    """What follows the argmax, in array operations: `labels` and `best` are (T,) with T > 0, the rest as above."""
    starts = np.flatnonzero(np.diff(labels, prepend=-1))
    ends = np.append(starts[1:], labels.size) - 1
    highest = np.maximum.reduceat(best, starts)
    kept = labels[starts] != blank
    kept[0] &= labels[0] != carry[0]
    count = int(np.count_nonzero(kept))
    tokens[:count] = labels[starts[kept]]
    np.exp(highest[kept], out=confidences[:count])
    frames[:count, 0] = starts[kept]
    frames[:count, 1] = ends[kept]
    carry[0] = labels[-1]
    return count


def numpy_kernel() -> Loop:
    """A handful of array operations: no loop in Python."""

    def decode(log_probs: Float32, blank: int, carry: Int64, tokens: Int64, confidences: Float32, frames: Int64) -> int:
        refuse(log_probs, blank, carry, tokens, confidences, frames)
        if not log_probs.shape[0]:
            return 0
        labels = log_probs.argmax(axis=1)
        best = np.take_along_axis(log_probs, labels[:, None], axis=1)[:, 0]
        return collapse(labels, best, blank, carry, tokens, confidences, frames)

    return Loop(decode)


def scalar_kernel() -> Loop:
    """One element at a time."""
    from kernels import simd

    @compile_loop(SIGNATURE)
    def loop(log_probs, blank, carry, tokens, confidences, frames):  # type: ignore[no-untyped-def]
        count, labels = log_probs.shape
        if blank < 0 or blank >= labels or carry.size < 1 or frames.shape[1] != 2:
            return -1
        if tokens.size < count or confidences.size < count or frames.shape[0] < count:
            return -1
        if not (simd.usable(log_probs, False) and simd.usable(carry, True) and simd.usable(tokens, True)):
            return -1
        if not (simd.usable(confidences, True) and simd.usable(frames, True)):
            return -1
        previous = carry[0]
        found = 0
        running = False
        for t in range(count):
            best = log_probs[t, 0]
            label = 0
            for i in range(labels):
                value = log_probs[t, i]
                if value > best:
                    best = value
                    label = i
                elif value != value:
                    best = value
                    label = i
                    break
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
        for i in range(found):
            confidences[i] = np.exp(confidences[i])
        carry[0] = previous
        return found

    return loop


def vector_kernel(lanes: int) -> Loop:
    """Each frame's maximum and where it is, in vectors; the bookkeeping hides behind the loads of the next frame."""
    from kernels import simd, simd_ctc

    @compile_loop(SIGNATURE)
    def loop(log_probs, blank, carry, tokens, confidences, frames):  # type: ignore[no-untyped-def]
        simd.target(lanes)
        count, labels = log_probs.shape
        if blank < 0 or blank >= labels or carry.size < 1 or frames.shape[1] != 2:
            return -1
        if tokens.size < count or confidences.size < count or frames.shape[0] < count:
            return -1
        if not (simd.usable(log_probs, False) and simd.usable(carry, True) and simd.usable(tokens, True)):
            return -1
        if not (simd.usable(confidences, True) and simd.usable(frames, True)):
            return -1
        return simd_ctc.collapse(log_probs, count, labels, blank, carry, tokens, confidences, frames, None, lanes)

    return loop


def cupy_kernel() -> Loop:
    """The device finds each frame's best label; collapsing them, a few numbers for each frame, stays on the host."""
    from kernels import argmax

    find = argmax.on_device()

    def decode(log_probs: Float32, blank: int, carry: Int64, tokens: Int64, confidences: Float32, frames: Int64) -> int:
        refuse(log_probs, blank, carry, tokens, confidences, frames)
        if not log_probs.shape[0]:
            return 0
        labels, best = find(log_probs)
        return collapse(labels, best, blank, carry, tokens, confidences, frames)

    return Loop(decode)
