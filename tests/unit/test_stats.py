"""The statistics give back what known distributions were made with, and their intervals cover what they claim."""

from __future__ import annotations

import numpy as np
import pytest

from harness.stats import (
    ASSUMED_PROCESS_FACTOR,
    bootstrap_interval,
    paired_ratio,
    quantiles,
    rate_interval,
    samples_to_bound,
    verdict,
)
from pipelines.errors import AmiraError

RNG = np.random.default_rng


def _two_cases(
    seed: int, effect: float, repeats: int, utterances: int, process: float, clip: float, sample: float
) -> tuple[np.ndarray, np.ndarray]:
    """Baseline and candidate (repeats, utterances): lognormal noise of each process, clip and sample."""
    rng = RNG(seed)
    length = np.exp(rng.normal(0, 0.6, utterances))
    shape = (repeats, utterances)
    baseline = length * np.exp(rng.normal(0, process, (repeats, 1)) + rng.normal(0, sample, shape))
    noise = rng.normal(0, process, (repeats, 1)) + rng.normal(0, clip, utterances) + rng.normal(0, sample, shape)
    return baseline, length * np.exp(noise) / effect


def test_quantiles_of_a_known_distribution() -> None:
    found = quantiles(np.arange(1001))
    assert (found.p50, found.p90, found.p99, found.n) == (500, 900, 990, 1001)
    assert found.p99_bounded


@pytest.mark.parametrize(("n", "bounded"), [(1, False), (90, False), (298, False), (299, True)])
def test_a_p99_from_few_samples_is_marked(n: int, bounded: bool) -> None:
    assert quantiles(np.ones(n)).p99_bounded is bounded


def test_samples_to_bound_is_wilks() -> None:
    assert (samples_to_bound(0.95), samples_to_bound(0.99)) == (59, 299)


@pytest.mark.parametrize("values", [[], [1.0, float("nan")], [float("inf")]])
def test_quantiles_refuse_what_is_no_sample(values: list[float]) -> None:
    with pytest.raises(AmiraError, match="finite"):
        quantiles(values)


def test_bootstrap_interval_agrees_with_the_normal_theory() -> None:
    values = RNG(3).normal(10, 2, 400)
    found = bootstrap_interval(values)
    half = 1.96 * values.std(ddof=1) / np.sqrt(400)
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - half, abs=0.03)
    assert found.high == pytest.approx(values.mean() + half, abs=0.03)


def test_bootstrap_interval_of_a_median_holds_it() -> None:
    found = bootstrap_interval(RNG(4).exponential(1, 500), np.median)
    assert found.low < np.log(2) < found.high


@pytest.mark.parametrize("values", [[5.0], [5.0, 5.0, 5.0]])
def test_bootstrap_interval_without_spread_has_no_width(values: list[float]) -> None:
    found = bootstrap_interval(values)
    assert (found.value, found.low, found.high) == (5, 5, 5)


def test_paired_ratio_is_the_geometric_mean_over_utterances() -> None:
    baseline = np.array([[8.0, 2.0], [8.0, 2.0]])
    found = paired_ratio(baseline, np.ones((2, 2)))
    assert found.value == pytest.approx(4)
    assert (found.repeats, found.utterances, found.note) == (2, 2, None)


def test_paired_ratio_and_its_inverse_mirror_each_other() -> None:
    baseline, candidate = _two_cases(1, 2.0, 3, 30, 0.02, 0.05, 0.02)
    there, back = paired_ratio(baseline, candidate), paired_ratio(candidate, baseline)
    assert there.value * back.value == pytest.approx(1)
    assert there.low * back.high == pytest.approx(1, abs=2e-3)


def test_the_same_data_give_the_same_interval() -> None:
    cases = _two_cases(1, 1.3, 3, 30, 0.02, 0.05, 0.02)
    assert paired_ratio(*cases) == paired_ratio(*cases)


@pytest.mark.parametrize(
    ("repeats", "process", "clip", "sample"),
    [
        (3, 0.03, 0.0, 0.02),  # a noisy machine: processes decide
        (3, 0.0, 0.08, 0.02),  # a quiet one: clips decide
        (3, 0.02, 0.08, 0.02),  # both of one size
        (5, 0.02, 0.05, 0.05),
    ],
)
def test_paired_ratio_covers_the_truth(repeats: int, process: float, clip: float, sample: float) -> None:
    """Of 95 % intervals, at least 93 % hold the truth (400 runs: three standard errors are 3.3 points)."""
    truth = 1.7
    found = [paired_ratio(*_two_cases(seed, truth, repeats, 25, process, clip, sample)) for seed in range(400)]
    covered = np.mean([ratio.low <= truth <= ratio.high for ratio in found])
    assert covered >= 0.93


