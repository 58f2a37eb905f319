"""The buffer pool: leases, reuse, bounds, counters."""

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.buffers import ALIGNMENT, SMALLEST_CLASS, BufferPool, size_class


@given(st.integers(0, 1 << 34))
def test_size_class_holds_the_size_and_wastes_less_than_half(size: int) -> None:
    found = size_class(size)
    assert found >= size
    assert found == SMALLEST_CLASS or found < 2 * size
    assert found & (found - 1) == 0


@given(st.lists(st.integers(0, 40), min_size=1, max_size=3), st.sampled_from(["f4", "f8", "i2", "u1"]))
def test_lease_has_shape_type_alignment_and_layout(shape: list[int], dtype: str) -> None:
    with BufferPool().lease(tuple(shape), dtype) as array:
        assert array.shape == tuple(shape)
        assert array.dtype == np.dtype(dtype)
        assert array.flags.c_contiguous
        assert array.flags.writeable
        assert array.ctypes.data % ALIGNMENT == 0 or array.size == 0


def test_a_returned_buffer_is_used_again_for_its_size_class() -> None:
    pool = BufferPool()
    with pool.lease((100,), np.float32) as first:
        address = first.ctypes.data
    with pool.lease((110,), np.float32) as second:
        assert second.ctypes.data == address
    assert (pool.counters.hits, pool.counters.misses) == (1, 1)


def test_leases_in_use_never_overlap() -> None:
    pool = BufferPool()
    with pool.lease((64,), np.float32) as first, pool.lease((64,), np.float32) as second:
        first[:] = 1
        second[:] = 2
        assert first.sum() == 64
        assert not np.shares_memory(first, second)


def test_counters_follow_use() -> None:
    pool = BufferPool()
    with pool.lease((256,), np.uint8), pool.lease((256,), np.uint8):
        assert pool.counters.in_use_bytes == 512
    assert pool.counters.in_use_bytes == 0
    assert pool.counters.high_water_bytes == 512
    assert pool.counters.idle_bytes == 512


def test_idle_buffers_are_bounded() -> None:
    pool = BufferPool(max_idle_bytes=300)
    with pool.lease((256,), np.uint8), pool.lease((256,), np.uint8):
        pass
    assert pool.counters.idle_bytes == 256
    assert pool.counters.dropped == 1


def test_double_release_is_an_error() -> None:
    lease = BufferPool().lease((4,), np.float32)
    lease.release()
    with pytest.raises(RuntimeError, match="double release"):
        lease.release()
    with pytest.raises(RuntimeError, match="given back already"), lease:
        pass


def test_threads_never_share_a_buffer() -> None:
    pool = BufferPool()
    clashes = []

    def work(number: int) -> None:
        for _ in range(300):
            with pool.lease((512,), np.int64) as array:
                array[:] = number
                if (array != number).any():
                    clashes.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not clashes
    assert pool.counters.in_use_bytes == 0
    assert pool.counters.hits + pool.counters.misses == 1200
