"""Kernels bound to a stream's arrays do what the kernels themselves do, chunk by chunk, on every implementation."""

from __future__ import annotations

import gc
import sys

import numpy as np
import pytest

from kernels import direct
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
        writer.write(chunk.tobytes())
        assert writer.cursor[0] == at % 700
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
    writer = kernel_set(name).ring_writer(ring)
    write, cursor = writer.write, writer.cursor
    del writer
    gc.collect()
    assert [write(bytes(2)) for _ in range(3)] == [None] * 3
    assert cursor.tolist() == [3]
    del write
    gc.collect()
    assert sys.getrefcount(ring) == before


@every_implementation
def test_results_are_counted_references(name: Implementation) -> None:
    kernels, log_probs = kernel_set(name), np.zeros((2_000, 2), np.float32)
    log_probs[1::2, 1] = 1
    read = kernels.greedy_reader(0, 2_000).read
    found = [read(log_probs) for _ in range(50)]  # beyond the integers that Python keeps for good
    assert found == [1_000] * 50
    assert {sys.getrefcount(value) for value in found} <= {3, 4}  # the list, the loop, the call
    write, out, labels = kernels.ring_writer(np.zeros(9, np.float32)).write, np.zeros(2, np.float32), np.zeros(1, int)
    before = sys.getrefcount(None)
    for _ in range(2_000):
        write(bytes(4))
        kernels.pcm16_to_float32(bytes(4), out)
        kernels.argmax(log_probs[:1], labels)
    assert abs(sys.getrefcount(None) - before) < 500  # and no other number where `None` is not counted


@every_implementation
def test_the_score_is_the_sum_of_the_best_path_however_it_is_cut(name: Implementation) -> None:
    log_probs = np.random.default_rng(3).standard_normal((100, 29)).astype(np.float32)
    whole = kernel_set(name).greedy_reader(0, 100)
    whole.read(log_probs)
    assert whole.score[0] == sum(log_probs.max(axis=1).astype(np.float64).tolist(), 0.0)
    cut = kernel_set(name).greedy_reader(0, 100)
    for start, stop in ((0, 1), (1, 8), (8, 50), (50, 100)):
        cut.read(log_probs[start:stop])
    assert cut.score.tolist() == whole.score.tolist()
    for value, expected in ((np.nan, np.nan), (np.inf, np.inf), (-np.inf, whole.score[0])):
        broken = kernel_set(name).greedy_reader(0, 100)
        damaged = log_probs.copy()
        damaged[77, int(log_probs[77].argmin())] = value
        broken.read(damaged)
        np.testing.assert_equal(broken.score[0], expected)


@every_implementation
def test_names_of_arguments_and_long_arrays_go_the_long_way_to_the_same_end(name: Implementation) -> None:
    kernels, rng = kernel_set(name), np.random.default_rng(4)
    x = rng.standard_normal((3, direct.MOST // 2), np.float32)
    labels = np.zeros(3, np.int64)
    kernels.argmax(x, labels)
    assert labels.tolist() == x.argmax(axis=1).tolist()
    kernels.argmax(out=labels, x=-x)
    assert labels.tolist() == x.argmin(axis=1).tolist()
    samples = rng.integers(-32768, 32768, direct.MOST + 1).astype("<i2")
    out = np.zeros(samples.size, np.float32)
    kernels.pcm16_to_float32(samples.tobytes(), out)
    np.testing.assert_array_equal(out, samples / np.float32(32768))
    kernels.pcm16_to_float32(out=out[:5], pcm=bytes(10))
    assert not out[:5].any()


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
