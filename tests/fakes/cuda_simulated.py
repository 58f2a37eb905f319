"""Runs the device kernels in numba's CUDA simulator against naive twins; started by `test_device_kernels.py`."""

from __future__ import annotations

import math

import numpy as np
from numba import cuda

from kernels import ctc_greedy, device
from kernels.device_beam import BeamSearch

RNG = np.random.default_rng(0)


def log_probs(*shape: int) -> np.ndarray:
    x = RNG.standard_normal(shape).astype(np.float32) * 2
    return (x - np.log(np.exp(x).sum(axis=-1, keepdims=True))).astype(np.float32)


def pcm() -> None:
    samples = RNG.integers(-32768, 32768, 19, np.int16)
    found = device.pcm16_to_float32(cuda.to_device(samples)).copy_to_host()
    np.testing.assert_array_equal(found, samples / np.float32(32768))


def transpose() -> None:
    x = RNG.standard_normal((1, 33, 34)).astype(np.float32)
    np.testing.assert_array_equal(device.transpose(cuda.to_device(x)).copy_to_host(), x.transpose(0, 2, 1))


def top_k() -> None:
    x = RNG.integers(0, 9, (3, 21)).astype(np.float32)
    x[1, 7] = np.nan
    values, indices = (array.copy_to_host() for array in device.top_k(cuda.to_device(x), 5))
    for row, best, where in zip(x, values, indices, strict=True):
        order = sorted(range(len(row)), key=lambda i: (not math.isnan(row[i]), -row[i] if row[i] == row[i] else 0, i))
        assert where.tolist() == order[:5]
        np.testing.assert_array_equal(best, row[where])


def greedy() -> None:
    x = log_probs(2, 12, 4)
    lengths = np.array([12, 7])
    carry = cuda.to_device(np.array([0, 2]))
    found = device.ctc_greedy(cuda.to_device(x), cuda.to_device(lengths), 0, carry)
    counts = found.counts.copy_to_host()
    for n, start in ((0, 0), (1, 2)):
        size = lengths[n]
        labels, sure, frames = np.empty(size, np.int64), np.empty(size, np.float32), np.empty((size, 2), np.int64)
        before = np.array([start])
        count = ctc_greedy.numpy_kernel().call(x[n, :size].copy(), 0, before, labels, sure, frames)
        assert counts[n] == count
        assert found.tokens.copy_to_host()[n, :count].tolist() == labels[:count].tolist()
        np.testing.assert_allclose(found.confidences.copy_to_host()[n, :count], sure[:count], rtol=1e-5)
        np.testing.assert_array_equal(found.frames.copy_to_host()[n, :count], frames[:count])
        assert carry.copy_to_host()[n] == before[0]


def naive_beam(x: np.ndarray, width: int, choices: int) -> tuple[list[int], float]:
    beam = {(): (0.0, -np.inf)}
    for frame in x:
        after: dict[tuple[int, ...], tuple[float, float]] = {}

        def add(prefix: tuple[int, ...], blank: float, label: float, after: dict = after) -> None:
            old = after.get(prefix, (-np.inf, -np.inf))
            after[prefix] = (np.logaddexp(old[0], blank), np.logaddexp(old[1], label))

        best = set(np.argsort(-frame, kind="stable")[:choices].tolist())
        for prefix, (blank, label) in beam.items():
            total = np.logaddexp(blank, label)
            add(prefix, total + frame[0], label + frame[prefix[-1]] if prefix else -np.inf)
            for token in range(1, len(frame)):
                longer = (*prefix, token)
                if token in best or longer in beam:
                    add(longer, -np.inf, (blank if prefix[-1:] == (token,) else total) + frame[token])
        ranked = sorted(after.items(), key=lambda item: -np.logaddexp(*item[1]))
        beam = dict(ranked[:width])
    prefix, parts = max(beam.items(), key=lambda item: np.logaddexp(*item[1]))
    return list(prefix), float(np.logaddexp(*parts))


def beam() -> None:
    for width, choices in ((1, 2), (3, 3)):
        x = log_probs(2, 7, 4)
        lengths = np.array([7, 5])
        search = BeamSearch(2, 7, beam=width, choices=choices, blank=0)
        search.push(cuda.to_device(x[:, :3].copy()), cuda.to_device(np.array([3, 3])))
        search.push(cuda.to_device(x[:, 3:].copy()), cuda.to_device(lengths - 3))
        tokens, scores = search.finish()
        for n in range(2):
            expected, score = naive_beam(x[n, : lengths[n]], width, choices)
            assert tokens[n] == expected
            np.testing.assert_allclose(scores[n], score, rtol=1e-5)


def refusals() -> None:
    x = cuda.to_device(log_probs(1, 2, 3))
    for call, message in (
        (lambda: device.top_k(cuda.to_device(np.zeros((1, 3), np.float32)), 4), "k must be in"),
        (lambda: device.ctc_greedy(x, x, 3, x), "blank must be one of"),
        (lambda: BeamSearch(1, 1, beam=2, choices=2, blank=0).push(x, x), "a chunk must be"),
        (lambda: BeamSearch(1, 1, beam=0, choices=2, blank=0), "1 or more"),
    ):
        try:
            call()
        except ValueError as error:
            assert message in str(error)
        else:
            raise AssertionError(message)


if __name__ == "__main__":
    for check in (pcm, transpose, top_k, greedy, beam, refusals):
        check()
        print(check.__name__)
