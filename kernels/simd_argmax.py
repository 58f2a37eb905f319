"""The largest element of rows and where it is, in explicit vectors; nothing is written.

Each lane remembers its largest element and the group of four vectors that it came from; only the winner's group is
looked at again. Rows are read one behind the other, as memory likes it, but four of them are brought to an end
together: the chain from a row's lanes to its label is longer than the row, and the processor looks ahead only so far.
A row of fewer than four vectors is one group whose vectors overlap.

A NaN makes the sum of products NaN (so do infinities of both signs, which are then told apart): one operation for two
vectors, where comparisons take mask registers.

Tried and slower: every row by itself; four rows side by side, group by group; two groups for each turn of the loop with
sixteen lanes (with eight they gain: four chains of sums instead of two); groups of eight vectors (with eight lanes
faster for one row, slower for many); asking for the rows ahead; NaN by comparisons; the maximum and then a search for
it; with eight lanes, a mask's bits by one instruction a vector.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kernels import simd, simd_rows


@simd.inlined
def all_rows(x: Any, rows: int, n: int, out: Any, lanes: int) -> None:
    """As `first_largest`, for each of `rows` rows: its index to `out`."""
    simd.target(lanes)
    row = 0
    while row < rows:
        if row + 4 <= rows and n >= lanes:
            best, starts, alarm = four_rows(x, row * n, n, lanes)
            if not alarm:
                simd.put(out, row, label_of(x, row * n, n, best, starts, 0, lanes)[0])
                simd.put(out, row + 1, label_of(x, row * n, n, best, starts, 1, lanes)[0])
                simd.put(out, row + 2, label_of(x, row * n, n, best, starts, 2, lanes)[0])
                simd.put(out, row + 3, label_of(x, row * n, n, best, starts, 3, lanes)[0])
                row += 4
                continue
        simd.put(out, row, first_largest(x, row * n, n, lanes)[0])
        row += 1


@simd.inlined
def first_largest(x: Any, base: int, n: int, lanes: int) -> Any:
    """Index in the row of its largest element and its value: the first of equals, the first NaN before all others.

    The row is `n` > 0 elements of `x` from flat index `base` on.
    """
    simd.target(lanes)
    if n < lanes:
        best, bad = simd_rows.block_max(x, base, base + n, lanes)
        if bad:
            return first_nan(x, base, n, lanes), np.float32(np.nan)
        return simd_rows.first_equal(x, base, base + n, best, lanes) - base, best
    if n < 4 * lanes:
        high, sums = _narrow(x, base, n, lanes)
        best = simd.largest(high)
        if simd.bits(simd.any_nan(sums, sums)) != 0:
            broken = first_nan(x, base, n, lanes)
            if broken < n:
                return broken, np.float32(np.nan)
        return _in_narrow(x, base, n, best, lanes)
    high, sums, where, end = _in_groups(x, base, n, lanes)
    best = simd.largest(high)
    pattern = simd.splat(best, lanes)
    same = simd.equal(high, pattern)
    lanes_of_best = simd.bits(same)
    if lanes_of_best & (lanes_of_best - 1) == 0:  # usually: looked up in memory, where it waits
        start = simd.lane(where, simd.lowest_bit(lanes_of_best))
    else:
        start = simd.smallest(simd.choose(same, where, end))
    if simd.bits(simd.any_nan(sums, sums)) != 0:
        broken = first_nan(x, base, n, lanes)
        if broken < n:
            return broken, np.float32(np.nan)
    return np.int64(start) + simd.lowest_bit(_found(x, base + np.int64(start), pattern, lanes)), best


@simd.inlined
def _found(x: Any, i: int, pattern: Any, lanes: int) -> Any:
    """Which elements of the four vectors from flat index `i` on equal `pattern`, as bits."""
    simd.target(lanes)
    m0 = simd.equal(simd.load(x, i, lanes), pattern)
    m1 = simd.equal(simd.load(x, i + lanes, lanes), pattern)
    m2 = simd.equal(simd.load(x, i + 2 * lanes, lanes), pattern)
    m3 = simd.equal(simd.load(x, i + 3 * lanes, lanes), pattern)
    return simd.bits_of_four(m0, m1, m2, m3)


@simd.inlined
def four_rows(x: Any, base: int, n: int, lanes: int) -> Any:
    """What `label_of` needs of four rows of `n` >= `lanes` elements, one behind the other from `base` on.

    And whether there may be a NaN among them: then they must be looked at one by one.
    """
    simd.target(lanes)
    if n < 4 * lanes:
        h0, s0 = _narrow(x, base, n, lanes)
        h1, s1 = _narrow(x, base + n, n, lanes)
        h2, s2 = _narrow(x, base + 2 * n, n, lanes)
        h3, s3 = _narrow(x, base + 3 * n, n, lanes)
        best = simd.largest_of_four(h0, h1, h2, h3)
        g0 = g1 = g2 = g3 = simd.splat(0, lanes)
    else:
        h0, s0, w0, end = _in_groups(x, base, n, lanes)
        h1, s1, w1, end = _in_groups(x, base + n, n, lanes)
        h2, s2, w2, end = _in_groups(x, base + 2 * n, n, lanes)
        h3, s3, w3, end = _in_groups(x, base + 3 * n, n, lanes)
        best = simd.largest_of_four(h0, h1, h2, h3)
        g0 = simd.choose(simd.equal(h0, simd.splat(simd.lane(best, 0), lanes)), w0, end)
        g1 = simd.choose(simd.equal(h1, simd.splat(simd.lane(best, 1), lanes)), w1, end)
        g2 = simd.choose(simd.equal(h2, simd.splat(simd.lane(best, 2), lanes)), w2, end)
        g3 = simd.choose(simd.equal(h3, simd.splat(simd.lane(best, 3), lanes)), w3, end)
    alarm = simd.bits(simd.bit_or(simd.any_nan(s0, s1), simd.any_nan(s2, s3))) != 0
    return best, simd.smallest_of_four(g0, g1, g2, g3), alarm


@simd.inlined
def label_of(x: Any, base: int, n: int, best: Any, starts: Any, row: int, lanes: int) -> Any:
    """As `first_largest`, for one of the `four_rows` from `base` on, where none of them gave an alarm."""
    simd.target(lanes)
    value = simd.lane(best, row)
    if n < 4 * lanes:
        return _in_narrow(x, base + row * n, n, value, lanes)
    start = np.int64(simd.lane(starts, row))
    pattern = simd.splat(value, lanes)
    return start + simd.lowest_bit(_found(x, base + row * n + start, pattern, lanes)), value


@simd.inlined
def _narrow(x: Any, base: int, n: int, lanes: int) -> Any:
    """Each lane's largest of four vectors that cover a row of `lanes` to 4 * `lanes`; and a NaN if there may be one."""
    simd.target(lanes)
    last = base + n - lanes
    v0 = simd.load(x, base, lanes)
    v1 = simd.load(x, min(base + lanes, last), lanes)
    v2 = simd.load(x, min(base + 2 * lanes, last), lanes)
    v3 = simd.load(x, last, lanes)
    return simd.larger(simd.larger(v0, v1), simd.larger(v2, v3)), simd.fma(v2, v3, simd.mul(v0, v1))


