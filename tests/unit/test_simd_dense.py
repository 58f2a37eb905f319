"""The parts of neural layers in explicit vectors, beside NumPy in float64."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
from scipy.special import erf

from kernels import cpu, limits
from kernels.compile import Loop, compile_loop
from kernels.dense import packed
from kernels.simd.product import TILE_ROWS

FLOATS = "float32[::1]"
each_width = pytest.mark.parametrize(
    "lanes",
    [
        pytest.param(n, marks=pytest.mark.skipif(bool(cpu.missing(name)), reason=f"this CPU lacks {cpu.missing(name)}"))
        for n, name in ((8, "avx2"), (16, "avx512"))
    ],
)


@cache
def product_loop(lanes: int, element: str, accumulate: bool) -> Loop:
    from kernels import simd, simd_dense

    @compile_loop(
        f"int64({FLOATS}, int64, int64, int64, {element}[::1], {FLOATS}, int64, int64, {FLOATS}, int32[::1], {FLOATS})"
    )
    def loop(a, a_stride, rows, depth, b, c, c_stride, columns, scale, zero, bias):  # type: ignore[no-untyped-def]
        simd.target(lanes)
        simd_dense.multiply(
            a, 0, a_stride, rows, depth, b, 0, depth * 32, c, 0, c_stride, columns, scale, zero, bias, 0,
            accumulate, lanes,
        )  # fmt: skip
        return 0

    return loop


@each_width
@pytest.mark.parametrize("element", ["float32", "uint16", "int8"])
@pytest.mark.parametrize("rows", [*range(1, 14), 100, 205])
def test_products_equal_numpy(rows: int, element: str, lanes: int) -> None:
    rng = np.random.default_rng(rows)
    depth, columns, c_stride = 127, 64, 70
    a = rng.standard_normal((rows, depth), np.float32)
    scale, bias = rng.standard_normal((2, columns)).astype(np.float32)
    zero = rng.integers(-30, 30, columns).astype(np.int32)
    if element == "int8":
        b = rng.integers(-128, 128, (depth, columns)).astype(np.int8)
        exact = a.astype(np.float64) @ (b.astype(np.float64) - zero) * scale + bias
    else:
        b = rng.standard_normal((depth, columns), np.float32)
        if element == "uint16":  # halves, denormal ones among them
            b = (b * 10.0 ** rng.integers(-7, 1, b.shape)).astype(np.float16)
        exact = a.astype(np.float64) @ b.astype(np.float64) + bias
    b = b.view(np.uint16) if element == "uint16" else b
    c = np.full((rows, c_stride), 7, np.float32)
    arguments = (a.reshape(-1), depth, rows, depth, packed(b), c.reshape(-1), c_stride, columns, scale, zero, bias)
    assert product_loop(lanes, element, False).call(*arguments) == 0
    np.testing.assert_allclose(c[:, :columns], exact, rtol=1e-5, atol=2e-6 * np.abs(exact).max())
    assert (c[:, columns:] == 7).all()  # what lies between the rows is left alone
    product_loop(lanes, element, True).call(*arguments)
    np.testing.assert_allclose(c[:, :columns], 2 * exact, rtol=1e-5, atol=4e-6 * np.abs(exact).max())


@each_width
def test_rows_that_overlap_are_a_convolution(lanes: int) -> None:
    rng = np.random.default_rng(0)
    wave, kernel = rng.standard_normal(400, np.float32), rng.standard_normal((127, 32), np.float32)
    rows = (400 - 127) // 64 + 1
    c, nothing = np.zeros((rows, 32), np.float32), np.zeros(32, np.float32)
    flat = packed(kernel)
    zero = np.zeros(32, np.int32)
    product_loop(lanes, "float32", False).call(wave, 64, rows, 127, flat, c.reshape(-1), 32, 32, nothing, zero, nothing)
    exact = [wave[64 * row : 64 * row + 127].astype(np.float64) @ kernel for row in range(rows)]
    np.testing.assert_allclose(c, exact, atol=1e-4)


@cache
def windows_loop(lanes: int) -> Loop:
    from kernels import simd, simd_dense

    @compile_loop(
        f"int64({FLOATS}, int64, int64, int64, int64, int64, {FLOATS}, {FLOATS}, int64, int64, {FLOATS}, int32[::1], "
        f"{FLOATS})"
    )
    def loop(a, pitch, stride, windows, rows, depth, b, c, c_pitch, columns, scale, zero, bias):  # type: ignore[no-untyped-def]
        simd.target(lanes)
        simd_dense.multiply_windows(
            a, 0, pitch, stride, windows, rows, depth, b, 0, depth * 32, c, 0, c_pitch, columns, columns,
            scale, zero, bias, 0, False, lanes,
        )  # fmt: skip
        return 0

    return loop


@each_width
@pytest.mark.parametrize(("windows", "rows", "depth"), [(1, 1, 96), (3, 7, 97), (4, 15, 291), (2, 13, 5)])
def test_windows_are_products_of_their_own(windows: int, rows: int, depth: int, lanes: int) -> None:
    rng = np.random.default_rng(depth)
    stride, columns = max(1, depth // 2), 64
    pitch = rows * stride + depth + 3
    a = rng.standard_normal((windows, pitch), np.float32)
    b, bias = rng.standard_normal((depth, columns), np.float32), rng.standard_normal(columns).astype(np.float32)
    c, nothing = np.full((windows, rows + 1, columns), 7, np.float32), np.zeros(columns, np.int32)
    windows_loop(lanes).call(
        a.reshape(-1), pitch, stride, windows, rows, depth, packed(b), c.reshape(-1), (rows + 1) * columns, columns,
        bias, nothing, bias,
    )  # fmt: skip
    parts = np.lib.stride_tricks.sliding_window_view(a, depth, axis=1)[:, : rows * stride : stride]
    np.testing.assert_allclose(c[:, :rows], parts.astype(np.float64) @ b + bias, atol=2e-4)
    assert (c[:, rows] == 7).all()  # what lies between the windows is left alone


def test_a_matrix_that_is_no_whole_panels_is_refused() -> None:
    with pytest.raises(ValueError, match="panels of 32 outputs, got 33"):
        packed(np.zeros((4, 33), np.float32))
    matrix = np.arange(3 * 64).reshape(3, 64)
    assert packed(matrix).reshape(2, 3, 32)[1, 2].tolist() == matrix[2, 32:].tolist()


@cache
def parts_loop(lanes: int, part: str) -> Loop:
    from kernels import simd, simd_dense

    which = ["norm", "gelu", "tanh", "swiglu", "normalise", "softmax", "rotate"].index(part)

    @compile_loop(f"int64({FLOATS}, {FLOATS}, {FLOATS}, int64, int64)")
    def loop(x, y, gain, rows, width):  # type: ignore[no-untyped-def]
        simd.target(lanes)
        if which == 0:
            simd_dense.layer_norm(x, 0, y, 0, rows, width, gain, 0, lanes)
        elif which == 1:
            simd_dense.gelu(x, 0, rows * width, lanes)
        elif which == 2:
            simd_dense.tanh(x, 0, rows * width, lanes)
        elif which == 3:
            simd_dense.swiglu(x, 0, rows, width // 2, lanes)
        elif which == 4:
            simd_dense.normalise(x, 0, rows, width, gain, 0, width, lanes)
        elif which == 5:
            for row in range(rows):
                simd_dense.softmax(x, row * width, min(width, 1 + 5 * row), width, lanes)
        else:
            simd_dense.rotate(x, 0, width, rows, 2, width // 2, gain, 3, 4)
        return 0

    return loop


def run(part: str, lanes: int, x: Any, gain: Any) -> Any:
    flat, y = x.reshape(-1).copy(), np.zeros(x.size, np.float32)
    parts_loop(lanes, part).call(flat, y, gain, *x.shape)
    return (y if part == "norm" else flat).reshape(x.shape)


@pytest.fixture
def x() -> Any:
    return np.random.default_rng(3).standard_normal((7, 96), np.float32) * 3


@pytest.fixture
def gain() -> Any:
    return np.random.default_rng(4).standard_normal(400).astype(np.float32)


@each_width
def test_norms(lanes: int, x: Any, gain: Any) -> None:
    wide = x.astype(np.float64)
    rows = (wide - wide.mean(1, keepdims=True)) / np.sqrt(wide.var(1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(run("norm", lanes, x, gain), rows * gain[:96], atol=3e-6)
    whole = (wide - wide.mean()) / np.sqrt(wide.var() + 1e-5)
    np.testing.assert_allclose(run("normalise", lanes, x, gain), whole * gain[:96] + gain[96:192], atol=3e-6)


@each_width
def test_activations(lanes: int, x: Any, gain: Any) -> None:
    wide = x.astype(np.float64)
    np.testing.assert_allclose(run("gelu", lanes, x, gain), wide / 2 * (1 + erf(wide / np.sqrt(2))), atol=2e-6)
    np.testing.assert_allclose(run("tanh", lanes, x, gain), np.tanh(wide), atol=3e-7)
    value, gate = wide[:, :48], wide[:, 48:]
    found = run("swiglu", lanes, x, gain)
    np.testing.assert_allclose(found[:, :48], value * gate / (1 + np.exp(-gate)), atol=1e-5)
    np.testing.assert_array_equal(found[:, 48:], x[:, 48:])


@each_width
def test_softmax_of_what_is_visible(lanes: int, x: Any, gain: Any) -> None:
    found = run("softmax", lanes, x, gain)
    for row in range(7):
        count = 1 + 5 * row
        exact = np.exp(x[row, :count].astype(np.float64) - x[row, :count].max())
        np.testing.assert_allclose(found[row, :count], exact / exact.sum(), atol=3e-7)
        assert not found[row, count:].any()


@each_width
def test_rotation_turns_pairs_by_the_angle_of_their_position(lanes: int, x: Any, gain: Any) -> None:
    found, exact = run("rotate", lanes, x, gain), x.astype(np.float64).copy()
    for row in range(7):
        cosines, sines = gain[(3 + row) * 8 :][:4], gain[(3 + row) * 8 + 4 :][:4]
        for head in (0, 48):
            left, right = x[row, head : head + 8 : 2], x[row, head + 1 : head + 8 : 2]
            exact[row, head : head + 8 : 2] = left * cosines - right * sines
            exact[row, head + 1 : head + 8 : 2] = left * sines + right * cosines
    np.testing.assert_allclose(found, exact, atol=1e-5)


@cache
def attention_loop(lanes: int) -> Loop:
    from kernels import simd, simd_dense

    @compile_loop(f"int64({FLOATS}, int64, int64, int64, {FLOATS}, {FLOATS}, int64, {FLOATS}, {FLOATS}, int32[::1])")
    def loop(x, rows, first, visible, keys, values, capacity, scores, out, zero):  # type: ignore[no-untyped-def]
        simd.target(lanes)
        simd_dense.remember(x, 52, 104, 156, rows, first, keys, 0, values, 0, capacity, 52, lanes)
        simd_dense.attend(
            x, 0, 156, rows, keys, 0, values, 0, capacity, first + rows, visible, scores, 0, out, 0, 64, 52,
            out, zero, scores[scores.size - capacity :], lanes,
        )  # fmt: skip
        return 0

    return loop


@each_width
@pytest.mark.parametrize("causal", [True, False])
def test_attention_over_what_was_said_before_and_now(lanes: int, causal: bool) -> None:
    rng = np.random.default_rng(5)
    x = rng.standard_normal((70, 156), np.float32) / 4
    capacity = 96
    keys, values = np.full(capacity * 52, np.nan, np.float32), np.full(capacity * 64, np.nan, np.float32)
    scores, out = np.zeros(70 * 96 + capacity, np.float32), np.zeros((70, 64), np.float32)
    first = 0
    for count in (1, 37, 32):  # one token, and groups that go over the edges of panels
        part = np.ascontiguousarray(x[first : first + count])
        visible = first + 1 if causal else first + count
        attention_loop(lanes).call(
            part.reshape(-1), count, first, visible, keys, values, capacity, scores, out.reshape(-1),
            np.zeros(96, np.int32),
        )  # fmt: skip
        queries, past = part[:, :52].astype(np.float64), x[: first + count].astype(np.float64)
        logits = queries @ past[:, 52:104].T
        if causal:
            logits[np.arange(first + count) > first + np.arange(count)[:, None]] = -np.inf
        weights = np.exp(logits - logits.max(1, keepdims=True))
        exact = weights / weights.sum(1, keepdims=True) @ past[:, 104:]
        np.testing.assert_allclose(out[:count, :52], exact, atol=2e-6)
        first += count


@each_width
@pytest.mark.parametrize("element", ["int8", "uint16"])
def test_machine_code_is_as_wide_as_the_lanes(element: str, lanes: int) -> None:
    from kernels.compile import _compile

    loop = product_loop(lanes, element, False)
    [compiled] = _compile(loop.source, loop.signature, None).overloads.values()
    code = compiled.library.get_asm_str().splitlines()
    work = [line for line in code if "vfmadd" in line and "ps\t" in line]
    register = {8: "ymm", 16: "zmm"}[lanes]
    assert any("vcvtph2ps" in line and register in line for line in code) == (element == "uint16")
    assert sum(register in line for line in work) >= 2 * sum(range(1, TILE_ROWS[lanes] + 1))
    assert lanes == 16 or not any("zmm" in line for line in work)


@each_width
def test_limits_do_their_work(lanes: int) -> None:
    x = np.random.default_rng(0).standard_normal(16 * lanes, np.float32)
    out = np.zeros(1, np.float32)
    assert limits.read_loop(lanes).call(x, out) == 0
    assert out[0] == x.max()
    assert limits.read_loop(lanes).call(x[1:], out) == -1
    out[0] = 1
    assert limits.fma_loop(lanes).call(200, out) == 0
    assert out[0] == pytest.approx(lanes * limits.CHAINS)  # x / 2 + 1 / 2 goes to 1 in every chain
