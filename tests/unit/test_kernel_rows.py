"""argmax, log-softmax and top-k of rows, against naive oracles, for every implementation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.dispatch import Implementation
from tests.unit.kernel_sets import every_implementation, examples, kernel_set

any_float = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, -1.0, math.inf, -math.inf, math.nan, 1e-45, -1e-45, 3.4028234663852886e38]),
    st.floats(width=32),
)
numbers = st.floats(-1e4, 1e4, width=32)


@st.composite
def rows(draw: st.DrawFn, elements: st.SearchStrategy[float]) -> np.ndarray:
    """Few distinct values in rows of any length, so that ties are common and every remainder of a vector occurs."""
    shape = draw(st.integers(0, 3)), draw(st.integers(1, 150))
    pool = draw(st.lists(elements, min_size=1, max_size=8))
    return np.array(pool, np.float32)[np.random.default_rng(draw(st.integers(0, 99))).integers(0, len(pool), shape)]


def order(row: np.ndarray) -> list[int]:
    """Indices from the largest element on: NaN first, ties by index."""
    return sorted(range(len(row)), key=lambda i: (0, 0.0, i) if np.isnan(row[i]) else (1, -float(row[i]), i))


@every_implementation
@examples
@given(x=rows(any_float))
def test_argmax_is_the_first_largest(name: Implementation, x: np.ndarray) -> None:
    out = np.full(len(x), -1)
    kernel_set(name).argmax(x, out)
    assert out.tolist() == [order(row)[0] for row in x]


@every_implementation
@pytest.mark.parametrize("n", [2047, 2048, 2049, 4096, 5000])
def test_argmax_over_several_blocks(name: Implementation, n: int) -> None:
    x = np.random.default_rng(n).standard_normal((n, n), np.float32)[:: n // 20].copy()
    x[np.arange(len(x)), (np.arange(len(x)) * 251) % n] = 9
    x[0, :] = -np.inf
    x[1, [3, n - 1]] = np.nan
    out = np.empty(len(x), np.int64)
    kernel_set(name).argmax(x, out)
    assert out.tolist() == x.argmax(axis=1).tolist()


@every_implementation
@examples
@given(x=rows(any_float), data=st.data())
def test_top_k_is_the_head_of_the_order(name: Implementation, x: np.ndarray, data) -> None:
    k = data.draw(st.integers(1, x.shape[1]))
    values, indices = np.empty((len(x), k), np.float32), np.empty((len(x), k), np.int64)
    kernel_set(name).top_k(x, values, indices)
    assert indices.tolist() == [order(row)[:k] for row in x]
    np.testing.assert_array_equal(values, np.take_along_axis(x, indices, axis=1))


def log_softmax_oracle(x: np.ndarray) -> np.ndarray:
    wide = x.astype(np.float64)
    shifted = wide - wide.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


@every_implementation
@examples
@given(x=rows(st.one_of(numbers, st.sampled_from([-math.inf, 1e-45]))))
def test_log_softmax_is_close_to_float64(name: Implementation, x: np.ndarray) -> None:
    x = x[np.isfinite(x).any(axis=1)]
    out = np.empty_like(x)
    kernel_set(name).log_softmax(x, out)
    scale = np.abs(np.where(np.isfinite(x), x, 0)).max(axis=1, keepdims=True, initial=1)
    expected = log_softmax_oracle(x)
    np.testing.assert_array_equal(np.isneginf(out), np.isneginf(expected))
    finite = np.isfinite(expected)
    error = np.abs(np.subtract(out, expected, where=finite, out=np.zeros_like(expected)))
    assert (error / scale).max(initial=0) < 1e-6


@every_implementation
@pytest.mark.parametrize("n", [1, 2, 15, 16, 17, 40])
def test_log_softmax_of_rows_without_a_distribution_is_nan(name: Implementation, n: int) -> None:
    x = np.zeros((3, n), np.float32)
    x[0, n // 2] = np.nan
    x[1] = -np.inf
    x[2, n - 1] = np.inf
    kernel_set(name).log_softmax(x, x)
    assert np.isnan(x).all()


@every_implementation
def test_log_softmax_in_place_and_of_a_large_vocabulary(name: Implementation) -> None:
    x = np.random.default_rng(0).standard_normal((3, 32_769), np.float32) * 5
    expected = log_softmax_oracle(x)
    kernel_set(name).log_softmax(x, x)
    np.testing.assert_allclose(x, expected, atol=5e-6)


@every_implementation
def test_rows_without_elements_and_a_wrong_k_are_refused(name: Implementation) -> None:
    empty = np.empty((2, 0), np.float32)
    with pytest.raises(ValueError, match="rows without elements"):
        kernel_set(name).argmax(empty, np.empty(2, np.int64))
    with pytest.raises(ValueError, match="rows without elements"):
        kernel_set(name).log_softmax(empty, empty.copy())
    for k in (0, 4):
        with pytest.raises(ValueError, match=rf"k must be in \[1, 3\], got {k}"):
            kernel_set(name).top_k(
                np.zeros((2, 3), np.float32), np.empty((2, k), np.float32), np.empty((2, k), np.int64)
            )
