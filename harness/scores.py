"""Word errors of a run's cases: counted once, then asked for by corpus."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from math import inf, isnan
from typing import TYPE_CHECKING, Any

from harness.records import Utterance

if TYPE_CHECKING:
    from harness.metrics.wer import Wer, WerDifference, WordErrors

ALL = "all corpora"
"""The name of several corpora taken together."""
AGES = ((0, 8), (8, 11), (11, 15), (15, 18), (18, inf))
"""Age groups in years, each up to but without its upper end."""


class Scores:
    """The accuracy of every measured case.

    Args:
        utterances: The run's utterances by id, in its order.
        texts: What each case recognised: case id to utterance id to text.
    """

    def __init__(self, utterances: Mapping[str, Utterance], texts: Mapping[str, Mapping[str, str]]) -> None:
        from harness.metrics.wer import count_character_errors, count_errors

        self._utterances, self._texts = utterances, texts
        self._errors = {case: self._count(said, count_errors) for case, said in texts.items()}
        self._characters = {case: self._count(said, count_character_errors) for case, said in texts.items()}
        self._words = {
            name: errors.reference_length for counts in self._errors.values() for name, errors in counts.items()
        }

    def wer(self, case: str) -> dict[str, Any]:
        """Word error rate by corpus; empty without references or samples."""
        errors = self._errors.get(case, {})
        return {corpus: self._group(errors, names) for corpus, names in self._by_corpus(errors).items()}

    def cer(self, case: str) -> dict[str, Any]:
        """Character error rate by corpus."""
        errors = self._characters.get(case, {})
        return {corpus: self._group(errors, names) for corpus, names in self._by_corpus(errors).items()}

    def wer_by_age(self, case: str) -> dict[str, dict[str, Any]]:
        """Word error rate by corpus and age group, of the corpora whose speakers' ages are known."""
        errors = self._errors.get(case, {})
        found = {}
        for corpus, names in self._by_corpus(errors).items():
            groups: dict[str, list[str]] = {}
            for low, high in AGES:
                inside = [name for name in names if self._aged(name, low, high) and self._words[name]]
                if inside:
                    groups[_age_name(low, high)] = inside
            if groups:
                found[corpus] = {age: self._group(errors, inside) for age, inside in groups.items()}
        return found

    def confusions(self, case: str) -> dict[str, Any]:
        """The most frequent word errors over all corpora."""
        from harness.metrics.confusions import confusions

        said = self._texts.get(case, {})
        rows = ((row.text, said[name]) for name, row in self._utterances.items() if name in said)
        return confusions((text, hypothesis) for text, hypothesis in rows if text is not None)

    def _group(self, errors: Mapping[str, WordErrors], names: Sequence[str]) -> dict[str, Any]:
        from harness.metrics.wer import corpus_wer

        return _rate(corpus_wer([errors[name] for name in names], self._speakers(names)))

    def _aged(self, name: str, low: float, high: float) -> bool:
        age = self._utterances[name].age
        return age is not None and low <= age < high

    def difference(self, case: str, baseline: str) -> dict[str, Any]:
        """Word error rate of `case` minus that of `baseline`, paired by utterance, by corpus."""
        corpora = self._by_corpus(self._both(case, baseline))
        return {corpus: self._difference(case, baseline, names) for corpus, names in corpora.items()}

    def difference_in_all(self, case: str, baseline: str) -> dict[str, Any] | None:
        """The same over all corpora together; `None` where there are not several."""
        corpora = self._by_corpus(self._both(case, baseline))
        if len(corpora) < 2:
            return None
        return self._difference(case, baseline, [name for names in corpora.values() for name in names])

    def _both(self, case: str, baseline: str) -> Collection[str]:
        return self._errors.get(baseline, {}).keys() & self._errors.get(case, {}).keys()

    def _difference(self, case: str, baseline: str, names: Sequence[str]) -> dict[str, Any]:
        from harness.metrics.wer import paired_wer_difference

        first, second = self._errors[baseline], self._errors[case]
        found = paired_wer_difference(
            [first[name] for name in names], [second[name] for name in names], self._speakers(names)
        )
        return {"baseline": baseline, **_rate(found)}

    def _count(self, said: Mapping[str, str], count: Callable[[str, str], WordErrors]) -> dict[str, WordErrors]:
        """Errors by utterance id, of the utterances that have a reference."""
        spoken = {name: text for name, row in self._utterances.items() if (text := row.text) is not None}
        return {name: count(spoken[name], text) for name, text in said.items() if name in spoken}

    def _by_corpus(self, names: Collection[str]) -> dict[str, list[str]]:
        """The utterances of each corpus, in the run's order; a corpus without a reference word has no rate."""
        found: dict[str, list[str]] = {}
        for name, row in self._utterances.items():
            if name in names:
                found.setdefault(row.corpus, []).append(name)
        return {corpus: rows for corpus, rows in found.items() if any(self._words[name] for name in rows)}

    def _speakers(self, names: Sequence[str]) -> list[tuple[str, str] | None]:
        """Corpus and speaker of each; `None` where the speaker is unknown."""
        rows = [self._utterances[name] for name in names]
        return [None if row.speaker is None else (row.corpus, row.speaker) for row in rows]


def _age_name(low: float, high: float) -> str:
    if high == inf:
        return f"{low:.0f} and over"
    return f"under {high:.0f}" if low == 0 else f"{low:.0f} to {high - 1:.0f}"


def _rate(found: Wer | WerDifference) -> dict[str, Any]:
    """An error rate as JSON; its interval is `None` where one utterance allows none."""
    return {
        "value": found.value,
        "low": None if isnan(found.low) else found.low,
        "high": None if isnan(found.high) else found.high,
        "utterances": found.utterances,
        "resampled": found.resampled,
    }
