"""Kernels, buffers, and what lies below them: allocators and pages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest


def check_kernel(kernels: Any) -> None:
    from pipelines.contracts import Kernels

    assert isinstance(kernels, Kernels)
    rng = np.random.default_rng(0)
    samples = rng.integers(-32768, 32768, 1_601, np.int16)
    for count in (0, 1, 15, 16, 17, 1_601):
        pcm = samples[:count].astype("<i2").tobytes()
        out = np.full(count, np.nan, np.float32)
        kernels.pcm16_to_float32(pcm, out)
        np.testing.assert_array_equal(out, samples[:count] / np.float32(32768))
        ring = np.zeros(2_000, np.float32)
        assert kernels.pcm16_into_ring(pcm, ring, 1_500) == (1_500 + count) % 2_000
        np.testing.assert_array_equal(np.roll(ring, -1_500)[:count], out)
    with pytest.raises(ValueError, match="even number of bytes"):
        kernels.pcm16_to_float32(b"\x00\x00\x00", np.empty(1, np.float32))
    with pytest.raises(ValueError, match="out must be"):
        kernels.pcm16_to_float32(b"\x00\x00", np.empty(2, np.float32))
    telephone = np.empty(2, np.float32)
    kernels.mulaw_to_float32(b"\x80\x00", telephone)
    assert telephone.tolist() == [32124 / 32768, -32124 / 32768]
    kernels.alaw_to_float32(b"\xaa\x2a", telephone)
    assert telephone.tolist() == [32256 / 32768, -32256 / 32768]

    x = rng.standard_normal((5, 37)).astype(np.float32)
    labels, values, indices = np.empty(5, np.int64), np.empty((5, 3), np.float32), np.empty((5, 3), np.int64)
    kernels.argmax(x, labels)
    assert labels.tolist() == x.argmax(axis=1).tolist()
    kernels.top_k(x, values, indices)
    assert indices.tolist() == np.argsort(-x, axis=1)[:, :3].tolist()
    scores = np.empty_like(x)
    kernels.log_softmax(x, scores)
    np.testing.assert_allclose(np.exp(scores).sum(axis=1), 1, rtol=1e-5)
    turned = np.empty((1, 37, 5), np.float32)
    kernels.transpose(x[None], turned)
    np.testing.assert_array_equal(turned[0], x.T)

    scores[:] = np.log(0.01)
    scores[np.arange(5), [4, 4, 0, 4, 9]] = np.log([0.5, 0.75, 0.9, 1.0, 0.25])
    carry, tokens, frames = np.array([0]), np.empty(5, np.int64), np.empty((5, 2), np.int64)
    confidences = np.empty(5, np.float32)
    assert kernels.ctc_greedy(scores, 0, carry, tokens, confidences, frames) == 3
    assert (tokens[:3].tolist(), frames[:3].tolist(), carry.tolist()) == ([4, 4, 9], [[0, 1], [3, 3], [4, 4]], [9])
    np.testing.assert_allclose(confidences[:3], [0.75, 1.0, 0.25], rtol=1e-6)
    energies = np.empty((1, 2), np.float32)
    bank = np.array([1, 2, 3], np.float32), np.array([0, 3]), np.array([2, 4])
    power = np.array([[1, 2, 9, 0]], np.float32)
    kernels.log_mel(power, *bank, 0.0, 0.5, energies)
    np.testing.assert_allclose(energies, np.log([[5, 0.5]]), rtol=1e-6)
    bound = np.empty_like(energies)
    assert kernels.mel_writer(*bank, 0.0, 0.5)(power, bound) == 1
    np.testing.assert_array_equal(bound, energies)


def check_memory(buffers: Any) -> None:
    with buffers.lease((3, 5), np.float32) as first, buffers.lease((3, 5), np.int64) as second:
        assert (first.shape, first.dtype) == ((3, 5), np.float32)
        assert (second.shape, second.dtype) == ((3, 5), np.int64)
        assert first.flags.c_contiguous
        assert first.flags.writeable
        assert not np.shares_memory(first, second)
    with buffers.lease((0, 4), np.float32) as empty:
        assert empty.size == 0


def check_allocator(name: str) -> None:
    from pipelines.allocators import process

    assert name.split()[0] in process.name()
    before = process.live_bytes()
    assert before is not None
    block = bytearray(32 << 20)
    grown = process.live_bytes()
    assert grown is not None
    assert 31 << 20 < grown - before < 48 << 20  # another thread may have given back a little meanwhile
    del block


def check_pages(moved: int) -> None:
    assert moved % (2 << 20) == 0
    rollup = Path("/proc/self/smaps_rollup").read_text("ascii")
    [huge_kib] = [int(line.split()[1]) for line in rollup.splitlines() if line.startswith("AnonHugePages:")]
    assert huge_kib * 1024 >= 0.9 * moved  # the kernel may have split some again
