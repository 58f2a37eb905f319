"""How often something happened, with the exact interval."""

from __future__ import annotations

from harness.stats.samples import CONFIDENCE, Interval
from pipelines.errors import AmiraError


def proportion(count: int, trials: int) -> Interval:
    """A share of trials and its exact interval (Clopper and Pearson, Biometrika 26, 1934).

    Args:
        count: Trials in which it happened.
        trials: All of them, at least 1.
    """
    from scipy.stats import beta

    if trials < 1 or not 0 <= count <= trials:
        raise AmiraError(f"a share needs at least one trial and at most all of them; got {count} of {trials}.")
    tail = (1 - CONFIDENCE) / 2
    low = float(beta.ppf(tail, count, trials - count + 1)) if count else 0.0
    high = float(beta.ppf(1 - tail, count + 1, trials - count)) if count < trials else 1.0
    return Interval(count / trials, low, high)
