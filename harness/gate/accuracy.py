"""How much less accurate the candidate is than the baseline, on the same utterances.

Each corpus is a number, and where there are several, all of them together are one: a loss that every small corpus
leaves unclear shows there. A repeat gives the same words and confirms nothing, so intervals are `CONFIDENCE` wide and
not 95 %.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isnan

import numpy as np

from harness import stats
from harness.gate.evidence import AccuracyEffect
from harness.records import Utterance
from harness.scores import ALL

CONFIDENCE = 0.99


def accuracy_effects(
    utterances: Mapping[str, Utterance], baseline: Mapping[str, str], candidate: Mapping[str, str]
) -> dict[str, AccuracyEffect]:
    """The difference in word error rate by corpus; a corpus without a reference word has none.

    Args:
        utterances: Those that both sides may have, by id.
        baseline: What the baseline recognised, by utterance id.
        candidate: What the candidate recognised.
    """
    corpora: dict[str, list[str]] = {}
    for name, row in utterances.items():
        if row.text is not None and name in baseline and name in candidate:
            corpora.setdefault(row.corpus, []).append(name)
    if len(corpora) > 1:
        corpora[ALL] = [name for names in corpora.values() for name in names]
    found = {corpus: _effect(utterances, names, baseline, candidate) for corpus, names in corpora.items()}
    return {corpus: effect for corpus, effect in found.items() if effect is not None}


def _effect(
    utterances: Mapping[str, Utterance], names: list[str], baseline: Mapping[str, str], candidate: Mapping[str, str]
) -> AccuracyEffect | None:
    from harness.metrics.mapsswe import matched_pairs
    from harness.metrics.wer import count_errors

    references = {name: utterances[name].text or "" for name in names}
    before = {name: count_errors(references[name], baseline[name]) for name in names}
    words = sum(row.reference_length for row in before.values())
    if not words:
        return None
    changed = [name for name in names if baseline[name] != candidate[name]]
    after = {name: count_errors(references[name], candidate[name]) for name in changed}
    more: dict[object, int] = {}
    length: dict[object, int] = {}
    speakers = {(utterances[name].corpus, utterances[name].speaker) for name in names}
    by_speaker = all(speaker is not None for _, speaker in speakers) and len(speakers) > 1
    for name in names:
        block: object = (utterances[name].corpus, utterances[name].speaker) if by_speaker else name
        more[block] = more.get(block, 0) + (after[name].errors - before[name].errors if name in after else 0)
        length[block] = length.get(block, 0) + before[name].reference_length
    found = stats.blocked_rate_interval(
        np.array(list(more.values())), np.array(list(length.values())), confidence=CONFIDENCE
    )
    test = matched_pairs((references[name], baseline[name], candidate[name]) for name in names)
    unknown = None if changed else 0.0  # the same texts are no less accurate, however few they are
    return AccuracyEffect(
        found.value,
        unknown if isnan(found.low) else found.low,
        unknown if isnan(found.high) else found.high,
        len(names),
        len(changed),
        test.p_value,
    )
