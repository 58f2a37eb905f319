"""Numbers about one set of samples: quantiles with their intervals, and the bootstrap of any statistic."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.errors import AmiraError

Floats = npt.NDArray[np.float64]

CONFIDENCE = 0.95
RESAMPLES = 2_000
SEED = 20_250_301


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Quantiles of `n` samples, in their unit.

    Attributes:
        p50: Median.
        p90: Ninth decile.
        p99: 99th percentile.
        n: Samples.
        p99_bounded: Whether `n` is enough for the largest sample to lie above the true p99 with 95 %
            confidence; where not, `p99` says little beyond "the largest seen".
    """

    p50: float
    p90: float
    p99: float
    n: int
    p99_bounded: bool


def quantiles(values: npt.ArrayLike) -> Quantiles:
    """The p50, p90 and p99 of the samples, linearly interpolated.

    Args:
        values: Samples (n,), any unit, n at least 1.
    """
    samples = finite(values)
    p50, p90, p99 = (float(value) for value in np.quantile(samples, (0.5, 0.9, 0.99)))
    return Quantiles(p50, p90, p99, samples.size, samples.size >= samples_to_bound(0.99))


def samples_to_bound(quantile: float) -> int:
    """Samples of which the largest exceeds `quantile` with 95 % confidence (Wilks, 1941): 299 for 0.99."""
    return int(np.ceil(np.log(1 - CONFIDENCE) / np.log(quantile)))


def bootstrap_interval(values: npt.ArrayLike, statistic: Callable[..., Any] = np.mean) -> Interval:
    """A statistic and its bias-corrected, accelerated bootstrap interval.

    Args:
        values: Independent samples (n,), n at least 1.
        statistic: Takes an array and `axis`, e.g. `np.mean` or `np.median`.

    Returns:
        The interval; it has no width where there is one sample or all samples are equal.
    """
    from scipy import stats as scipy_stats

    samples = finite(values)
    value = float(np.asarray(statistic(samples, axis=-1)))
    if samples.size == 1 or np.ptp(samples) == 0:
        return Interval(value, value, value)
    result = scipy_stats.bootstrap(
        [samples.tolist()],
        statistic,
        vectorized=True,
        confidence_level=CONFIDENCE,
        n_resamples=RESAMPLES,
        rng=np.random.default_rng(SEED),
    )
    return Interval(value, float(result.confidence_interval.low), float(result.confidence_interval.high))


def finite(values: npt.ArrayLike) -> Floats:
    """The samples in one row; refuses none at all and what is not finite."""
    samples = np.asarray(values, np.float64).ravel()
    if samples.size == 0 or not np.isfinite(samples).all():
        raise AmiraError(f"statistics need at least one sample and finite ones; got {samples.size} samples.")
    return samples


def quantile_interval(values: npt.ArrayLike, quantile: float) -> Interval:
    """A quantile with the interval of order statistics, which assumes no distribution.

    The interval goes from the largest sample that lies below the true quantile, to the smallest that lies above it,
    each with 97.5 % confidence (binomial; Hahn and Meeker, "Statistical Intervals", section 5.2). Where there are too
    few samples for an upper end, it is infinite: then nobody knows how long the tail is.

    Args:
        values: Independent samples (n,), n at least 1.
        quantile: Between 0 and 1, both excluded.
    """
    from scipy.stats import binom

    samples = np.sort(finite(values))
    count, tail = samples.size, (1 - CONFIDENCE) / 2
    value = float(np.quantile(samples, quantile))
    below = int(binom.ppf(tail, count, quantile))  # P(B < below) <= tail
    above = int(binom.ppf(1 - tail, count, quantile)) + 1
    low = float(samples[below - 1]) if below >= 1 else -np.inf
    high = float(samples[above - 1]) if above <= count else np.inf
    return Interval(value, min(low, value), max(high, value))


def blocked_rate_interval(
    amounts: npt.ArrayLike,
    sizes: npt.ArrayLike,
    *,
    resamples: int = RESAMPLES,
    seed: int = SEED,
    confidence: float = CONFIDENCE,
) -> Interval:
    """Amounts over sizes, e.g. word errors over words, and its BCa interval that draws whole blocks.

    Bias-corrected and accelerated (Efron, JASA 82, 1987), the acceleration by leaving out one block after the other.

    Args:
        amounts: Of each block, e.g. the errors of a speaker, or more errors of one system than of another: (blocks,).
        sizes: Of each block, e.g. the words that the speaker read: (blocks,), together above 0.
        resamples: Draws.
        seed: Of the draws.
        confidence: Of the interval.

    Returns:
        The interval; not a number at its ends where one block allows none.
    """
    from scipy.stats import norm

    tops, bottoms = finite(amounts), finite(sizes)
    value = float(tops.sum() / bottoms.sum())
    if tops.size < 2:
        return Interval(value, np.nan, np.nan)
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(tops.size, np.full(tops.size, 1 / tops.size), size=resamples)
    drawn_bottoms = counts @ bottoms
    rates = (counts @ tops)[drawn_bottoms > 0] / drawn_bottoms[drawn_bottoms > 0]
    if np.ptp(rates) == 0:
        return Interval(value, value, value)
    # Ties count half: error counts are whole numbers, and many draws give the very estimate.
    below = (np.count_nonzero(rates < value) + np.count_nonzero(rates == value) / 2) / rates.size
    bias = float(norm.ppf(np.clip(below, 1 / rates.size, 1 - 1 / rates.size)))
    without = bottoms.sum() - bottoms
    left_out = ((tops.sum() - tops)[without > 0]) / without[without > 0]
    pulls = left_out.mean() - left_out
    spread = float((pulls**2).sum())
    acceleration = float((pulls**3).sum()) / (6 * spread**1.5) if spread > 0 else 0.0
    tails = np.asarray(norm.ppf([(1 - confidence) / 2, (1 + confidence) / 2]))
    levels = np.asarray(norm.cdf(bias + (bias + tails) / (1 - acceleration * (bias + tails))))
    ends = np.quantile(rates, levels)
    return Interval(value, float(ends[0]), float(ends[1]))
