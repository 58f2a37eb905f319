"""The statistics behind every claim: quantiles, intervals, ratios, shifts, sample sizes and change points."""

from harness.stats.change import Change, change_points
from harness.stats.power import required_repeats
from harness.stats.proportion import proportion
from harness.stats.ratios import (
    ASSUMED_PROCESS_FACTOR,
    NO_EFFECT_MARGIN,
    Ratio,
    Verdict,
    paired_ratio,
    rate_interval,
    verdict,
)
from harness.stats.samples import (
    CONFIDENCE,
    RESAMPLES,
    SEED,
    Floats,
    Interval,
    Quantiles,
    blocked_rate_interval,
    bootstrap_interval,
    quantile_interval,
    quantiles,
    samples_to_bound,
)
from harness.stats.shift import Shift, paired_shift, unpaired_shift

__all__ = [
    "ASSUMED_PROCESS_FACTOR",
    "CONFIDENCE",
    "NO_EFFECT_MARGIN",
    "RESAMPLES",
    "SEED",
    "Change",
    "Floats",
    "Interval",
    "Quantiles",
    "Ratio",
    "Shift",
    "Verdict",
    "blocked_rate_interval",
    "bootstrap_interval",
    "change_points",
    "paired_ratio",
    "paired_shift",
    "proportion",
    "quantile_interval",
    "quantiles",
    "rate_interval",
    "required_repeats",
    "samples_to_bound",
    "unpaired_shift",
    "verdict",
]
