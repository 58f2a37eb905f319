"""What kernels do with one row or run of elements, in explicit vectors; each writes no memory but its own."""

from __future__ import annotations

from typing import Any

import numpy as np

from kernels import simd


@simd.inlined
def first_equal(x: Any, start: int, end: int, wanted: float, lanes: int) -> Any:
    """Flat index of the first element from `start` on that equals `wanted`; there is one before `end`."""
    simd.target(lanes)
    i = start
    pattern = simd.splat(wanted, lanes)
    while i + 4 * lanes <= end:
        m0 = simd.equal(simd.load(x, i, lanes), pattern)
        m1 = simd.equal(simd.load(x, i + lanes, lanes), pattern)
        m2 = simd.equal(simd.load(x, i + 2 * lanes, lanes), pattern)
        m3 = simd.equal(simd.load(x, i + 3 * lanes, lanes), pattern)
        found = simd.bits(m0) | simd.bits(m1) << lanes | simd.bits(m2) << 2 * lanes | simd.bits(m3) << 3 * lanes
        if found != 0:
            return i + simd.lowest_bit(found)
        i += 4 * lanes
    while i + lanes <= end:
        found = simd.bits(simd.equal(simd.load(x, i, lanes), pattern))
        if found != 0:
            return i + simd.lowest_bit(found)
        i += lanes
    while i < end and simd.at(x, i) != wanted:
        i += 1
    return i


@simd.inlined
def block_max(x: Any, start: int, end: int, lanes: int) -> Any:
    """The largest of the elements from `start` to `end`, and whether there is a NaN among them (then it means nothing).

    Four chains of maxima, since one would wait for itself; one NaN test for each pair of vectors.
    """
    simd.target(lanes)
    i = start
    a = b = c = d = simd.splat(np.float32(-np.inf), lanes)
    nan = simd.any_nan(a, a)
    while i + 4 * lanes <= end:
        v0 = simd.load(x, i, lanes)
        v1 = simd.load(x, i + lanes, lanes)
        v2 = simd.load(x, i + 2 * lanes, lanes)
        v3 = simd.load(x, i + 3 * lanes, lanes)
        nan = simd.bit_or(nan, simd.bit_or(simd.any_nan(v0, v1), simd.any_nan(v2, v3)))
        a, b, c, d = simd.larger(v0, a), simd.larger(v1, b), simd.larger(v2, c), simd.larger(v3, d)
        i += 4 * lanes
    while i + lanes <= end:
        v0 = simd.load(x, i, lanes)
        nan = simd.bit_or(nan, simd.any_nan(v0, v0))
        a = simd.larger(v0, a)
        i += lanes
    best = simd.largest(simd.larger(simd.larger(a, b), simd.larger(c, d)))
    bad = simd.bits(nan) != 0
    while i < end:
        value = simd.at(x, i)
        if value > best:
            best = value
        bad = bad | (value != value)
        i += 1
    return best, bad


@simd.inlined
def insert(values: Any, indices: Any, base: int, free: int, value: float, index: int) -> None:
    """Put an element into a falling row of which the places before `free` are taken; equals stay before it."""
    j = base + free
    while j > base:
        before = simd.at(values, j - 1)
        if not (value > before or (value != value and before == before)):
            break
        simd.put(values, j, before)
        simd.put(indices, j, simd.at(indices, j - 1))
        j -= 1
    simd.put(values, j, value)
    simd.put(indices, j, index)


@simd.inlined
def pcm_run(data: Any, first: int, out: Any, start: int, count: int, lanes: int) -> None:
    """Convert `count` PCM16 samples from sample `first` of `data` on to `out` from `start` on.

    What is left over is done by one vector that overlaps its neighbour.
    """
    simd.target(lanes)
    if count < lanes:
        for i in range(count):
            simd.put(out, start + i, np.float32(simd.int16_at(data, first + i)) * np.float32(1 / 32768))
        return
    factor = simd.splat(np.float32(1 / 32768), lanes)
    i = 0
    while i + lanes <= count:
        samples = simd.to_float(simd.to_int32(simd.load_int16(data, first + i, lanes)))
        simd.store(out, start + i, simd.mul(samples, factor))
        i += lanes
    if i < count:
        i = count - lanes
        samples = simd.to_float(simd.to_int32(simd.load_int16(data, first + i, lanes)))
        simd.store(out, start + i, simd.mul(samples, factor))


@simd.inlined
def ring_run(data: Any, ring: Any, position: int, count: int, lanes: int) -> Any:
    """Convert `count` PCM16 samples into the ring from `position` on; returns the position behind them."""
    simd.target(lanes)
    before = min(count, ring.size - position)
    pcm_run(data, 0, ring, position, before, lanes)
    pcm_run(data, before, ring, 0, count - before, lanes)
    after = position + count
    return after - ring.size if after >= ring.size else after


@simd.inlined
def mulaw(codes: Any, lanes: int) -> Any:
    """mu-law codes (uint8 lanes) as int32 lanes of 16-bit samples."""
    simd.target(lanes)
    code = simd.bit_xor(simd.to_int32(codes), simd.splat(0xFF, lanes))
    segment = simd.bit_and(simd.shr(code, simd.splat(4, lanes)), simd.splat(7, lanes))
    step = simd.shl(simd.bit_and(code, simd.splat(15, lanes)), simd.splat(3, lanes))
    bias = simd.splat(0x84, lanes)
    size = simd.sub(simd.shl(simd.add(step, bias), segment), bias)
    zero = simd.splat(0, lanes)
    positive = simd.equal(simd.bit_and(code, simd.splat(0x80, lanes)), zero)
    return simd.choose(positive, size, simd.sub(zero, size))


@simd.inlined
def alaw(codes: Any, lanes: int) -> Any:
    """A-law codes (uint8 lanes) as int32 lanes of 16-bit samples."""
    simd.target(lanes)
    code = simd.bit_xor(simd.to_int32(codes), simd.splat(0x55, lanes))
    zero = simd.splat(0, lanes)
    segment = simd.bit_and(simd.shr(code, simd.splat(4, lanes)), simd.splat(7, lanes))
    step = simd.shl(simd.bit_and(code, simd.splat(15, lanes)), simd.splat(4, lanes))
    first = simd.equal(segment, zero)
    shift = simd.choose(first, zero, simd.sub(segment, simd.splat(1, lanes)))
    offset = simd.choose(first, simd.splat(8, lanes), simd.splat(0x108, lanes))
    size = simd.shl(simd.add(step, offset), shift)
    negative = simd.equal(simd.bit_and(code, simd.splat(0x80, lanes)), zero)
    return simd.choose(negative, simd.sub(zero, size), size)
