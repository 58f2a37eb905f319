"""Shifts by ranks, tails, blocks, sample sizes and change points, each against a distribution that is known."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pytest

from harness.stats import (
    blocked_rate_interval,
    change_points,
    paired_shift,
    proportion,
    quantile_interval,
    required_repeats,
    unpaired_shift,
)
from harness.stats.shift import _rank_sum_cut, _signed_rank_cut
from pipelines.errors import AmiraError

RNG = np.random.default_rng


@pytest.mark.parametrize("count", [6, 8, 11])
def test_the_signed_rank_cut_leaves_out_what_the_counted_distribution_allows(count: int) -> None:
    sums = np.array([sum(r for r, sign in enumerate(signs, 1) if sign) for signs in product([0, 1], repeat=count)])
    cut = _signed_rank_cut(count, 0.025)
    assert np.mean(sums <= cut) <= 0.025 < np.mean(sums <= cut + 1)


@pytest.mark.parametrize(("n", "m"), [(4, 4), (3, 7), (6, 5)])
def test_the_rank_sum_cut_leaves_out_what_the_counted_distribution_allows(n: int, m: int) -> None:
    counts = np.array([sum(ranks) - n * (n - 1) // 2 for ranks in combinations(range(n + m), n)])
    cut = _rank_sum_cut(n, m, 0.025)
    assert np.mean(counts <= cut) <= 0.025 < np.mean(counts <= cut + 1)


@pytest.mark.parametrize("repeats", [2, 3, 6, 8, 12, 60])
def test_paired_shift_covers_the_truth_whatever_the_tails(repeats: int) -> None:
    """At least 93 % of 95 % intervals (1,000 runs: three standard errors are 2.1 points)."""
    rng = RNG(repeats)
    noise = rng.standard_t(3, (1000, repeats)) if repeats >= 6 else rng.normal(0, 1, (1000, repeats))
    found = [paired_shift(0.3 + row) for row in noise]
    assert np.mean([shift.low <= 0.3 <= shift.high for shift in found]) >= 0.93


@pytest.mark.parametrize(("n", "m"), [(2, 3), (3, 3), (4, 4), (6, 12), (60, 55)])
def test_unpaired_shift_covers_the_truth(n: int, m: int) -> None:
    rng = RNG(n * m)
    found = [unpaired_shift(rng.normal(0, 1, n), rng.normal(0.3, 1, m)) for _ in range(1000)]
    assert np.mean([shift.low <= 0.3 <= shift.high for shift in found]) >= 0.93


def test_a_disturbed_repeat_hardly_moves_the_shift() -> None:
    calm = RNG(1).normal(0.05, 0.01, 12)
    hit = calm.copy()
    hit[3] = 5.0
    assert abs(paired_shift(hit).value - paired_shift(calm).value) < 0.005
    assert paired_shift(hit).high < 0.08


def test_one_repeat_says_nothing_about_noise() -> None:
    for shift in (paired_shift([0.2]), unpaired_shift([1.0], [1.2, 1.3])):
        assert (shift.low, shift.high) == (-np.inf, np.inf)
        assert shift.note is not None
        assert "one repeat" in shift.note


def test_repeats_without_spread_have_an_interval_without_width() -> None:
    for shift in (paired_shift([0.0] * 8), unpaired_shift([1.0] * 3, [1.0] * 3), paired_shift([0.0, 0.0])):
        assert (shift.value, shift.low, shift.high) == (0, 0, 0)


def test_quantile_interval_covers_the_true_tail() -> None:
    rng, truth = RNG(5), -np.log(0.05)
    held = [(s := quantile_interval(rng.exponential(1, 200), 0.95)).low <= truth <= s.high for _ in range(1000)]
    assert np.mean(held) >= 0.94


def test_a_tail_with_too_few_samples_has_no_upper_end() -> None:
    assert quantile_interval(np.arange(50.0), 0.99).high == np.inf
    assert quantile_interval(np.arange(2000.0), 0.99).high < 2000


def test_blocked_rate_interval_covers_where_errors_go_together() -> None:
    """Speakers with rates of their own: drawing words one by one would give a far too narrow interval."""
    rng, held, words = RNG(6), 0, 200
    for _ in range(200):
        rates = rng.beta(2, 18, 40)
        errors = rng.binomial(words, rates)
        found = blocked_rate_interval(errors, np.full(40, words), resamples=500)
        held += found.low <= 0.1 <= found.high
    assert held / 200 >= 0.9


def test_blocked_rate_interval_of_one_block_or_no_spread() -> None:
    assert np.isnan(blocked_rate_interval([3], [100]).low)
    same = blocked_rate_interval([0, 0, 0], [10, 20, 30])
    assert (same.value, same.low, same.high) == (0, 0, 0)


def test_required_repeats_reach_the_wanted_power() -> None:
    wanted = required_repeats(0.02, 0.015, power=0.9)
    assert wanted is not None
    rng = RNG(8)
    for count, least, most in ((wanted, 0.86, 1.0), (wanted // 2, 0.0, 0.8)):
        seen = np.mean([paired_shift(rng.normal(0.015, 0.02, count)).low > 0 for _ in range(500)])
        assert least <= seen <= most


def test_required_repeats_at_the_ends() -> None:
    assert required_repeats(0.0, 0.01) == 2
    assert required_repeats(1.0, 1e-5) is None
    with pytest.raises(AmiraError, match="effect above 0"):
        required_repeats(0.1, 0.0)


def test_proportion_is_clopper_and_pearson() -> None:
    found = proportion(0, 1000)
    assert (found.value, found.low) == (0, 0)
    assert found.high == pytest.approx(1 - 0.025 ** (1 / 1000))
    assert proportion(50, 50).low == pytest.approx(0.025 ** (1 / 50))
    with pytest.raises(AmiraError, match="at least one trial"):
        proportion(0, 0)


def test_change_points_finds_where_a_history_changed() -> None:
    rng = RNG(2)
    history = np.concatenate([rng.normal(10, 1, 25), rng.normal(14, 1, 20), rng.normal(11, 1, 25)])
    changes = change_points(history)
    assert [change.index for change in changes] == pytest.approx([25, 45], abs=1)
    assert [(round(c.before), round(c.after)) for c in changes] == [(10, 14), (14, 11)]


def test_a_flat_history_has_no_change_point() -> None:
    rng = RNG(3)
    assert sum(bool(change_points(rng.normal(0, 1, 30))) for _ in range(20)) <= 2
    assert change_points([5.0] * 30) == []
    assert change_points([1.0, 9.0]) == []


@pytest.mark.parametrize(("place", "bad_nights", "least"), [(4, 0.0, 8), (15, 0.0, 9), (26, 0.0, 8), (15, 0.05, 7)])
@pytest.mark.parametrize("size", [0.95, 1.05])
def test_a_planted_change_is_found_where_it_is(place: int, bad_nights: float, least: int, size: float) -> None:
    """Of 5 % over noise of 1 %, once four runs have the new level; in spite of nights that are slower by 30 %."""
    found = 0
    for seed in range(10):
        rng = RNG(seed)
        level = np.where(np.arange(30) < place, 100.0, 100.0 * size)
        nights = np.where(rng.random(30) < bad_nights, 1.3, 1.0)
        changes = change_points(level * np.exp(rng.normal(0, 0.01, 30)) * nights)
        near = [change for change in changes if abs(change.index - place) <= 1]
        found += len(near) == 1
        assert all((change.after > change.before) == (size > 1) for change in near)
    assert found >= least


def test_two_planted_changes_are_both_found() -> None:
    rng = RNG(3)
    level = np.repeat([100.0, 80.0, 90.0], 12)
    changes = change_points(level * np.exp(rng.normal(0, 0.01, 36)))
    assert [change.index for change in changes] == [12, 24]
    assert [round(change.after / change.before, 1) for change in changes] == [0.8, 1.1]
