"""Forced alignment against trying every alignment."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from kernels import ctc_align


def best_by_hand(values: np.ndarray, tokens: tuple[int, ...]) -> tuple[float, tuple[int, ...]]:
    def collapsed(path: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(label for label, before in zip(path, (0, *path), strict=False) if label not in (0, before))

    fitting = (path for path in product(range(values.shape[1]), repeat=len(values)) if collapsed(path) == tokens)
    return max((sum(values[t, label] for t, label in enumerate(path)), path) for path in fitting)


@pytest.mark.parametrize("tokens", [(1,), (1, 2), (1, 1), (2, 1, 2), (1, 1, 1), (3, 3, 2)])
@pytest.mark.parametrize("seed", range(3))
def test_finds_the_best_alignment(tokens: tuple[int, ...], seed: int) -> None:
    values = np.log(np.random.default_rng(seed).dirichlet(np.ones(4), 6)).astype(np.float32)
    frames, confidences = np.empty((len(tokens), 2), np.int64), np.empty(len(tokens), np.float32)
    assert ctc_align.align().call(values, 0, np.array(tokens), frames, confidences) == len(tokens)
    score, path = best_by_hand(values, tokens)
    aligned = np.zeros(len(values), np.int64)
    for token, (start, end) in zip(tokens, frames, strict=True):
        aligned[start : end + 1] = token
    assert sum(values[np.arange(len(values)), aligned]) == pytest.approx(score, abs=1e-5)
    assert tuple(aligned) == path
    for token, (start, end), confidence in zip(tokens, frames, confidences, strict=True):
        assert confidence == pytest.approx(np.exp(values[start : end + 1, token].max()), rel=1e-5)


@pytest.mark.parametrize("tokens", [(1, 1), (1, 2, 3), (2, 2, 2)])
def test_tokens_that_do_not_fit(tokens: tuple[int, ...]) -> None:
    values = np.zeros((2, 4), np.float32)
    frames, confidences = np.empty((3, 2), np.int64), np.empty(3, np.float32)
    assert ctc_align.align().call(values, 0, np.array(tokens), frames, confidences) == -1


def test_no_tokens_and_no_frames() -> None:
    frames, confidences = np.empty((1, 2), np.int64), np.empty(1, np.float32)
    align = ctc_align.align().call
    assert align(np.zeros((3, 4), np.float32), 0, np.empty(0, np.int64), frames, confidences) == 0
    assert align(np.zeros((0, 4), np.float32), 0, np.array([1]), frames, confidences) == -1
