"""The paired ratio: how many times less one case needs than another, and what may be said of it.

Two cases are measured interleaved; their samples pair by repeat and utterance. With
`d[r, u] = log(baseline[r, u] / candidate[r, u])`, the effect is the geometric mean over utterances,
`exp(mean_u(mean_r(d)))`: above 1, the candidate is faster.

Two things make that number uncertain, and each has an interval of its own:

- *Processes.* A repeat is one pair of fresh processes, and whatever a process happens to get (memory layout,
  a busy neighbour) shifts all of its utterances together. There are only 3 to 5 repeats, and resampling 3
  values can never give an interval wider than those 3 values (it covers less than 85 %; a test shows it). So
  this part is a Student t interval over the mean log-ratio of each repeat.
- *Utterances.* The gain differs from clip to clip. This part is a percentile bootstrap over utterances, or the
  t interval where that is wider (few utterances).

The two are independent, so their arms add in quadrature on each side ("MOVER": Zou and Donner, Statistics in
Medicine 27, 2008). The noise of single samples is in both, which errs on the wide side. Taking the wider
arm instead was tried: where both are of one size it covers 92 %, this 96 %. The tests simulate the coverage.

With one repeat the noise between processes cannot be seen at all: then `ASSUMED_PROCESS_FACTOR` stands in for
it and the ratio says so in its note.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt

from harness.stats.samples import CONFIDENCE, RESAMPLES, SEED, Floats, Interval
from pipelines.errors import AmiraError

Verdict = Literal["faster", "slower", "less", "more", "no effect", "unclear"]

NO_EFFECT_MARGIN = 0.02
"""A ratio whose whole interval lies within 1 ± this has, for all that matters, no effect."""
ASSUMED_PROCESS_FACTOR = 1.25
"""How far one process pair may be off, either way, where a single repeat does not let us measure it."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """A paired comparison: baseline over candidate, so above 1 the candidate is faster or uses less.

    Attributes:
        value: The geometric mean of the pairs' ratios.
        low: Lower end of the 95 % interval.
        high: Upper end of it.
        repeats: Repeats that had a pair.
        utterances: Utterances that had a pair.
        note: What limits the interval, `None` where nothing does.
    """

    value: float
    low: float
    high: float
    repeats: int
    utterances: int
    note: str | None = None


def paired_ratio(baseline: npt.ArrayLike, candidate: npt.ArrayLike) -> Ratio:
    """How many times less the candidate needs than the baseline, with its interval (see the module's text).

    Args:
        baseline: Positive measurements (repeats, utterances), NaN where there is none. A quantity that a process
            has once, such as its peak memory, is (repeats, 1).
        candidate: The same pairs of the other case.

    Raises:
        AmiraError: The shapes differ, or no pair has two positive values.
    """
    first, second = np.asarray(baseline, np.float64), np.asarray(candidate, np.float64)
    if first.shape != second.shape or first.ndim != 2:
        raise AmiraError(
            f"paired samples must be two tables of one shape (repeats, utterances); "
            f"got {first.shape} and {second.shape}."
        )
    usable = (first > 0) & (second > 0)
    if not usable.any():
        raise AmiraError("the two cases share no measured pair of repeat and utterance: there is nothing to compare.")
    differences = np.full(first.shape, np.nan)
    differences[usable] = np.log(first[usable] / second[usable])
    differences = differences[np.ix_(usable.any(axis=1), usable.any(axis=0))]
    per_utterance = np.nanmean(differences, axis=0)
    effect = float(per_utterance.mean())
    low, high, note = _combine(effect, _repeat_effects(differences), _resample_mean(per_utterance))
    repeats, utterances = len(differences), per_utterance.size
    return Ratio(float(np.exp(effect)), float(np.exp(low)), float(np.exp(high)), repeats, utterances, note)


def rate_interval(amounts: npt.ArrayLike, sizes: npt.ArrayLike) -> Interval:
    """What is spent per unit of size, e.g. seconds of processing per second of audio.

    Args:
        amounts: Positive measurements (repeats, utterances), NaN where there is none.
        sizes: Size of each utterance (utterances,), positive.

    Raises:
        AmiraError: Nothing was measured.
    """
    spent, size = np.asarray(amounts, np.float64), np.asarray(sizes, np.float64)
    measured = ~np.isnan(spent)
    if not measured.any():
        raise AmiraError("no sample was measured, so there is no rate to give.")
    spent, size = spent[measured.any(axis=1)][:, measured.any(axis=0)], size[measured.any(axis=0)]
    per_utterance = np.nanmean(spent, axis=0)
    rate = float(np.log(per_utterance.sum() / size.sum()))
    with np.errstate(invalid="ignore"):
        logs = np.log(spent / size)
    low, high, _ = _combine(rate, _repeat_effects(logs), _resample_rate(per_utterance, size))
    return Interval(float(np.exp(rate)), float(np.exp(low)), float(np.exp(high)))


def verdict(
    low: float,
    high: float,
    *,
    better: Verdict = "faster",
    worse: Verdict = "slower",
    margin: float = NO_EFFECT_MARGIN,
) -> Verdict:
    """What an interval of a ratio allows to be said.

    Args:
        low: Lower end of the interval.
        high: Upper end of it.
        better: The word for an interval above 1.
        worse: The word for an interval below 1.
        margin: Half-width of the band around 1 inside which a difference does not matter.

    Returns:
        `no effect` where the whole interval lies inside the band, `better` or `worse` where it leaves out 1, else
        `unclear`.
    """
    if 1 - margin <= low and high <= 1 + margin:
        return "no effect"
    if low > 1:
        return better
    return worse if high < 1 else "unclear"


def _repeat_effects(values: Floats) -> Floats:
    """How far each repeat is from the mean of all: (repeats,), from utterances that have several repeats.

    Deviations, not means: a repeat that was interrupted has fewer utterances, and must not differ by those.
    """
    several = (~np.isnan(values)).sum(axis=0) > 1
    if not several.any():
        return np.zeros(1)
    deviations = values[:, several] - np.nanmean(values[:, several], axis=0)
    return np.asarray(np.nanmean(deviations[~np.isnan(deviations).all(axis=1)], axis=1), np.float64)


def _t_arm(values: Floats) -> float:
    """Half the width of the Student t interval of the mean; 0 for a single value."""
    from scipy.stats import t

    if values.size < 2:
        return 0.0
    quantile = float(t.ppf((1 + CONFIDENCE) / 2, values.size - 1))
    return quantile * float(values.std(ddof=1)) / float(np.sqrt(values.size))


def _resample_mean(values: Floats) -> tuple[float, float]:
    """How far the mean may lie below and above its estimate when other utterances had been drawn."""
    if values.size < 2:
        return 0.0, 0.0
    below, above = _bootstrap_arms(_draws(values.size) @ values / values.size, float(values.mean()))
    arm = _t_arm(values)
    return max(below, arm), max(above, arm)


def _resample_rate(amounts: Floats, sizes: Floats) -> tuple[float, float]:
    """The same for the logarithm of a ratio of sums."""
    if amounts.size < 2:
        return 0.0, 0.0
    counts = _draws(amounts.size)
    return _bootstrap_arms(np.log((counts @ amounts) / (counts @ sizes)), float(np.log(amounts.sum() / sizes.sum())))


@lru_cache(maxsize=1)
def _draws(size: int) -> Floats:
    """How often each of `size` units is drawn in each resample: (RESAMPLES, size).

    Kept, for all comparisons of a run want the same.
    """
    rng = np.random.default_rng(SEED)
    draws = rng.multinomial(size, np.full(size, 1 / size), size=RESAMPLES).astype(np.float64)
    draws.flags.writeable = False
    return draws


def _bootstrap_arms(resampled: Floats, estimate: float) -> tuple[float, float]:
    low, high = np.quantile(resampled, ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2))
    return max(estimate - float(low), 0.0), max(float(high) - estimate, 0.0)


def _combine(
    estimate: float, repeat_effects: Floats, utterance_arms: tuple[float, float]
) -> tuple[float, float, str | None]:
    """Join the noise between processes and between utterances into one interval, on the log scale."""
    note = None
    process_arm = _t_arm(repeat_effects)
    if repeat_effects.size < 2:
        process_arm = float(np.log(ASSUMED_PROCESS_FACTOR))
        note = (
            "one repeat: the noise between processes could not be measured, "
            f"a factor of {ASSUMED_PROCESS_FACTOR} either way is assumed"
        )
    below, above = utterance_arms
    return (
        estimate - float(np.hypot(process_arm, below)),
        estimate + float(np.hypot(process_arm, above)),
        note,
    )
