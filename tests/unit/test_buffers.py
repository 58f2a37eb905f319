"""The buffer pool: leases, reuse, bounds, counters."""

import gc
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.buffers import ALIGNMENT, SMALLEST_CLASS, BufferPool, size_class
from kernels.dispatch import Implementation
from kernels.features import LogMel, MelConfig
from tests.allocations import traced
from tests.unit.kernel_sets import compiled_implementations, kernel_set


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


def test_a_pool_closed_with_buffers_in_use_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="1 pooled buffers of 256 bytes were never given back"), BufferPool() as pool:
        lease = pool.lease((4,), np.float32)
    lease.release()


def test_a_forgotten_lease_warns_and_is_counted() -> None:
    pool = BufferPool()
    with pytest.warns(ResourceWarning, match="256 bytes was never given back"):
        pool.lease((4,), np.float32)
        gc.collect()
    assert pool.snapshot().leaked == 1
    with pytest.raises(RuntimeError, match="1 of them leaked"):
        pool.close()


def test_an_error_in_the_block_is_not_hidden_by_the_check() -> None:
    with pytest.raises(KeyError), BufferPool() as pool:
        lease = pool.lease((4,), np.float32)
        raise KeyError
    lease.release()


def test_a_snapshot_does_not_follow_the_pool() -> None:
    pool = BufferPool()
    before = pool.snapshot()
    with pool.lease((4,), np.float32):
        assert pool.snapshot().in_use == 1
    assert before.in_use == before.misses == 0
    pool.close()
    assert pool.snapshot().idle_bytes == 0


CHUNK_S = 0.16
"""Seconds of audio in one chunk of a stream."""


@compiled_implementations
def test_a_chunk_allocates_no_array_once_warm(name: Implementation) -> None:
    """The CPU work of one 160 ms chunk around the model, all of it in leased buffers."""
    kernels, pool = kernel_set(name), BufferPool()
    samples = round(16_000 * CHUNK_S)
    pcm = np.random.default_rng(0).integers(-9_000, 9_000, samples).astype("<i2").tobytes()
    ring, carry = np.zeros(4 * samples, np.float32), np.zeros(1, np.int64)
    logits = np.random.default_rng(0).standard_normal((1, 512, 7), np.float32)

    def chunk() -> None:
        kernels.pcm16_into_ring(pcm, ring, 3 * samples + 100)
        with (
            pool.lease((samples,), np.float32) as audio,
            pool.lease((1, 7, 512), np.float32) as scores,
            pool.lease((7,), np.int64) as tokens,
            pool.lease((7,), np.float32) as confidences,
            pool.lease((7, 2), np.int64) as spans,
        ):
            kernels.pcm16_to_float32(pcm, audio)
            kernels.transpose(logits, scores)
            kernels.log_softmax(scores[0], scores[0])
            kernels.ctc_greedy(scores[0], 0, carry, tokens, confidences, spans)

    kept, peak, arrays = traced(chunk)
    assert pool.snapshot().misses == 5
    assert kept < 1_000
    assert arrays == 0
    assert peak < samples  # a quarter of the chunk's audio: views and Python's own objects


@compiled_implementations
def test_features_of_a_chunk_keep_nothing(name: Implementation) -> None:
    """NumPy's FFT and ufuncs take scratch memory for a moment; the arrays are leased."""
    pool = BufferPool()
    extract = LogMel(MelConfig(), kernel_set(name).mel_writer, pool)
    audio = np.zeros(round(16_000 * CHUNK_S), np.float32)
    out = np.zeros((extract.frames(audio.size), 80), np.float32)
    extract(audio, out)
    misses = pool.snapshot().misses
    kept, _, arrays = traced(lambda: extract(audio, out))
    assert pool.snapshot().misses == misses
    assert kept < 1_000
    assert arrays == 0


def test_the_tracing_notices_an_array() -> None:
    _, peak, _ = traced(lambda: np.zeros(2_560, np.float32).fill(1))
    assert peak >= 4 * 2_560
    kept: list[np.ndarray] = []
    grown, _, arrays = traced(lambda: kept.append(np.zeros(2_560, np.float32)))
    assert min(grown, arrays) >= 50 * 4 * 2_560
