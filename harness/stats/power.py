"""How many repeats a comparison needs before it can see a given effect."""

from __future__ import annotations

from math import ceil, isfinite, pi, sqrt

from harness.stats.samples import CONFIDENCE
from pipelines.errors import AmiraError

MOST = 100_000
RANK_EFFICIENCY = 3 / pi
"""The signed-rank interval needs this much more than Student's under normal noise, and less under heavy tails."""


def required_repeats(
    deviation: float, effect: float, *, power: float = 0.95, confidence: float = CONFIDENCE
) -> int | None:
    """Pairs that a paired comparison needs so that its interval excludes 0 with the given power.

    Args:
        deviation: Standard deviation of one pair's difference, in the unit of `effect`, not negative.
        effect: The true difference that must be seen, above 0.
        power: The wanted probability of seeing it.
        confidence: Of the two-sided interval.

    Returns:
        The smallest number of pairs, at least 2; `None` where even 100,000 would not do.

    Raises:
        AmiraError: A value is out of its range.
    """
    if not (isfinite(deviation) and deviation >= 0 and isfinite(effect) and effect > 0 and 0 < power < 1):
        raise AmiraError(
            f"a sample size needs a deviation of at least 0, an effect above 0 and a power between 0 and 1; "
            f"got {deviation}, {effect} and {power}."
        )
    if deviation == 0:
        return 2
    low, high = 1, 2
    while _power(high, deviation, effect, confidence) < power:
        low, high = high, high * 2
        if low > MOST:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _power(middle, deviation, effect, confidence) >= power else (middle, high)
    return max(2, ceil(high / RANK_EFFICIENCY))


def _power(count: int, deviation: float, effect: float, confidence: float) -> float:
    """Of the one-sample t test, by the noncentral t distribution."""
    from scipy.stats import nct, t

    critical = float(t.ppf((1 + confidence) / 2, count - 1))
    return float(nct.sf(critical, count - 1, effect / deviation * sqrt(count)))
