"""How far one set of repeats lies from another, whatever a few disturbed ones say.

On a shared machine some repeats are hit by a neighbour and lie far off, so the mean and its Student interval are at
the mercy of the worst one. The Hodges-Lehmann shift (the median of all averages of two differences; unpaired, of all
differences) hardly moves, and its interval comes from the exact distribution of the signed-rank (paired) or rank-sum
statistic (unpaired) and assumes no distribution (Hollander, Wolfe and Chicken, "Nonparametric Statistical Methods",
chapters 3 and 4). With so few repeats that ranks cannot reach the confidence (fewer than six pairs for 95 %), the
Student interval stands in and the result says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import comb, sqrt

import numpy as np
import numpy.typing as npt

from harness.stats.samples import CONFIDENCE, Floats, finite

EXACT_UP_TO = 50
"""Repeats up to which the rank distribution is counted; beyond, the normal one is as good."""
ONE_REPEAT = "one repeat: how far a repeat may lie off by chance could not be measured"


@dataclass(frozen=True, slots=True)
class Shift:
    """Where the second lies from the first, in the unit of the samples.

    Attributes:
        value: The estimate.
        low: Lower end of the interval; minus infinity where one repeat allows none.
        high: Upper end.
        repeats: How many repeats the smaller side has.
        note: What limits the interval, `None` where nothing does.
    """

    value: float
    low: float
    high: float
    repeats: int
    note: str | None = None


def paired_shift(differences: npt.ArrayLike, confidence: float = CONFIDENCE) -> Shift:
    """The shift of paired repeats.

    Args:
        differences: Second less first of each pair, (repeats,), finite, at least one.
        confidence: Of the two-sided interval.
    """
    values = finite(differences)
    count = values.size
    rows, columns = np.triu_indices(count)
    averages = np.sort((values[rows] + values[columns]) / 2)
    value = float(np.median(averages))
    if count == 1:
        return Shift(value, -np.inf, np.inf, 1, ONE_REPEAT)
    tail = (1 - confidence) / 2
    if 0.5**count > tail:
        return _student(values, tail)
    cut = _signed_rank_cut(count, tail)
    return Shift(value, float(averages[cut]), float(averages[-1 - cut]), count)


def unpaired_shift(first: npt.ArrayLike, second: npt.ArrayLike, confidence: float = CONFIDENCE) -> Shift:
    """The shift from `first` to `second`, repeats that were not measured as pairs.

    Args:
        first: Repeats of one side, (n,), finite, at least one.
        second: Repeats of the other, (m,).
        confidence: Of the two-sided interval.
    """
    a, b = finite(first), finite(second)
    differences = np.sort(np.subtract.outer(b, a).ravel())
    value = float(np.median(differences))
    smaller = min(a.size, b.size)
    if smaller == 1:
        return Shift(value, -np.inf, np.inf, 1, ONE_REPEAT)
    tail = (1 - confidence) / 2
    if 1 / comb(a.size + b.size, a.size) > tail:
        return _welch(a, b, tail)
    cut = _rank_sum_cut(a.size, b.size, tail)
    return Shift(value, float(differences[cut]), float(differences[-1 - cut]), smaller)


def _student(values: Floats, tail: float) -> Shift:
    from scipy.stats import t

    value, arm = float(values.mean()), float(t.ppf(1 - tail, values.size - 1)) * _standard_error(values)
    note = f"{values.size} repeats are too few for ranks: a normal distribution is assumed"
    return Shift(value, value - arm, value + arm, values.size, note)


def _welch(a: Floats, b: Floats, tail: float) -> Shift:
    from scipy.stats import t

    value, errors = float(b.mean() - a.mean()), (_standard_error(a) ** 2, _standard_error(b) ** 2)
    smaller = min(a.size, b.size)
    note = f"{smaller} repeats are too few for ranks: normal distributions are assumed"
    if not sum(errors):
        return Shift(value, value, value, smaller, note)
    freedom = sum(errors) ** 2 / (errors[0] ** 2 / (a.size - 1) + errors[1] ** 2 / (b.size - 1))
    arm = float(t.ppf(1 - tail, freedom)) * sqrt(sum(errors))
    return Shift(value, value - arm, value + arm, smaller, note)


def _standard_error(values: Floats) -> float:
    return float(values.std(ddof=1)) / sqrt(values.size)


@cache
def _signed_rank_cut(count: int, tail: float) -> int:
    """How many of the sorted averages lie outside on each side: the most that a tail of `tail` allows."""
    total = count * (count + 1) // 2
    if count > EXACT_UP_TO:
        return _normal_cut(total / 2, sqrt(count * (count + 1) * (2 * count + 1) / 24), tail)
    ways = np.zeros(total + 1)
    ways[0] = 1
    for rank in range(1, count + 1):
        ways[rank:] += ways[:-rank].copy()
    return _exact_cut(ways, tail)


@cache
def _rank_sum_cut(n: int, m: int, tail: float) -> int:
    total = n * m
    if max(n, m) > EXACT_UP_TO:
        return _normal_cut(total / 2, sqrt(total * (n + m + 1) / 12), tail)
    # ways[k, u]: subsets of k of the ranks so far whose Mann-Whitney count is u
    ways = np.zeros((n + 1, total + 1))
    ways[0, 0] = 1
    for rank in range(1, n + m + 1):
        for size in range(min(n, rank), 0, -1):
            beaten = rank - size  # of the other side, by the element that takes this rank
            if beaten <= m:
                ways[size, beaten:] += ways[size - 1, : total + 1 - beaten]
    return _exact_cut(ways[n], tail)


def _exact_cut(ways: Floats, tail: float) -> int:
    """The largest `cut` with P(statistic <= cut) <= tail; the caller has seen to it that 0 is one."""
    return int(np.searchsorted(np.cumsum(ways) / ways.sum(), tail, side="right")) - 1


def _normal_cut(mean: float, deviation: float, tail: float) -> int:
    from scipy.stats import norm

    return max(int(np.floor(mean - deviation * float(norm.ppf(1 - tail)))) - 1, 0)
