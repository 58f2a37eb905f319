"""Products of rows that are rounded to integers, and attention whose sums have a fixed order.

What a row comes to does not depend on the rows that are multiplied with it: integers are exact, and the rest is added
in one order. So a step of many tokens gives the very numbers of as many steps of one. How rows are rounded says
`kernels.dense.ROUNDINGS` by lanes: 8 need AVX2, 16 AVX-512 with VNNI.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kernels import simd
from kernels.dense import BLOCK_ROWS, ROUNDINGS
from kernels.simd.product import STEADY_ROWS
from kernels.simd_dense import softmax

F = np.float32
_FINE, _COARSE = ROUNDINGS[8], ROUNDINGS[16]
FINE, COARSE = F(_FINE.largest), F(_COARSE.largest)
FINE_GROUP, COARSE_GROUP = _FINE.group, _COARSE.group
COARSE_MIDDLE = _COARSE.middle
FINE_SHIFT = _FINE.largest + 1
"""Added before and taken off after rounding, which cuts off: only what is positive is rounded to the nearest so."""


@simd.shared
def encode(
    x: Any, x_at: int, x_stride: int, rows: int, depth: int, codes: Any, steps: Any, sums: Any, first: int, lanes: int
) -> None:
    """Round each row to `codes`, `depth` a row: the middle, and x in steps that make its largest size the largest code.

    codes: uint8 or int16, see `kernels.dense.ROUNDINGS`.
    steps, sums: float32 and int32: for each row its step, and the sum of its codes less their middle. `depth` is a
        multiple of 16, at most 4,096.
    first: The row of `codes`, `steps` and `sums` to begin with.
    """
    simd.target(lanes)
    largest = COARSE if lanes == 16 else FINE
    shift = COARSE_MIDDLE if lanes == 16 else FINE_SHIFT
    for row in range(rows):
        base = x_at + row * x_stride
        peak = simd.splat(F(0), lanes)
        for i in range(base, base + depth, lanes):
            some = simd.load(x, i, lanes)
            size = simd.as_float(simd.bit_and(simd.as_int32(some), simd.splat(0x7FFFFFFF, lanes)))
            peak = simd.larger(size, peak)
        most = simd.largest(peak)
        factor = simd.splat(largest / most if most > F(0) else F(0), lanes)
        middle = simd.splat(F(F(shift) + F(0.5)), lanes)
        total = simd.splat(F(0), lanes)
        to = (first + row) * depth
        for i in range(0, depth, lanes):
            code = simd.to_int32(simd.fma(simd.load(x, base + i, lanes), factor, middle))
            signed = simd.sub(code, simd.splat(shift, lanes))
            total = simd.add(total, simd.to_float(signed))
            simd.store_codes(codes, to + i, code if lanes == 16 else signed)
        simd.put(steps, first + row, F(most / largest))
        simd.put(sums, first + row, np.int32(simd.total(total)))


@simd.shared
def multiply_codes(
    codes: Any, steps: Any, sums: Any, rows: int, depth: int,
    b: Any, b_at: int,
    c: Any, c_at: int, c_stride: int, columns: int,
    scale: Any, zero: Any, offsets: Any, bias: Any, column: int,
    accumulate: bool, lanes: int,
) -> None:  # fmt: skip
    """What `multiply` does behind `encode`."""
    simd.target(lanes)
    most = 12 if lanes == 16 else 6
    group = COARSE_GROUP if lanes == 16 else FINE_GROUP
    tiles = (rows + most - 1) // most
    for first in range(0, columns, 32):
        for part in range(0, 32, 2 * lanes):
            row = 0
            for tile in range(tiles):
                some = (rows - row + tiles - tile - 1) // (tiles - tile)
                simd.code_rows(
                    codes, row * depth, depth, steps, sums, row, b, b_at + first * depth + part * group,
                    depth * 32 + part * (depth - group), depth,
                    c, c_at + row * c_stride + first + part, c_stride,
                    scale, zero, offsets, bias, column + first + part, some, lanes, accumulate,
                )  # fmt: skip
                row += some


@simd.shared
def multiply(
    a: Any, a_at: int, a_stride: int, rows: int, depth: int,
    b: Any, b_at: int,
    c: Any, c_at: int, c_stride: int, columns: int,
    scale: Any, zero: Any, offsets: Any, bias: Any, column: int,
    codes: Any, steps: Any, sums: Any,
    accumulate: bool, lanes: int,
) -> None:  # fmt: skip
    """`c = (a @ (b - zero)) * scale + bias` with the rows of `a` rounded by `encode`; added if `accumulate`.

    b: int8 panels as `kernels.dense.grouped` lays them down; columns is a multiple of 32.
    codes, steps, sums: room for what `encode` makes of the rows, or of `BLOCK_ROWS` of them.
    """
    simd.target(lanes)
    for block in range(0, rows, BLOCK_ROWS):
        size = min(BLOCK_ROWS, rows - block)
        encode(a, a_at + block * a_stride, a_stride, size, depth, codes, steps, sums, 0, lanes)
        multiply_codes(
            codes, steps, sums, size, depth, b, b_at, c, c_at + block * c_stride, c_stride, columns,
            scale, zero, offsets, bias, column, accumulate, lanes,
        )  # fmt: skip


@simd.shared
def steady(
    a: Any, a_at: int, a_stride: int, rows: int, depth: int,
    b: Any, b_at: int, b_stride: int,
    c: Any, c_at: int, c_stride: int, columns: int,
    scale: Any, zero: Any, bias: Any, lanes: int,
) -> None:  # fmt: skip
    """`c = a @ b + bias` for float32 panels; see `kernels.simd_dense.multiply`, which adds in another order."""
    simd.target(lanes)
    for first in range(0, columns, 32):
        for part in range(0, 32, 2 * lanes):
            panel = b_at + first // 32 * b_stride + part
            for row in range(0, rows, STEADY_ROWS):
                simd.steady_rows(
                    a, a_at + row * a_stride, a_stride, b, panel, depth, c, c_at + row * c_stride + first + part,
                    c_stride, scale, zero, bias, first + part, min(STEADY_ROWS, rows - row), lanes, False,
                )  # fmt: skip


@simd.shared
def attend(
    queries: Any, q_at: int, q_stride: int, rows: int,
    keys: Any, k_at: int, values: Any, v_at: int, capacity: int, count: int, visible: int,
    scores: Any, s_at: int, out: Any, o_at: int, o_stride: int,
    width: int, scale: Any, zero: Any, bias: Any, lanes: int,
) -> None:  # fmt: skip
    """Attention of one head as `kernels.simd_dense.attend` has it, with these differences.

    Each row's sums have an order that depends on nothing but what it sees. Values behind `count`, up to a whole panel
    or `capacity`, are multiplied by 0, so they must be finite; `bias` has to have a zero for each key.
    """
    simd.target(lanes)
    size = (count + 31) // 32 * 32
    steady(
        queries, q_at, q_stride, rows, width, keys, k_at, width * 32, scores, s_at, size, size,
        scale, zero, bias, lanes,
    )  # fmt: skip
    for row in range(rows):
        softmax(scores, s_at + row * size, min(count, visible + row), size, lanes)
    steady(
        scores, s_at, size, rows, min(size, capacity), values, v_at, capacity * 32, out, o_at, o_stride, 64,
        scale, zero, bias, lanes,
    )  # fmt: skip
