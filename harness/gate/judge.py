"""From evidence to verdicts: every number of a case (`harness.gate.row`), and what follows for the case."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import exp, isfinite
from typing import Literal

from harness.gate.accuracy import CONFIDENCE
from harness.gate.config import GateConfig
from harness.gate.evidence import AccuracyEffect, Effect, Evidence, Metric, Unpaired
from harness.gate.reconcile import reconciled
from harness.gate.row import POINTS, Row, Word, said, verdict
from harness.measured import QUEUE_STAGE

CaseWord = Literal["better", "fine", "unclear", "worse", "broken", "not measured", "unavailable"]


@dataclass(frozen=True, slots=True)
class CaseVerdict:
    """A case with all its numbers.

    Attributes:
        case: Id of the plan's case.
        title: Its title.
        verdict: The worst of its judged numbers; `broken` where only the candidate fails, `unavailable` where this
            machine lacks what it takes.
        reason: What decided it, in one sentence.
        rows: The numbers.
        busy: See `harness.gate.evidence.Evidence`.
        notes: What a reader must know.
    """

    case: str
    title: str
    verdict: CaseWord
    reason: str
    rows: tuple[Row, ...] = ()
    notes: tuple[str, ...] = ()
    busy: Mapping[str, float] = field(default_factory=dict)

    def worse(self) -> frozenset[str]:
        """The numbers that are worse."""
        return frozenset(row.metric for row in self.rows if row.judged and row.verdict == "worse")


def judge(evidence: Evidence, config: GateConfig) -> CaseVerdict:
    """Judge a case."""
    if evidence.problem is not None:
        words: dict[CaseWord, bool] = {
            "broken": evidence.broken,
            "unavailable": evidence.unavailable,
            "unclear": evidence.late,
        }
        word: CaseWord = next((word for word, so in words.items() if so), "not measured")
        return CaseVerdict(evidence.case, evidence.title, word, evidence.problem, notes=evidence.notes)
    rows = reconciled(
        (
            *(_time_row(metric, effect, evidence, config) for metric, effect in evidence.effects.items()),
            *(_accuracy_row(corpus, effect, config) for corpus, effect in evidence.accuracy.items()),
        ),
        evidence.busy,
    )
    return decided(CaseVerdict(evidence.case, evidence.title, "fine", "", rows, evidence.notes, evidence.busy))


def decided(case: CaseVerdict) -> CaseVerdict:
    """The case with the verdict that follows from its rows."""
    judged = [row for row in case.rows if row.judged]
    for word in ("worse", "unclear", "better"):
        found = [row for row in judged if row.verdict == word]
        if found:
            return replace(case, verdict=word, reason="; ".join(map(said, found)))
    if not judged:
        return replace(case, verdict="not measured", reason="no number could be judged")
    return replace(case, verdict="fine", reason="no number is worse by its margin")


def _time_row(metric: Metric, effect: Effect, evidence: Evidence, config: GateConfig) -> Row:
    shift = effect.shift()
    margin = float(getattr(config.margin, metric.kind.removesuffix("_cpu")))
    if isinstance(effect, Unpaired) and metric.kind != "peak_memory":
        margin += config.stored.drift
    low, high = _fraction(shift.low), _fraction(shift.high)
    change = exp(shift.value) - 1
    # A wait follows from what is served before it: it is shown, and those stages are judged.
    judged = metric.kind not in ("stage", "stage_cpu") or (
        metric.name != QUEUE_STAGE and evidence.shares.get(metric.name, 0.0) >= config.stages.least_share
    )
    word = verdict(change, low, high, margin)
    return Row(str(metric), "fraction", change, low, high, margin, word, judged, shift.repeats, shift.note)


def _fraction(log: float) -> float | None:
    return exp(log) - 1 if isfinite(log) else None


def accuracy_verdict(effect: AccuracyEffect, margin: float) -> Word:
    """What may be said of word errors; `margin` in points.

    A resampled interval of a handful of errors is too narrow, so the matched-pair test must agree that they are more.
    """
    low, high = (None if end is None else end * POINTS for end in (effect.low, effect.high))
    word = verdict(effect.value * POINTS, low, high, margin)
    sure = effect.p_value is not None and effect.p_value < 1 - CONFIDENCE
    return "unclear" if word == "worse" and not sure else word


def _accuracy_row(corpus: str, effect: AccuracyEffect, config: GateConfig) -> Row:
    change = effect.value * POINTS
    low, high = (None if end is None else end * POINTS for end in (effect.low, effect.high))
    margin = config.accuracy.points
    word = accuracy_verdict(effect, margin)
    note = f"{effect.changed} of {effect.utterances} texts changed" if effect.changed else None
    if note and effect.p_value is not None:
        note += f", matched-pair test p = {effect.p_value:.2g}"
    return Row(f"wer {corpus}", "points", change, low, high, margin, word, True, effect.utterances, note)
