"""Kernels bound to a stream's arrays do what the kernels themselves do, chunk by chunk, on every implementation."""

from __future__ import annotations

import gc
import sys

import numpy as np
import pytest

from kernels.dispatch import Implementation
from tests.unit.kernel_sets import every_implementation, kernel_set


@every_implementation
def test_chunks_follow_each_other_around_the_ring(name: Implementation) -> None:
    rng = np.random.default_rng(0)
    samples = rng.integers(-32768, 32768, 2_000).astype("<i2")
    writer = kernel_set(name).ring_writer(np.zeros(700, np.float32))
    at = 0
    for size in (1, 16, 17, 333, 0, 333, 700):
        chunk = samples[at : at + size]
        at += size
        assert writer.write(chunk.tobytes()) == at % 700 == writer.cursor[0]
        newest = min(at, 700)
        expected = samples[at - newest : at] / np.float32(32768)
        np.testing.assert_array_equal(np.roll(writer.ring, -at)[-newest:], expected)
    writer.write(memoryview(bytes(4)))  # not the fast type, the same result
    assert writer.cursor[0] == (at + 2) % 700


@every_implementation
def test_a_chunk_that_is_refused_changes_nothing(name: Implementation) -> None:
    writer = kernel_set(name).ring_writer(np.ones(8, np.float32))
    with pytest.raises(ValueError, match="even number of bytes, got 3"):
        writer.write(b"abc")
    with pytest.raises(ValueError, match="9 samples do not fit into a ring of 8"):
        writer.write(bytes(18))
    with pytest.raises(TypeError):
        writer.write("text")  # type: ignore[arg-type]
    assert writer.cursor[0] == 0
    assert (writer.ring == 1).all()
    writer.ring.flags.writeable = False
    with pytest.raises(ValueError, match="writable"):
        writer.write(bytes(2))


@every_implementation
def test_greedy_over_chunks_is_greedy_over_the_whole(name: Implementation) -> None:
    rng = np.random.default_rng(1)
    log_probs = np.round(rng.standard_normal((200, 29)) * 2).astype(np.float32)  # many ties, many repeats
    log_probs[:, 0] += 2
    carry, tokens, frames = np.zeros(1, np.int64), np.empty(200, np.int64), np.empty((200, 2), np.int64)
    count = kernel_set(name).ctc_greedy(log_probs, 0, carry, tokens, np.empty(200, np.float32), frames)
    reader = kernel_set(name).greedy_reader(0, 40)
    found: list[int] = []
    for start in range(0, 200, 40):
        some = reader.read(log_probs[start : start + 40])
        found += reader.tokens[:some].tolist()
        assert (reader.confidences[:some] > 0).all()
    assert found == tokens[:count].tolist()
    assert reader.carry.tolist() == carry.tolist()


@every_implementation
@pytest.mark.parametrize(
    ("log_probs", "message"),
    [
        (np.zeros((3, 5)), "log_probs must be contiguous native float32"),
        (np.zeros(5, np.float32), "log_probs must be contiguous native float32"),
        (np.zeros((3, 10), np.float32)[:, ::2], "log_probs must be contiguous native float32"),
        (np.zeros((3, 5), ">f4"), "log_probs must be contiguous native float32"),
        (np.zeros((9, 5), np.float32), "at least 9 rows"),
        (np.zeros((3, 2), np.float32), "blank must be one of the 2 labels, got 4"),
    ],
)
def test_log_probabilities_that_do_not_fit(name: Implementation, log_probs: np.ndarray, message: str) -> None:
    reader = kernel_set(name).greedy_reader(4, 8)
    with pytest.raises(ValueError, match=message):
        reader.read(log_probs)
    with pytest.raises((AttributeError, TypeError)):
        reader.read(None)  # type: ignore[arg-type]


@every_implementation
def test_a_bound_call_keeps_alive_what_it_needs_and_no_more(name: Implementation) -> None:
    ring = np.zeros(64, np.float32)
    before = sys.getrefcount(ring)
    write = kernel_set(name).ring_writer(ring).write
    gc.collect()
    assert [write(bytes(2)) for _ in range(3)] == [1, 2, 3]
    del write
    gc.collect()
    assert sys.getrefcount(ring) == before


@every_implementation
def test_results_are_counted_references(name: Implementation) -> None:
    write = kernel_set(name).ring_writer(np.zeros(1_000_000, np.float32)).write
    after = [write(bytes(2_000)) for _ in range(50)]  # beyond the integers that Python keeps for good
    assert after == list(range(1_000, 51_000, 1_000))
    assert {sys.getrefcount(value) for value in after} <= {3, 4}  # the list, the loop, the call


BANK = np.array([1, 2, 3], np.float32), np.array([0, 3]), np.array([2, 4]), 0.25, 0.5


@every_implementation
def test_a_bound_filter_bank_writes_what_the_kernel_writes(name: Implementation) -> None:
    write = kernel_set(name).mel_writer(*BANK)
    for frames, bins in ((0, 4), (1, 4), (7, 9)):
        power = np.random.default_rng(frames).uniform(0, 2, (frames, bins)).astype(np.float32)
        found, expected = np.full((frames, 2), np.nan, np.float32), np.full((frames, 2), np.nan, np.float32)
        assert write(power, found) == frames
        kernel_set(name).log_mel(power, *BANK, expected)
        np.testing.assert_array_equal(found, expected)


@every_implementation
@pytest.mark.parametrize(
    ("power", "out"),
    [
        (np.ones((2, 3), np.float32), np.ones((2, 2), np.float32)),
        (np.ones((2, 4), np.float32), np.ones((3, 2), np.float32)),
        (np.ones((2, 4), np.float32), np.ones((2, 3), np.float32)),
        (np.ones((2, 4)), np.ones((2, 2), np.float32)),
        (np.ones((2, 8), np.float32)[:, ::2], np.ones((2, 2), np.float32)),
        (np.ones((2, 4), np.float32), np.ones((2, 2), ">f4")),
        (np.ones(4, np.float32), np.ones((1, 2), np.float32)),
    ],
)
def test_spectra_that_do_not_fit(name: Implementation, power: np.ndarray, out: np.ndarray) -> None:
    before = out.copy()
    write = kernel_set(name).mel_writer(*BANK)
    with pytest.raises(ValueError, match="must be") as caught:
        write(power, out)
    with pytest.raises(ValueError, match="must be") as expected:
        kernel_set(name).log_mel(power, *BANK, out)
    assert str(caught.value) == str(expected.value)
    np.testing.assert_array_equal(out, before)
    with pytest.raises(TypeError):
        write(power)  # type: ignore[call-arg]


@every_implementation
def test_a_filter_bank_that_is_none_is_refused_at_once(name: Implementation) -> None:
    weights, starts, ends, guard, floor = BANK
    with pytest.raises(ValueError, match="weights"):
        kernel_set(name).mel_writer(weights[:2], starts, ends, guard, floor)
