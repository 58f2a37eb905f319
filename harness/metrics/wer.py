"""Word and character error rate, with an interval over speakers.

Both are the edit operations of all utterances over the units of all references (jiwer counts them, after
`normalise`). The interval is a percentile bootstrap that draws whole speakers, since the errors of one speaker go
together (Bisani and Ney, "Bootstrap estimates for confidence intervals in ASR performance evaluation", ICASSP 2004).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from harness.metrics.normalise import normalise
from pipelines.errors import NothingMeasuredError

Resampled = Literal["speakers", "utterances"]
Counts = npt.NDArray[np.int64]

_RESAMPLES = 2_000
_DRAWS_AT_ONCE = 4_000_000  # bounds the table of draws (resamples x groups) to 32 MB


@dataclass(frozen=True, slots=True)
class WordErrors:
    """Edit operations that turn a reference into a hypothesis; units are words, or characters for CER."""

    hits: int
    substitutions: int
    deletions: int
    insertions: int

    @property
    def errors(self) -> int:
        """Substitutions, deletions and insertions together."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def reference_length(self) -> int:
        """Units of the reference."""
        return self.hits + self.substitutions + self.deletions


@dataclass(frozen=True, slots=True)
class Wer:
    """An error rate.

    Attributes:
        value: Errors over reference units, a fraction: 0.05 is 5 %; above 1 with many insertions.
        low: Lower end of the 95 % interval, `nan` where there is but one utterance.
        high: Upper end.
        utterances: How many utterances went in.
        resampled: What the bootstrap drew: `speakers`, or `utterances` where only one speaker is known.
    """

    value: float
    low: float
    high: float
    utterances: int
    resampled: Resampled


@dataclass(frozen=True, slots=True)
class WerDifference:
    """The second error rate minus the first, over the same utterances; the attributes are those of `Wer`."""

    value: float
    low: float
    high: float
    utterances: int
    resampled: Resampled


def count_errors(reference: str, hypothesis: str) -> WordErrors:
    """Count the word errors of one utterance; both sides are normalised first."""
    reference, hypothesis = normalise(reference), normalise(hypothesis)
    if not reference:  # jiwer refuses an empty reference
        return WordErrors(0, 0, 0, len(hypothesis.split()))
    import jiwer

    out = jiwer.process_words(reference, hypothesis)
    return WordErrors(out.hits, out.substitutions, out.deletions, out.insertions)


def count_character_errors(reference: str, hypothesis: str) -> WordErrors:
    """Count the character errors of one utterance, spaces included; both sides are normalised first."""
    reference, hypothesis = normalise(reference), normalise(hypothesis)
    if not reference:
        return WordErrors(0, 0, 0, len(hypothesis))
    import jiwer

    out = jiwer.process_characters(reference, hypothesis)
    return WordErrors(out.hits, out.substitutions, out.deletions, out.insertions)


def corpus_wer(
    counts: Sequence[WordErrors],
    groups: Sequence[Hashable | None],
    *,
    resamples: int = _RESAMPLES,
    seed: int = 0,
) -> Wer:
    """The error rate of a corpus with its 95 % interval.

    Args:
        counts: One per utterance.
        groups: The speaker of each utterance, `None` where unknown; such an utterance is a group of its own.
        resamples: Bootstrap draws.
        seed: Of the draws: the same input gives the same interval.

    Raises:
        NothingMeasuredError: There is no utterance, or no reference has a word.
        ValueError: `counts` and `groups` differ in length.
    """
    errors, lengths = _errors(counts), _lengths(counts)
    _check(lengths, groups)
    index, resampled = _group_index(groups)
    value = float(errors.sum() / lengths.sum())
    rates = _resampled_rates(index, errors, lengths, resamples, seed)
    low, high = _interval(rates)
    return Wer(value, low, high, len(counts), resampled)


def paired_wer_difference(
    a: Sequence[WordErrors],
    b: Sequence[WordErrors],
    groups: Sequence[Hashable | None],
    *,
    resamples: int = _RESAMPLES,
    seed: int = 0,
) -> WerDifference:
    """How much higher the error rate of `b` is than that of `a` on the same utterances, with its 95 % interval.

    Each draw takes the same speakers for both, so what they share (hard speakers, hard sentences) cancels out.

    Args:
        a: One per utterance, of the baseline.
        b: One per utterance in the same order, of the candidate.
        groups: The speaker of each utterance, `None` where unknown.
        resamples: Bootstrap draws.
        seed: Of the draws.

    Raises:
        NothingMeasuredError: There is no utterance, or no reference has a word.
        ValueError: The sequences differ in length, or in the length of a reference.
    """
    lengths = _lengths(a)
    if not np.array_equal(lengths, _lengths(b)):
        raise ValueError("the references of the two sides differ; compare runs over the same utterances")
    _check(lengths, groups)
    more = _errors(b) - _errors(a)
    index, resampled = _group_index(groups)
    value = float(more.sum() / lengths.sum())
    low, high = _interval(_resampled_rates(index, more, lengths, resamples, seed))
    return WerDifference(value, low, high, len(a), resampled)


def _errors(counts: Sequence[WordErrors]) -> Counts:
    return np.array([count.errors for count in counts], np.int64)


def _lengths(counts: Sequence[WordErrors]) -> Counts:
    return np.array([count.reference_length for count in counts], np.int64)


def _check(lengths: Counts, groups: Sequence[Hashable | None]) -> None:
    if len(lengths) != len(groups):
        raise ValueError(f"{len(lengths)} utterances, but {len(groups)} groups")
    if not lengths.sum():
        raise NothingMeasuredError(
            f"no error rate: none of the {len(lengths)} utterances has a reference with words. "
            "Use a corpus with transcripts."
        )


def _group_index(groups: Sequence[Hashable | None]) -> tuple[Counts, Resampled]:
    """The group number of each utterance; utterances themselves where all are of one speaker."""
    numbers: dict[Hashable, int] = {}
    keys = [("unknown", position) if group is None else ("known", group) for position, group in enumerate(groups)]
    index = np.array([numbers.setdefault(key, len(numbers)) for key in keys], np.int64)
    known = any(group is not None for group in groups)
    if len(numbers) < 2 or not known:
        return np.arange(len(groups)), "utterances"
    return index, "speakers"


def _resampled_rates(
    index: Counts, numerators: Counts, lengths: Counts, resamples: int, seed: int
) -> npt.NDArray[np.float64]:
    """The rate of each draw of as many groups as there are; draws without a reference word are left out."""
    groups = int(index.max()) + 1
    tops = np.bincount(index, numerators, groups)
    bottoms = np.bincount(index, lengths, groups)
    if groups < 2:
        return np.empty(0)
    generator = np.random.default_rng(seed)
    at_once = max(1, _DRAWS_AT_ONCE // groups)
    rates = []
    for first in range(0, resamples, at_once):
        drawn = generator.integers(0, groups, (min(at_once, resamples - first), groups))
        top, bottom = tops[drawn].sum(axis=1), bottoms[drawn].sum(axis=1)
        rates.append(top[bottom > 0] / bottom[bottom > 0])
    return np.concatenate(rates)


def _interval(rates: npt.NDArray[np.float64]) -> tuple[float, float]:
    if not len(rates):
        return math.nan, math.nan
    low, high = np.quantile(rates, (0.025, 0.975))
    return float(low), float(high)
