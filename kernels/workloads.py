"""Arguments for every operation at a given size: what tests, benchmarks and experiments call the kernels with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kernels.buffers import aligned_block
from kernels.dispatch import OPERATIONS, Operation
from kernels.features import MelBank, MelConfig, kaldi_triangles

SIZES: Mapping[str, int] = {"L1": 1_600, "L2": 65_536, "L3": 1_048_576, "DRAM": 16_777_216}
"""Elements, by where input and output together fit on the CPUs of 2020 and later (32 KiB, 1 MiB, 32 MiB, beyond).

1,600 samples are 100 ms of audio.
"""
LABELS = 512
"""Vocabulary of the rows of `ctc_greedy`, `log_softmax` and `top_k`."""
K = 10


@dataclass(frozen=True, slots=True)
class Workload:
    """One call of one operation.

    Attributes:
        operation: What is called.
        arguments: What it is called with, in the order of the kernels (`Loop.call`).
        outputs: Which of the arguments it writes.
        memcpy_bytes: Bytes of a copy that is as large as what the operation must read and write at least: half the
            bytes of both together.
    """

    operation: Operation
    arguments: tuple[Any, ...]
    outputs: tuple[int, ...]
    memcpy_bytes: int


def aligned(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A copy that begins on a cache line."""
    copy = aligned_block(values.nbytes).view(values.dtype).reshape(values.shape)
    copy[...] = values
    return copy


def _pcm16(n: int, rng: np.random.Generator) -> tuple[tuple[Any, ...], tuple[int, ...]]:
    data = rng.integers(-32768, 32768, n).astype("<i2").tobytes()
    return (data, aligned(np.zeros(n, np.float32))), (1,)


def _ring(n: int, rng: np.random.Generator) -> tuple[tuple[Any, ...], tuple[int, ...]]:
    data = rng.integers(-32768, 32768, n).astype("<i2").tobytes()
    return (data, aligned(np.zeros(2 * n, np.float32)), 2 * n - max(1, n // 3)), (1,)


def _g711(n: int, rng: np.random.Generator) -> tuple[tuple[Any, ...], tuple[int, ...]]:
    return (rng.bytes(n), aligned(np.zeros(n, np.float32))), (1,)


def _normal(shape: tuple[int, ...], rng: np.random.Generator) -> npt.NDArray[np.float32]:
    return aligned(rng.standard_normal(shape, np.float32))


def _argmax(n: int, rng: np.random.Generator) -> tuple[tuple[Any, ...], tuple[int, ...]]:
    rows = max(1, n // 1024)
    return (_normal((rows, min(n, 1024)), rng), aligned(np.zeros(rows, np.int64))), (1,)


def _ctc(n: int, rng: np.random.Generator) -> tuple[tuple[Any, ...], tuple[int, ...]]:
    frames = max(1, n // LABELS)
    log_probs = _normal((frames, LABELS), rng)
    log_probs -= 8
    log_probs[np.arange(frames), np.repeat(rng.integers(0, 40, frames), 4)[:frames] % 30] = 0
    outputs = (np.zeros(frames, np.int64), np.zeros(frames, np.float32), np.zeros((frames, 2), np.int64))
    return (log_probs, 0, np.zeros(1, np.int64), *(aligned(array) for array in outputs)), (2, 3, 4, 5)


def _transpose(n: int, rng: np.random.Generator) -> tuple[tuple[Any, ...], tuple[int, ...]]:
    channels = LABELS if n >= LABELS * LABELS else 32
    shape = (1, channels, max(1, n // channels))
    return (_normal(shape, rng), aligned(np.zeros((1, shape[2], shape[1]), np.float32))), (1,)


def _log_softmax(n: int, rng: np.random.Generator) -> tuple[tuple[Any, ...], tuple[int, ...]]:
    x = _normal((max(1, n // LABELS), LABELS), rng)
    return (x, aligned(np.zeros_like(x))), (1,)


def _top_k(n: int, rng: np.random.Generator) -> tuple[tuple[Any, ...], tuple[int, ...]]:
    x = _normal((max(1, n // LABELS), LABELS), rng)
    best, where = np.zeros((len(x), K), np.float32), np.zeros((len(x), K), np.int64)
    return (x, aligned(best), aligned(where)), (1, 2)


def _log_mel(n: int, rng: np.random.Generator) -> tuple[tuple[Any, ...], tuple[int, ...]]:
    bank = MelBank.packed(kaldi_triangles(MelConfig()))
    power = _normal((max(1, n // 257), 257), rng)
    np.square(power, out=power)
    out = aligned(np.zeros((len(power), bank.starts.size), np.float32))
    return (power, bank.weights, bank.starts, bank.ends, 0.0, 1e-7, out), (6,)


_MAKERS: Mapping[Operation, Callable[[int, np.random.Generator], tuple[tuple[Any, ...], tuple[int, ...]]]] = {
    "pcm16": _pcm16,
    "pcm16_ring": _ring,
    "mulaw": _g711,
    "alaw": _g711,
    "argmax": _argmax,
    "ctc_greedy": _ctc,
    "transpose": _transpose,
    "log_softmax": _log_softmax,
    "top_k": _top_k,
    "log_mel": _log_mel,
}


def workload(operation: Operation, elements: int) -> Workload:
    """Arguments with about `elements` elements of input; the same ones for the same size.

    Raises:
        ValueError: Fewer than one element, or an unknown operation.
    """
    if operation not in _MAKERS:
        raise ValueError(f"operation '{operation}' does not exist; have: {', '.join(OPERATIONS)}")
    if elements < 1:
        raise ValueError(f"a workload needs at least one element, got {elements}")
    arguments, outputs = _MAKERS[operation](elements, np.random.default_rng(elements))
    moved = sum(
        len(value) if isinstance(value, bytes) else value.nbytes for value in arguments if hasattr(value, "__len__")
    )
    if operation == "pcm16_ring":
        moved -= arguments[1].nbytes // 2
    return Workload(operation, arguments, outputs, moved // 2)