def test_a_bootstrap_of_the_repeats_alone_would_not_cover() -> None:
    """Why the interval is not a plain hierarchical bootstrap: with 3 repeats it holds the truth far too rarely."""
    rng = RNG(0)
    held = []
    for seed in range(300):
        baseline, candidate = _two_cases(seed, 1.7, 3, 25, 0.03, 0.0, 0.02)
        per_repeat = np.log(baseline / candidate).mean(axis=1)
        means = per_repeat[rng.integers(0, 3, (500, 3))].mean(axis=1)
        low, high = np.quantile(means, (0.025, 0.975))
        held.append(low <= np.log(1.7) <= high)
    assert np.mean(held) < 0.85


def test_an_a_a_comparison_is_rarely_called_a_difference() -> None:
    verdicts = []
    for seed in range(300):
        found = paired_ratio(*_two_cases(seed, 1.0, 3, 25, 0.02, 0.02, 0.02))
        verdicts.append(verdict(found.low, found.high))
    assert sum(word in ("faster", "slower") for word in verdicts) <= 0.07 * 300


def test_paired_ratio_skips_pairs_that_only_one_case_has() -> None:
    baseline, candidate = _two_cases(2, 2.0, 3, 20, 0.001, 0.001, 0.001)
    candidate[2, 5:] = np.nan  # interrupted in the last repeat
    baseline[:, 19] = np.nan
    found = paired_ratio(baseline, candidate)
    assert found.value == pytest.approx(2, rel=0.01)
    assert (found.repeats, found.utterances) == (3, 19)


def test_one_repeat_assumes_the_noise_between_processes_and_says_so() -> None:
    found = paired_ratio(np.full((1, 5), 2.0), np.ones((1, 5)))
    assert found.low == pytest.approx(2 / ASSUMED_PROCESS_FACTOR)
    assert found.high == pytest.approx(2 * ASSUMED_PROCESS_FACTOR)
    assert found.note is not None
    assert "one repeat" in found.note


def test_one_value_per_process_is_a_t_interval_over_repeats() -> None:
    found = paired_ratio([[2.0], [2.2], [1.8]], np.ones((3, 1)))
    logs = np.log([2.0, 2.2, 1.8])
    half = 4.302653 * logs.std(ddof=1) / np.sqrt(3)
    assert np.log([found.low, found.high]) == pytest.approx([logs.mean() - half, logs.mean() + half])


def test_nothing_to_pair_is_an_error() -> None:
    with pytest.raises(AmiraError, match="no measured pair"):
        paired_ratio([[1.0, np.nan]], [[np.nan, 1.0]])
    with pytest.raises(AmiraError, match="one shape"):
        paired_ratio([[1.0, 2.0]], [[1.0]])


def test_rate_interval_is_spent_over_size_and_covers() -> None:
    rng = RNG(5)
    held = []
    for _ in range(200):
        sizes = rng.uniform(2, 10, 30)
        process, clip = rng.normal(0, 0.03, (3, 1)), rng.normal(0, 0.05, 30)
        found = rate_interval(0.05 * sizes * np.exp(process + clip), sizes)
        held.append(found.low <= 0.05 * np.exp(0.05**2 / 2) <= found.high)
    assert found.value == pytest.approx(0.05, rel=0.1)
    assert np.mean(held) >= 0.92


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [
        (1.5, 1.6, "faster"),
        (0.4, 0.5, "slower"),
        (0.99, 1.015, "no effect"),
        (1.005, 1.015, "no effect"),
        (1.005, 1.05, "faster"),
        (0.97, 1.01, "unclear"),
        (0.5, 3.0, "unclear"),
        (0.9, 0.99, "slower"),
    ],
)
def test_verdict_words(low: float, high: float, word: str) -> None:
    assert verdict(low, high) == word


def test_verdict_has_other_words_for_amounts() -> None:
    assert verdict(1.5, 1.6, better="less", worse="more") == "less"
    assert verdict(0.5, 0.6, better="less", worse="more") == "more"
