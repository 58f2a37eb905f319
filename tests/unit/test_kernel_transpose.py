"""The blocked transpose, against NumPy's view, for every implementation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.dispatch import Implementation
from tests.unit.kernel_sets import every_implementation, examples, kernel_set


@every_implementation
@examples
@given(shape=st.tuples(st.integers(0, 3), st.integers(0, 50), st.integers(0, 50)), start=st.integers(0, 3))
def test_every_bit_arrives(name: Implementation, shape: tuple[int, int, int], start: int) -> None:
    rng = np.random.default_rng(0)
    raw = np.frombuffer(rng.bytes(4 * np.prod(shape) + start), np.uint8)[start:]  # any bit pattern, at any address
    x = raw.view(np.float32).reshape(shape)
    out = np.zeros((shape[0], shape[2], shape[1]), np.float32)
    kernel_set(name).transpose(x, out)
    np.testing.assert_array_equal(out.view(np.uint32), x.transpose(0, 2, 1).view(np.uint32) if x.size else out)


@every_implementation
@pytest.mark.parametrize("shape", [(1, 512, 1504), (2, 300, 257), (1, 256, 32), (1, 257, 33)])
def test_shapes_beyond_one_block_and_back(name: Implementation, shape: tuple[int, int, int]) -> None:
    x = np.random.default_rng(0).standard_normal(shape, np.float32)
    out, again = np.empty((shape[0], shape[2], shape[1]), np.float32), np.empty_like(x)
    kernel_set(name).transpose(x, out)
    np.testing.assert_array_equal(out, x.transpose(0, 2, 1))
    kernel_set(name).transpose(out, again)
    np.testing.assert_array_equal(again, x)


@every_implementation
def test_shared_memory_is_refused(name: Implementation) -> None:
    x = np.zeros((1, 4, 4), np.float32)
    with pytest.raises(ValueError, match="must not share memory"):
        kernel_set(name).transpose(x, x)
