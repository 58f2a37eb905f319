"""Word errors of a run's cases: counted once, then asked for by corpus."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from math import isnan
from typing import TYPE_CHECKING, Any

from harness.records import Utterance

if TYPE_CHECKING:
    from harness.metrics.wer import Wer, WerDifference, WordErrors


class Scores:
    """The accuracy of every measured case.

    Args:
        utterances: The run's utterances by id, in its order.
        texts: What each case recognised: case id to utterance id to text.
    """

    def __init__(self, utterances: Mapping[str, Utterance], texts: Mapping[str, Mapping[str, str]]) -> None:
        self._utterances = utterances
        self._errors = {case: self._count(said) for case, said in texts.items()}
        self._words = {
            name: errors.reference_length for counts in self._errors.values() for name, errors in counts.items()
        }

    def wer(self, case: str) -> dict[str, Any]:
        """Word error rate by corpus; empty without references or samples."""
        from harness.metrics.wer import corpus_wer

        errors = self._errors.get(case, {})
        return {
            corpus: _rate(corpus_wer([errors[name] for name in names], self._speakers(names)))
            for corpus, names in self._by_corpus(errors).items()
        }

    def difference(self, case: str, baseline: str) -> dict[str, Any]:
        """Word error rate of `case` minus that of `baseline`, paired by utterance, by corpus."""
        from harness.metrics.wer import paired_wer_difference

        first, second = self._errors.get(baseline, {}), self._errors.get(case, {})
        differences = {}
        for corpus, names in self._by_corpus(first.keys() & second.keys()).items():
            found = paired_wer_difference(
                [first[name] for name in names], [second[name] for name in names], self._speakers(names)
            )
            differences[corpus] = {"baseline": baseline, **_rate(found)}
        return differences

    def _count(self, said: Mapping[str, str]) -> dict[str, WordErrors]:
        """Word errors by utterance id, of the utterances that have a reference."""
        from harness.metrics.wer import count_errors

        spoken = {name: text for name, row in self._utterances.items() if (text := row.text) is not None}
        return {name: count_errors(spoken[name], text) for name, text in said.items() if name in spoken}

    def _by_corpus(self, names: Collection[str]) -> dict[str, list[str]]:
        """The utterances of each corpus, in the run's order; a corpus without a reference word has no rate."""
        found: dict[str, list[str]] = {}
        for name, row in self._utterances.items():
            if name in names:
                found.setdefault(row.corpus, []).append(name)
        return {corpus: rows for corpus, rows in found.items() if any(self._words[name] for name in rows)}

    def _speakers(self, names: Sequence[str]) -> list[str | None]:
        return [self._utterances[name].speaker for name in names]


def _rate(found: Wer | WerDifference) -> dict[str, Any]:
    """An error rate as JSON; its interval is `None` where one utterance allows none."""
    return {
        "value": found.value,
        "low": None if isnan(found.low) else found.low,
        "high": None if isnan(found.high) else found.high,
        "utterances": found.utterances,
        "resampled": found.resampled,
    }
