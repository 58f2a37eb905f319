"""Kernels on a GPU beside those of one CPU core: arrays that are there already, and arrays that come from the host."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

import numpy as np
from numba import cuda

from kernels import device
from kernels.device_beam import BeamSearch
from kernels.dispatch import problem
from kernels.kernel_set import KernelSet

STREAMS, FRAMES, LABELS = 64, 500, 512
SAMPLES = 480_000
TIMES = 30


def measured() -> dict[str, Any]:
    """Seconds of each kernel: `cpu` on one core, `cupy` from and to the host, `device` where the arrays stay there."""
    rng = np.random.default_rng(0)
    cpu = KernelSet()
    missing = problem("cupy")
    cupy = None if missing else KernelSet("cupy")
    found = {
        name: case(rng, cpu, cupy)
        for name, case in {
            f"PCM to float32, {STREAMS} x {SAMPLES // 10}": _pcm,
            f"transpose, {STREAMS} x {LABELS} x {FRAMES}": _transpose,
            f"top 8 of {LABELS}, {STREAMS * FRAMES} rows": _top_k,
            f"greedy, {STREAMS} x {FRAMES} x {LABELS}": _greedy,
            f"beam of 8, {STREAMS} x 100 x {LABELS}": _beam,
        }.items()
    }
    return {
        "bytes_per_s": _copied(), "cpu": cpu.implementation,
        "cupy": missing.reason if missing else None, "cases": found,
    }  # fmt: skip


def _copied() -> float:
    """Bytes that a copy of 1 GiB on the device reads and writes in a second."""
    block = cuda.device_array(1 << 28, np.float32)
    twin = cuda.device_array_like(block)
    return 2 * block.nbytes / float(np.median(_on_device(lambda: twin.copy_to_device(block))))


def _pcm(rng: np.random.Generator, cpu: KernelSet, cupy: KernelSet | None) -> dict[str, Any]:
    samples = rng.integers(-32_768, 32_768, STREAMS * SAMPLES // 10, np.int16)
    data, out = samples.tobytes(), np.zeros(samples.size, np.float32)
    there = cuda.to_device(samples)
    np.testing.assert_array_equal(device.pcm16_to_float32(there).copy_to_host(), samples / np.float32(32_768))
    return _case(
        6 * samples.size, lambda: device.pcm16_to_float32(there),
        cpu=lambda: cpu.pcm16_to_float32(data, out), cupy=cupy and (lambda: cupy.pcm16_to_float32(data, out)),
    )  # fmt: skip


def _transpose(rng: np.random.Generator, cpu: KernelSet, cupy: KernelSet | None) -> dict[str, Any]:
    x = rng.standard_normal((STREAMS, LABELS, FRAMES), np.float32)
    out = np.zeros((STREAMS, FRAMES, LABELS), np.float32)
    there = cuda.to_device(x)
    np.testing.assert_array_equal(device.transpose(there).copy_to_host(), x.transpose(0, 2, 1))
    return _case(
        2 * x.nbytes, lambda: device.transpose(there),
        cpu=lambda: cpu.transpose(x, out), cupy=cupy and (lambda: cupy.transpose(x, out)),
    )  # fmt: skip


def _top_k(rng: np.random.Generator, cpu: KernelSet, cupy: KernelSet | None) -> dict[str, Any]:
    x = rng.standard_normal((STREAMS * FRAMES, LABELS), np.float32)
    values, indices = np.zeros((len(x), 8), np.float32), np.zeros((len(x), 8), np.int64)
    there = cuda.to_device(x)
    cpu.top_k(x, values, indices)
    np.testing.assert_array_equal(device.top_k(there, 8)[1].copy_to_host(), indices)
    return _case(
        x.nbytes + values.nbytes + indices.nbytes, lambda: device.top_k(there, 8),
        cpu=lambda: cpu.top_k(x, values, indices), cupy=cupy and (lambda: cupy.top_k(x, values, indices)),
    )  # fmt: skip


def _greedy(rng: np.random.Generator, cpu: KernelSet, cupy: KernelSet | None) -> dict[str, Any]:
    x = _log_probs(rng, FRAMES)
    tokens, sure = np.zeros(FRAMES, np.int64), np.zeros(FRAMES, np.float32)
    frames, carry = np.zeros((FRAMES, 2), np.int64), np.zeros(1, np.int64)

    def on(kernels: KernelSet) -> None:
        for one in x:
            carry[0] = 0
            kernels.ctc_greedy(one, 0, carry, tokens, sure, frames)

    there, lengths = cuda.to_device(x), cuda.to_device(np.full(STREAMS, FRAMES))
    carries = cuda.to_device(np.zeros(STREAMS, np.int64))
    found = device.ctc_greedy(there, lengths, 0, carries)
    carry[0] = 0
    count = cpu.ctc_greedy(x[0], 0, carry, tokens, sure, frames)
    np.testing.assert_array_equal(found.tokens.copy_to_host()[0, :count], tokens[:count])
    return _case(
        x.nbytes, lambda: device.ctc_greedy(there, lengths, 0, carries),
        cpu=lambda: on(cpu), cupy=cupy and (lambda: on(cupy)),
    )  # fmt: skip


def _beam(rng: np.random.Generator, cpu: KernelSet, cupy: KernelSet | None) -> dict[str, Any]:
    there, lengths = cuda.to_device(_log_probs(rng, 100)), cuda.to_device(np.full(STREAMS, 100))

    def run() -> None:
        search = BeamSearch(STREAMS, 100, beam=8, choices=8, blank=0)
        search.push(there, lengths)
        search.finish()

    return _case(there.nbytes, run, cpu=None, cupy=None)


def _log_probs(rng: np.random.Generator, frames: int) -> Any:
    """Three blanks in four frames, as CTC models say them."""
    x = rng.standard_normal((STREAMS, frames, LABELS), np.float32) - 8
    path = np.where(rng.random((STREAMS, frames)) < 0.25, rng.integers(1, LABELS, (STREAMS, frames)), 0)
    np.put_along_axis(x, path[..., None], 0, axis=2)
    return x


def _case(
    moved: int, run: Callable[[], Any], *, cpu: Callable[[], Any] | None, cupy: Callable[[], Any] | None
) -> dict[str, Any]:
    return {
        "bytes": moved,
        "device_s": _on_device(run),
        "cpu_s": None if cpu is None else _on_host(cpu),
        "cupy_s": None if cupy is None else _on_host(cupy),
    }


def _on_host(call: Callable[[], Any]) -> list[float]:
    call()
    times = []
    for _ in range(TIMES):
        started = perf_counter()
        call()
        times.append(perf_counter() - started)
    return times


def _on_device(call: Callable[[], Any]) -> list[float]:
    """Between CUDA events; what the host needs to start it is in it where the device waits for that."""
    call()
    cuda.synchronize()
    times = []
    for _ in range(TIMES):
        start, end = cuda.event(), cuda.event()
        start.record()
        call()
        end.record()
        end.synchronize()
        times.append(cuda.event_elapsed_time(start, end) / 1e3)
    return times
