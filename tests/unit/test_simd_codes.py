"""Products of rounded rows, beside NumPy's integers, and attention whose sums do not depend on other rows."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

from kernels import cpu
from kernels.compile import Loop, compile_loop
from kernels.dense import BLOCK_ROWS, ROUNDINGS, column_sums, grouped, packed

FLOATS = "float32[::1]"
NEEDED = {8: "avx2", 16: "avx512-vnni"}


@pytest.fixture(params=NEEDED)
def lanes(request: pytest.FixtureRequest) -> int:
    count: int = request.param
    if missing := cpu.missing(NEEDED[count]):
        pytest.skip(f"this CPU lacks {missing}")
    return count


@cache
def product_loop(lanes: int, accumulate: bool) -> Loop:
    from kernels import simd, simd_codes

    @compile_loop(
        f"int64({FLOATS}, int64, int64, int64, int8[::1], {FLOATS}, int64, {FLOATS}, int32[::1], int32[::1], {FLOATS}, "
        f"{np.dtype(ROUNDINGS[lanes].dtype)}[::1], {FLOATS}, int32[::1])"
    )
    def loop(a, stride, rows, depth, b, c, columns, scale, zero, offsets, bias, codes, steps, sums):  # type: ignore[no-untyped-def]
        simd.target(lanes)
        simd_codes.multiply(
            a, 0, stride, rows, depth, b, 0, c, 0, columns, columns, scale, zero, offsets, bias, 0, codes, steps, sums,
            accumulate, lanes,
        )  # fmt: skip
        return 0

    return loop


@cache
def attention_loop(lanes: int) -> Loop:
    from kernels import simd, simd_codes

    @compile_loop(
        f"int64({FLOATS}, int64, {FLOATS}, {FLOATS}, int64, int64, int64, {FLOATS}, {FLOATS}, {FLOATS}, int32[::1])"
    )
    def loop(queries, rows, keys, values, capacity, count, visible, scores, out, nothing, zero):  # type: ignore[no-untyped-def]
        simd.target(lanes)
        simd_codes.attend(
            queries, 0, 52, rows, keys, 0, values, 0, capacity, count, visible, scores, 0, out, 0, 64, 52,
            nothing, zero, nothing, lanes,
        )  # fmt: skip
        return 0

    return loop


def multiply(
    lanes: int, a: Any, weights: Any, scale: Any, zero: Any, bias: Any, c: Any, *, accumulate: bool = False
) -> Any:
    rows, depth = a.shape
    how = ROUNDINGS[lanes]
    panels = packed(weights)
    # A loop has a stride of its own: the rows lie further apart than they are long.
    apart = np.full((rows, depth + 7), np.nan, np.float32)
    apart[:, :depth] = a
    room = min(rows, BLOCK_ROWS)
    done = product_loop(lanes, accumulate).call(
        apart.reshape(-1), depth + 7, rows, depth, grouped(panels, depth, how.group), c.reshape(-1), c.shape[1], scale,
        zero, how.offsets(panels, depth), bias, np.zeros(room * depth, how.dtype), np.zeros(room, np.float32),
        np.zeros(room, np.int32),
    )  # fmt: skip
    assert done == 0
    return c


@pytest.mark.parametrize("rows", [*range(1, 14), 30, BLOCK_ROWS + 1])
def test_products_are_those_of_the_rounded_integers(lanes: int, rows: int) -> None:
    largest_code = ROUNDINGS[lanes].largest
    rng = np.random.default_rng(rows)
    depth, columns = 48, 64
    a = rng.standard_normal((rows, depth), np.float32) * rng.lognormal(0, 3, (rows, 1)).astype(np.float32)
    a[0] = 0  # a row of zeros has no step
    weights = rng.integers(-128, 128, (depth, columns)).astype(np.int8)
    scale, bias = rng.standard_normal((2, columns)).astype(np.float32)
    zero = rng.integers(-128, 128, columns).astype(np.int32)
    largest = np.abs(a).max(axis=1, keepdims=True)
    inverse = np.divide(np.float32(largest_code), largest, out=np.zeros_like(largest), where=largest > 0)
    shift = ROUNDINGS[lanes].middle or largest_code + 1  # makes what is rounded positive, and its sums inexact
    codes = (a.astype(np.float64) * inverse + (shift + 0.5)).astype(np.float32).astype(np.int64) - shift
    exact = codes @ (weights.astype(np.int64) - zero) * (largest / largest_code).astype(np.float64) * scale
    found = multiply(lanes, a, weights, scale, zero, bias, np.zeros((rows, columns), np.float32))
    np.testing.assert_allclose(found, exact + bias, rtol=1e-5, atol=1e-6 * np.abs(exact).max())
    twice = multiply(lanes, a, weights, scale, zero, bias, found.copy(), accumulate=True)
    np.testing.assert_allclose(twice, 2 * (exact + bias), rtol=1e-5, atol=2e-6 * np.abs(exact).max())


def test_largest_weights_and_codes_do_not_overflow(lanes: int) -> None:
    depth = 2048
    ones = np.ones(32, np.float32)
    for sign in (1, -1):
        weights = np.full((depth, 32), 127 if sign > 0 else -128, np.int8)
        found = multiply(
            lanes, np.ones((1, depth), np.float32), weights, ones, np.full(32, -128 * sign, np.int32), 0 * ones,
            np.zeros((1, 32), np.float32),
        )  # fmt: skip
        wanted = depth * (float(weights[0, 0]) + 128 * sign)
        np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_a_row_comes_to_the_same_bits_whatever_is_beside_it(lanes: int) -> None:
    rng = np.random.default_rng(3)
    capacity, rows = 96, 13
    keys, values = rng.standard_normal((2, capacity * 64), np.float32)
    queries = rng.standard_normal((rows, 52), np.float32)
    nothing, zero = np.zeros(capacity, np.float32), np.zeros(capacity, np.int32)

    def attend(first: int, some: int, seen: int) -> Any:
        scores, out = np.empty(rows * capacity, np.float32), np.empty((some, 64), np.float32)
        part = np.ascontiguousarray(queries[first : first + some]).reshape(-1)
        attention_loop(lanes).call(
            part, some, keys, values, capacity, seen + some, seen + 1, scores, out.reshape(-1), nothing, zero
        )
        return out[:, :52]

    for before in (0, 27, 60):  # with the first rows below a whole panel of keys and the last above it
        together = attend(0, rows, before)
        for row in range(rows):
            assert np.array_equal(attend(row, 1, before + row)[0], together[row])


def test_groups_keep_every_weight() -> None:
    matrix = np.arange(8 * 32).reshape(8, 32).astype(np.int8)
    panels = packed(matrix)
    assert grouped(panels, 8, 4).reshape(2, 32, 4)[1, 5].tolist() == matrix[4:, 5].tolist()
    assert column_sums(panels, 8).tolist() == matrix.sum(axis=0, dtype=np.int32).tolist()
    with pytest.raises(ValueError, match="groups of 4, got 6"):
        grouped(panels, 6, 4)
