"""What the layers of a neural network are made of, in explicit vectors: products, norms, activations, attention.

Arrays are flat; `x_at` is where something begins in `x`, in elements. Nothing is checked here.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from kernels import simd, simd_math
from kernels.dense import BLOCK_DEPTH, BLOCK_ROWS

F = np.float32


@simd.shared
def multiply(
    a: Any, a_at: int, a_stride: int, rows: int, depth: int,
    b: Any, b_at: int, b_stride: int,
    c: Any, c_at: int, c_stride: int, columns: int,
    scale: Any, zero: Any, bias: Any, column: int,
    accumulate: bool, lanes: int,
) -> None:  # fmt: skip
    """`c = (a @ (b - zero)) * scale + bias`, added to what is there if `accumulate`.

    b: panels (see `kernels.dense.packed`) of float32, int8 or the bits of float16, `b_stride` elements apart; what
        `columns` is not a whole number of panels for is computed as well, so `c` needs room for it.
    scale, zero, bias: of the first of the columns at `column`; scale and zero are for int8.
    """
    simd.target(lanes)
    for block in range(0, rows, BLOCK_ROWS):
        multiply_windows(
            a, a_at + block * a_stride, 0, a_stride, 1, min(BLOCK_ROWS, rows - block), depth,
            b, b_at, b_stride, c, c_at + block * c_stride, 0, c_stride, columns,
            scale, zero, bias, column, accumulate, lanes,
        )  # fmt: skip


@simd.shared
def multiply_windows(
    a: Any, a_at: int, a_pitch: int, a_stride: int, windows: int, rows: int, depth: int,
    b: Any, b_at: int, b_stride: int,
    c: Any, c_at: int, c_pitch: int, c_stride: int, columns: int,
    scale: Any, zero: Any, bias: Any, column: int,
    accumulate: bool, lanes: int,
) -> None:  # fmt: skip
    """`multiply` of `rows` rows of each window, all in one block.

    A window begins `a_pitch` behind the one before in A, and `c_pitch` in C.
    """
    simd.target(lanes)
    most = 12 if lanes == 16 else 6
    tiles = (rows + most - 1) // most
    for first in range(0, columns, 32):
        for k in range(0, depth, BLOCK_DEPTH):
            deep = min(BLOCK_DEPTH, depth - k)
            for part in range(0, 32, 2 * lanes):
                panel = b_at + first // 32 * b_stride + k * 32 + part
                for window in range(windows):
                    row = 0
                    for tile in range(tiles):
                        some = (rows - row + tiles - tile - 1) // (tiles - tile)
                        start = a_at + window * a_pitch + row * a_stride + k
                        where = c_at + window * c_pitch + row * c_stride + first + part
                        if k == 0:
                            simd.product_rows(
                                a, start, a_stride, b, panel, deep, c, where, c_stride,
                                scale, zero, bias, column + first + part, some, lanes, accumulate,
                            )  # fmt: skip
                        else:
                            simd.product_rows(
                                a, start, a_stride, b, panel, deep, c, where, c_stride,
                                scale, zero, None, column + first + part, some, lanes, True,
                            )  # fmt: skip
                        row += some


@simd.shared
def multiply_exactly(
    a: Any, a_at: int, a_stride: int, rows: int, depth: int,
    b: Any, b_at: int,
    c: Any, c_at: int, c_stride: int, columns: int,
    scale: Any, zero: Any, offsets: Any, bias: Any, column: int,
    codes: Any, steps: Any, sums: Any,
    accumulate: bool, lanes: int,
) -> None:  # fmt: skip
    """`multiply` for packed panels, with the arguments of `kernels.simd_codes.multiply`; nothing is rounded."""
    simd.target(lanes)
    multiply(
        a, a_at, a_stride, rows, depth, b, b_at, depth * 32, c, c_at, c_stride, columns,
        scale, zero, bias, column, accumulate, lanes,
    )  # fmt: skip


@simd.shared
def layer_norm(
    x: Any, x_at: int, y: Any, y_at: int, rows: int, width: int, gain: Any, gain_at: int, lanes: int
) -> None:
    """Each row of `x` to mean 0 and variance 1, times a gain; rows are `width` (a multiple of 16) elements apart."""
    simd.target(lanes)
    for row in range(rows):
        base = x_at + row * width
        total = simd.splat(F(0), lanes)
        for i in range(0, width, lanes):
            total = simd.add(total, simd.load(x, base + i, lanes))
        mean = simd.splat(F(simd.total(total) / F(width)), lanes)
        total = simd.splat(F(0), lanes)
        for i in range(0, width, lanes):
            away = simd.sub(simd.load(x, base + i, lanes), mean)
            total = simd.fma(away, away, total)
        factor = simd.splat(F(F(1) / math.sqrt(simd.total(total) / F(width) + F(1e-5))), lanes)
        to = y_at + row * width
        for i in range(0, width, lanes):
            away = simd.sub(simd.load(x, base + i, lanes), mean)
            simd.store(y, to + i, simd.mul(simd.mul(away, factor), simd.load(gain, gain_at + i, lanes)))


@simd.inlined
def _gelu(x: Any, lanes: int) -> Any:
    """The product x * Phi(x), with erf by Abramowitz and Stegun 7.1.26 (absolute error below 1.5e-7)."""
    simd.target(lanes)
    size = simd.as_float(simd.bit_and(simd.as_int32(x), simd.splat(0x7FFFFFFF, lanes)))
    z = simd.mul(size, simd.splat(F(0.7071067811865476), lanes))
    one = simd.splat(F(1), lanes)
    t = simd.div(one, simd.fma(z, simd.splat(F(0.3275911), lanes), one))
    p = simd.fma(t, simd.splat(F(1.061405429), lanes), simd.splat(F(-1.453152027), lanes))
    p = simd.fma(p, t, simd.splat(F(1.421413741), lanes))
    p = simd.fma(p, t, simd.splat(F(-0.284496736), lanes))
    p = simd.fma(p, t, simd.splat(F(0.254829592), lanes))
    tail = simd.mul(simd.mul(p, t), simd_math.exp(simd.sub(simd.splat(F(0), lanes), simd.mul(z, z)), lanes))
    return simd.mul(simd.splat(F(0.5), lanes), simd.fma(size, simd.sub(one, tail), x))


@simd.shared
def gelu(x: Any, start: int, count: int, lanes: int) -> None:
    """GELU in place; `count` is a multiple of 16."""
    simd.target(lanes)
    for i in range(start, start + count, lanes):
        simd.store(x, i, _gelu(simd.load(x, i, lanes), lanes))


@simd.inlined
def sigmoid(x: Any, lanes: int) -> Any:
    """1 / (1 + exp(-x)) of each lane."""
    simd.target(lanes)
    one = simd.splat(F(1), lanes)
    return simd.div(one, simd.add(one, simd_math.exp(simd.sub(simd.splat(F(0), lanes), x), lanes)))


@simd.inlined
def tanh_of(x: Any, lanes: int) -> Any:
    """The hyperbolic tangent of each lane, to 2e-7."""
    simd.target(lanes)
    two, one = simd.splat(F(2), lanes), simd.splat(F(1), lanes)
    return simd.sub(simd.mul(two, sigmoid(simd.mul(two, x), lanes)), one)


@simd.shared
def tanh(x: Any, start: int, count: int, lanes: int) -> None:
    """Hyperbolic tangent in place; `count` is a multiple of 16."""
    simd.target(lanes)
    for i in range(start, start + count, lanes):
        simd.store(x, i, tanh_of(simd.load(x, i, lanes), lanes))


@simd.shared
def swiglu(x: Any, start: int, rows: int, half: int, lanes: int) -> None:
    """The first half of each row becomes itself times the SiLU of the second; `half` is a multiple of 16."""
    simd.target(lanes)
    for row in range(rows):
        base = start + row * 2 * half
        for i in range(base, base + half, lanes):
            gate = simd.load(x, i + half, lanes)
            simd.store(x, i, simd.mul(simd.load(x, i, lanes), simd.mul(gate, sigmoid(gate, lanes))))


@simd.shared
def normalise(x: Any, start: int, rows: int, width: int, gain: Any, gain_at: int, offset_at: int, lanes: int) -> None:
    """All of it together to mean 0 and variance 1, then a gain and an offset for each column, in place."""
    simd.target(lanes)
    count = rows * width
    mean = 0.0  # float64: a minute of audio has six million elements
    for row in range(rows):
        total = simd.splat(F(0), lanes)
        for i in range(start + row * width, start + (row + 1) * width, lanes):
            total = simd.add(total, simd.load(x, i, lanes))
        mean += np.float64(simd.total(total))
    centre = simd.splat(F(mean / count), lanes)
    variance = 0.0
    for row in range(rows):
        total = simd.splat(F(0), lanes)
        for i in range(start + row * width, start + (row + 1) * width, lanes):
            away = simd.sub(simd.load(x, i, lanes), centre)
            total = simd.fma(away, away, total)
        variance += np.float64(simd.total(total))
    factor = simd.splat(F(1.0 / math.sqrt(variance / count + 1e-5)), lanes)
    for row in range(rows):
        base = start + row * width
        for i in range(0, width, lanes):
            away = simd.mul(simd.sub(simd.load(x, base + i, lanes), centre), factor)
            scaled = simd.fma(away, simd.load(gain, gain_at + i, lanes), simd.load(gain, offset_at + i, lanes))
            simd.store(x, base + i, scaled)


@simd.shared
def rotate(
    x: Any, x_at: int, stride: int, rows: int, heads: int, width: int, table: Any, first: int, pairs: int
) -> None:
    """Rotary embedding in place of the first `pairs` interleaved pairs of each head; positions begin at `first`.

    table: float32, 2 * pairs numbers for each position: the cosines, then the sines.
    """
    for row in range(rows):
        angle = (first + row) * 2 * pairs
        for head in range(heads):
            base = x_at + row * stride + head * width
            for pair in range(pairs):
                cosine, sine = simd.at(table, angle + pair), simd.at(table, angle + pairs + pair)
                left, right = simd.at(x, base + 2 * pair), simd.at(x, base + 2 * pair + 1)
                simd.put(x, base + 2 * pair, left * cosine - right * sine)
                simd.put(x, base + 2 * pair + 1, left * sine + right * cosine)


@simd.shared
def softmax(x: Any, start: int, count: int, size: int, lanes: int) -> None:
    """Softmax of `count` elements in place; those behind them, up to `size`, become 0."""
    simd.target(lanes)
    low = simd.splat(F(-np.inf), lanes)
    end = start + count
    peak = low
    for i in range(start, end, lanes):
        peak = simd.larger(simd.load_part(x, i, min(lanes, end - i), low), peak)
    best = simd.splat(simd.largest(peak), lanes)
    total = simd.splat(F(0), lanes)
    for i in range(start, end, lanes):
        some = simd_math.exp(simd.sub(simd.load_part(x, i, min(lanes, end - i), low), best), lanes)
        total = simd.add(total, some)
        simd.store_part(x, i, min(lanes, end - i), some)
    factor = simd.splat(F(F(1) / simd.total(total)), lanes)
    for i in range(start, end, lanes):
        some = simd.mul(simd.load_part(x, i, min(lanes, end - i), low), factor)
        simd.store_part(x, i, min(lanes, end - i), some)
    for i in range(end, start + size):
        simd.put(x, i, F(0))


@simd.shared
def attend(
    queries: Any, q_at: int, q_stride: int, rows: int,
    keys: Any, k_at: int, values: Any, v_at: int, capacity: int, count: int, visible: int,
    scores: Any, s_at: int, out: Any, o_at: int, o_stride: int,
    width: int, scale: Any, zero: Any, bias: Any, lanes: int,
) -> None:  # fmt: skip
    """Attention of one head. Row i sees the first `visible + i` of `count` keys, or all of them if those are more.

    keys, values: as `remember` lays them down, with room for `capacity` of them.
    scores: room for `rows` times `count`, rounded up to a whole panel.
    out: gets rows of 64 elements, of which the last `64 - width` mean nothing.
    scale, zero, bias: as in `multiply`; the bias must be zeros.
    """
    simd.target(lanes)
    size = (count + 31) // 32 * 32
    multiply(
        queries, q_at, q_stride, rows, width, keys, k_at, width * 32, scores, s_at, size, size,
        scale, zero, bias, 0, False, lanes,
    )  # fmt: skip
    for row in range(rows):
        softmax(scores, s_at + row * size, min(count, visible + row), size, lanes)
    multiply(
        scores, s_at, size, rows, count, values, v_at, capacity * 32, out, o_at, o_stride, 64,
        scale, zero, bias, 0, False, lanes,
    )  # fmt: skip


@simd.shared
def remember(
    x: Any, k_from: int, v_from: int, stride: int, rows: int, first: int,
    keys: Any, k_at: int, values: Any, v_at: int, capacity: int, width: int, lanes: int,
) -> None:  # fmt: skip
    """Lay down one head's keys and values of `rows` positions from `first` on as panels for `attend`."""
    simd.target(lanes)
    nothing = simd.splat(F(0), lanes)
    whole = width // lanes * lanes
    row = 0
    while row < rows:
        place = first + row
        panel = k_at + place // 32 * width * 32 + place % 32
        if place % lanes == 0 and rows - row >= lanes:
            for i in range(0, whole, lanes):
                simd.transpose_tile(x, k_from + row * stride + i, stride, keys, panel + i * 32, 32, lanes)
            for j in range(lanes):
                for i in range(whole, width):
                    simd.put(keys, panel + i * 32 + j, simd.at(x, k_from + (row + j) * stride + i))
            row += lanes
        else:
            for i in range(width):
                simd.put(keys, panel + i * 32, simd.at(x, k_from + row * stride + i))
            row += 1
    for row in range(rows):
        for i in range(0, 64, lanes):
            some = simd.load_part(x, v_from + row * stride + i, min(lanes, max(width - i, 0)), nothing)
            simd.store(values, v_at + (i // 32 * capacity + first + row) * 32 + i % 32, some)
