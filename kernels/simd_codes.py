"""Products of rows that are rounded to 8 bits, and attention whose sums have a fixed order.

What a row comes to does not depend on the rows that are multiplied with it: integers are exact, and the rest is added
in one order. So a step of many tokens gives the very numbers of as many steps of one. Needs AVX-512 with VNNI.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kernels import simd
from kernels.simd.codes import CODE_ROWS
from kernels.simd.product import STEADY_ROWS
from kernels.simd_dense import softmax

F = np.float32


@simd.shared
def encode(
    x: Any, x_at: int, x_stride: int, rows: int, depth: int, codes: Any, steps: Any, sums: Any, lanes: int
) -> None:
    """Round each row to `codes` (uint8, `depth` a row): 128 and x in steps of a 127th of the row's largest size.

    steps, sums: float32 and int32: for each row its step, and the sum of its codes less 128. `depth` is a multiple of
    16, at most 65,536.
    """
    simd.target(lanes)
    for row in range(rows):
        base = x_at + row * x_stride
        peak = simd.splat(F(0), lanes)
        for i in range(base, base + depth, lanes):
            some = simd.load(x, i, lanes)
            size = simd.as_float(simd.bit_and(simd.as_int32(some), simd.splat(0x7FFFFFFF, lanes)))
            peak = simd.larger(size, peak)
        most = simd.largest(peak)
        factor = simd.splat(F(127) / most if most > F(0) else F(0), lanes)
        middle = simd.splat(F(128.5), lanes)
        total = simd.splat(F(0), lanes)
        to = row * depth
        for i in range(0, depth, lanes):
            code = simd.to_int32(simd.fma(simd.load(x, base + i, lanes), factor, middle))
            total = simd.add(total, simd.to_float(code))
            simd.store_codes(codes, to + i, code)
        simd.put(steps, row, F(most / F(127)))
        simd.put(sums, row, np.int32(np.int64(simd.total(total)) - 128 * depth))


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
    codes, steps, sums: room for what `encode` makes of the rows.
    """
    simd.target(lanes)
    encode(a, a_at, a_stride, rows, depth, codes, steps, sums, lanes)
    tiles = (rows + CODE_ROWS - 1) // CODE_ROWS
    for first in range(0, columns, 32):
        row = 0
        for tile in range(tiles):
            some = (rows - row + tiles - tile - 1) // (tiles - tile)
            simd.code_rows(
                codes, row * depth, depth, steps, sums, row, b, b_at + first * depth, depth,
                c, c_at + row * c_stride + first, c_stride, scale, zero, offsets, bias, column + first, some,
                accumulate,
            )  # fmt: skip
            row += some


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
