"""From evidence to verdicts.

A number is **worse** where its interval leaves out "no change" *and* its estimate exceeds the margin: neither a tiny
but sure loss nor a large but unsure one is a regression. It is **fine** where the interval ends below the margin: that
is shown, not assumed. Everything else is **unclear**, and wants more repeats.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import exp, isfinite
from typing import Literal

from harness.gate.config import GateConfig
from harness.gate.evidence import AccuracyEffect, Effect, Evidence, Metric, Unpaired

Word = Literal["better", "fine", "unclear", "worse"]
CaseWord = Literal["better", "fine", "unclear", "worse", "broken", "not measured"]
POINTS = 100.0


@dataclass(frozen=True, slots=True)
class Row:
    """One number of one case.

    Attributes:
        metric: Such as `latency`, `stage decode`, `kernel pcm16 avx2` or `wer dev`.
        unit: `fraction` (0.05 is 5 % more), or `points` of word error rate.
        change: Candidate against baseline; above 0 is worse.
        low: Lower end of the 95 % interval, `None` where there is none.
        high: Upper end.
        margin: What counts as worse.
        verdict: What follows.
        judged: Whether it counts; a stage with a tiny share is shown and does not.
        samples: Repeats, or utterances.
        note: What limits it.
    """

    metric: str
    unit: Literal["fraction", "points"]
    change: float
    low: float | None
    high: float | None
    margin: float
    verdict: Word
    judged: bool
    samples: int
    note: str | None = None


@dataclass(frozen=True, slots=True)
class CaseVerdict:
    """A case with all its numbers.

    Attributes:
        case: Id of the plan's case.
        title: Its title.
        verdict: The worst of its judged numbers; `broken` where only the candidate fails.
        reason: What decided it, in one sentence.
        rows: The numbers.
        notes: What a reader must know.
    """

    case: str
    title: str
    verdict: CaseWord
    reason: str
    rows: tuple[Row, ...] = ()
    notes: tuple[str, ...] = ()

    def worse(self) -> frozenset[str]:
        """The numbers that are worse."""
        return frozenset(row.metric for row in self.rows if row.judged and row.verdict == "worse")


def judge(evidence: Evidence, config: GateConfig) -> CaseVerdict:
    """Judge a case."""
    if evidence.problem is not None:
        word: CaseWord = "broken" if evidence.broken else "not measured"
        return CaseVerdict(evidence.case, evidence.title, word, evidence.problem, notes=evidence.notes)
    rows = (
        *(_time_row(metric, effect, evidence, config) for metric, effect in evidence.effects.items()),
        *(_accuracy_row(corpus, effect, config) for corpus, effect in evidence.accuracy.items()),
    )
    return decided(CaseVerdict(evidence.case, evidence.title, "fine", "", rows, evidence.notes))


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


def said(row: Row) -> str:
    """A row in a few words: `latency +5.2 % (+4.1 to +6.3)`."""
    scale, unit = (POINTS, " %") if row.unit == "fraction" else (1.0, " points")
    span = "" if row.low is None or row.high is None else f" ({row.low * scale:+.1f} to {row.high * scale:+.1f})"
    return f"{row.metric} {row.change * scale:+.1f}{unit}{span}"


def verdict(change: float, low: float | None, high: float | None, margin: float) -> Word:
    """What an interval allows to be said; see the module's text."""
    if low is None or high is None:
        return "unclear"
    if low > 0 and change > margin:
        return "worse"
    if high < 0 and change < -margin:
        return "better"
    return "fine" if high <= margin else "unclear"


def _time_row(metric: Metric, effect: Effect, evidence: Evidence, config: GateConfig) -> Row:
    shift = effect.shift()
    margin = float(getattr(config.margin, metric.kind))
    if isinstance(effect, Unpaired) and metric.kind != "peak_memory":
        margin += config.stored.drift
    low, high = _fraction(shift.low), _fraction(shift.high)
    change = exp(shift.value) - 1
    judged = metric.kind != "stage" or evidence.shares.get(metric.name, 0.0) >= config.stages.least_share
    word = verdict(change, low, high, margin)
    return Row(str(metric), "fraction", change, low, high, margin, word, judged, shift.repeats, shift.note)


def _fraction(log: float) -> float | None:
    return exp(log) - 1 if isfinite(log) else None


def _accuracy_row(corpus: str, effect: AccuracyEffect, config: GateConfig) -> Row:
    change = effect.value * POINTS
    low, high = (None if end is None else end * POINTS for end in (effect.low, effect.high))
    margin = config.accuracy.points
    word = verdict(change, low, high, margin)
    note = f"{effect.changed} of {effect.utterances} texts changed" if effect.changed else None
    if note and effect.p_value is not None:
        note += f", matched-pair test p = {effect.p_value:.2g}"
    return Row(f"wer {corpus}", "points", change, low, high, margin, word, True, effect.utterances, note)
