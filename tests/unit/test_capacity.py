"""The capacity model against simulations of what it models, and its edges."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.capacity import (
    Rounds,
    round_latency,
    simulate_rounds,
    simulate_workers,
    streams_within,
    worker_latency,
)

CPU, GPU = Rounds(0.0005, 0.004, 0.3), Rounds(0.001, 0.0001, 0.2)


@pytest.mark.parametrize("rounds", [CPU, GPU])
@pytest.mark.parametrize("load", [0.2, 0.5])
def test_rounds_within_a_fifth_up_to_half_the_load(rounds: Rounds, load: float) -> None:
    streams = int(load / rounds.chunk_s * 0.168)
    simulated = np.quantile(simulate_rounds(rounds, streams, 0.168, 40_000), [0.5, 0.99])
    told = [round_latency(rounds, streams, 0.168, quantile) for quantile in (0.5, 0.99)]
    np.testing.assert_allclose(told, simulated, rtol=0.2)


def test_at_high_load_the_model_errs_on_the_safe_side() -> None:
    streams = int(0.8 / CPU.chunk_s * 0.168)
    simulated = np.quantile(simulate_rounds(CPU, streams, 0.168, 40_000), 0.99)
    assert simulated < round_latency(CPU, streams, 0.168, 0.99) < 2 * simulated


@pytest.mark.parametrize(("workers", "load", "spread"), [(1, 0.7, 1.0), (2, 0.5, 0.8), (2, 0.8, 0.8), (8, 0.9, 0.5)])
def test_workers_within_a_fifth(workers: int, load: float, spread: float) -> None:
    rate = load * workers / 0.3
    simulated = np.quantile(simulate_workers(rate, 0.3, spread, workers, 60_000), [0.5, 0.99])
    told = [worker_latency(rate, 0.3, spread, workers, quantile) for quantile in (0.5, 0.99)]
    np.testing.assert_allclose(told, simulated, rtol=0.2)


def test_what_cannot_hold_takes_for_ever() -> None:
    assert round_latency(CPU, 43, 0.168, 0.99) == math.inf
    assert worker_latency(7.0, 0.3, 1.0, 2, 0.99) == math.inf
    assert streams_within(CPU, 0.168, 0.001) == 0


def test_the_most_streams_are_the_most() -> None:
    most = streams_within(CPU, 0.168, 0.050)
    assert round_latency(CPU, most, 0.168, 0.99) <= 0.050 < round_latency(CPU, most + 1, 0.168, 0.99)


def test_a_line_through_measured_rounds() -> None:
    rng = np.random.default_rng(0)
    times = [(GPU.seconds(size) * rng.uniform(0.9, 1.1, 200)).tolist() for size in (1, 8, 64)]
    found = Rounds.fitted((1, 8, 64), times)
    assert found.fixed_s == pytest.approx(GPU.fixed_s, rel=0.05)
    assert found.chunk_s == pytest.approx(GPU.chunk_s, rel=0.05)
    assert found.spread == pytest.approx(0.2 / math.sqrt(12), rel=0.1)
    with pytest.raises(ValueError, match="two batch sizes"):
        Rounds.fitted((4, 4), times[:2])
