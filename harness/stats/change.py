"""Where a history changed its level: rank-based binary segmentation.

Each segment is cut where the rank-sum statistic of before against after is largest (Pettitt, Applied Statistics 28,
1979), if a permutation test says that chance does not make such a cut, and both parts are looked at again. Ranks,
because a night on a busy machine must not count for more than any other night. The level of the test is divided by
the number of tests at each depth, so that a flat history of any length is cut with at most the stated probability.
The price: a new level is hardly ever seen before four runs have it, in a history of ten runs not before five.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.stats.samples import SEED, Floats, finite

LEVEL = 0.01
PERMUTATIONS = 4_000
SHORTEST = 3
"""Points that a segment has at least."""


@dataclass(frozen=True, slots=True)
class Change:
    """A change of level.

    Attributes:
        index: The first point of the new level.
        before: Median of the segment before it.
        after: Median of the segment from it on.
        p_value: How often chance alone makes a cut as clear as this.
    """

    index: int
    before: float
    after: float
    p_value: float


def change_points(values: npt.ArrayLike, *, level: float = LEVEL) -> list[Change]:
    """The changes of level in a history, in order.

    Args:
        values: One number for each point in time, (n,), finite.
        level: Probability of finding any change in a history without one.
    """
    series = finite(values)
    cuts = dict(_cuts(series, 0, level, np.random.default_rng(SEED)))
    edges = [0, *sorted(cuts), series.size]
    return [
        Change(
            index,
            float(np.median(series[edges[place] : index])),
            float(np.median(series[index : edges[place + 2]])),
            cuts[index],
        )
        for place, index in enumerate(edges[1:-1])
    ]


def _cuts(series: Floats, offset: int, level: float, rng: np.random.Generator) -> list[tuple[int, float]]:
    if series.size < 2 * SHORTEST or np.ptp(series) == 0:
        return []
    place, strength = _best_cut(series)
    orders = rng.permuted(np.tile(series, (PERMUTATIONS, 1)), axis=1)
    by_chance = _strengths(orders).max(axis=1)
    p_value = (1 + int((by_chance >= strength - 1e-9).sum())) / (1 + PERMUTATIONS)
    if p_value > level:
        return []
    return [
        *_cuts(series[:place], offset, level / 2, rng),
        (offset + place, p_value),
        *_cuts(series[place:], offset + place, level / 2, rng),
    ]


def _best_cut(series: Floats) -> tuple[int, float]:
    strengths = _strengths(series[None])[0]
    place = int(strengths.argmax())
    return place + SHORTEST, float(strengths[place])


def _strengths(rows: Floats) -> Floats:
    """Standardised rank-sum of each allowed cut: (rows, cuts)."""
    from scipy.stats import rankdata

    count = rows.shape[1]
    ranks = np.asarray(rankdata(rows, axis=1), np.float64)
    sizes = np.arange(1, count)
    sums = np.cumsum(ranks, axis=1)[:, :-1] - sizes * (count + 1) / 2
    deviation = np.sqrt(sizes * (count - sizes) * (count + 1) / 12)
    return np.asarray(np.abs(sums / deviation)[:, SHORTEST - 1 : count - SHORTEST], np.float64)