@simd.inlined
def _in_narrow(x: Any, base: int, n: int, value: float, lanes: int) -> Any:
    """As `first_largest`, where the largest is known. The first of the vectors that has it has it first."""
    simd.target(lanes)
    last, pattern = base + n - lanes, simd.splat(value, lanes)
    m0 = simd.equal(simd.load(x, base, lanes), pattern)
    m1 = simd.equal(simd.load(x, min(base + lanes, last), lanes), pattern)
    m2 = simd.equal(simd.load(x, min(base + 2 * lanes, last), lanes), pattern)
    m3 = simd.equal(simd.load(x, last, lanes), pattern)
    place = simd.lowest_bit(simd.bits_of_four(m0, m1, m2, m3))
    within = place & (lanes - 1)
    return min(place - within, n - lanes) + within, value


@simd.shared
def first_nan(x: Any, base: int, n: int, lanes: int) -> Any:
    """Index in the row of its first NaN; `n` where there is none."""
    simd.target(lanes)
    i = 0
    while i + lanes <= n:
        some = simd.load(x, base + i, lanes)
        found = simd.bits(simd.any_nan(some, some))
        if found != 0:
            return i + simd.lowest_bit(found)
        i += lanes
    while i < n:
        value = simd.at(x, base + i)
        if value != value:
            return i
        i += 1
    return n


@simd.inlined
def _in_groups(x: Any, base: int, n: int, lanes: int) -> Any:
    """Each lane's largest element, a NaN where there may be one, where its group starts, and what no group starts at.

    What is left over is done by a group that ends with the row and overlaps the one before.
    """
    simd.target(lanes)
    high = simd.splat(np.float32(-np.inf), lanes)
    s0 = s1 = s2 = s3 = simd.splat(np.float32(0), lanes)
    start = where = simd.splat(0, lanes)
    step = simd.splat(np.int32(4 * lanes), lanes)
    i, last = base, base + n - 4 * lanes
    while i + (lanes == 8) * 4 * lanes <= last:
        high, s0, s1, where = _with_group(x, i, high, s0, s1, where, start, lanes)
        start = simd.add(start, step)
        i += 4 * lanes
        if lanes == 8:  # four chains of sums: two would take longer than loading what they add
            high, s2, s3, where = _with_group(x, i, high, s2, s3, where, start, lanes)
            start = simd.add(start, step)
            i += 4 * lanes
    if lanes == 8 and i <= last:
        high, s0, s1, where = _with_group(x, i, high, s0, s1, where, start, lanes)
        start = simd.add(start, step)
        i += 4 * lanes
    if i < base + n:
        start_of_last = simd.splat(np.int32(n - 4 * lanes), lanes)
        high, s2, s3, where = _with_group(x, last, high, s2, s3, where, start_of_last, lanes)
    return high, simd.add(simd.add(s0, s1), simd.add(s2, s3)), where, start


@simd.inlined
def _with_group(
    x: Any, i: int, high: Any, sums: Any, more: Any, where: Any, start: Any, lanes: int
) -> Any:  # fmt: skip
    """All of them after one more group."""
    simd.target(lanes)
    v0 = simd.load(x, i, lanes)
    v1 = simd.load(x, i + lanes, lanes)
    v2 = simd.load(x, i + 2 * lanes, lanes)
    v3 = simd.load(x, i + 3 * lanes, lanes)
    highest = simd.larger(simd.larger(v0, v1), simd.larger(v2, v3))
    sums, more = simd.fma(v0, v1, sums), simd.fma(v2, v3, more)
    better = simd.greater(highest, high)
    high = simd.larger(high, highest)  # not the same comparison: LLVM would make one chain of both
    return high, sums, more, simd.choose(better, start, where)
