"""Where a rung's gain comes from: what a stage's own speed-up is worth end to end, by Amdahl's law.

A stage that takes the share `p` of a request and becomes `s` times as fast makes the request
`1 / (1 - p + p / s)` times as fast, and never more than `1 / (1 - p)` (Amdahl, AFIPS 1967). Both are taken pair by
pair of repeat and utterance, as every ratio is: of a baseline that took `L` with `S` of it in the stage, and a
candidate whose stage took `S'`, the prediction is the ratio of `L` to `L - S + S'`. So utterances with another share
count as they are, and for all stages together the prediction is the measured ratio itself. Its interval comes from
that of the stage's own speed-up.

A stage counts as changed where its own interval leaves out 1 by the same verdict that a rung gets. Nobody says
beforehand which stage a change is meant for: what it did to the others is a finding, too. What no stage covers is
some microseconds of our own that follow every change of the caches: it counts only where it is enough to matter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness import stats
from harness.measured import Measured, table
from harness.records import Sample
from harness.store import Run
from pipelines.contracts import ENGINE_STAGE, STAGES

OTHER = "other"
"""What no stage covers."""


@dataclass(frozen=True, slots=True)
class _Times:
    """A case's times as float64 (repeats, utterances), in ns: the whole, and each stage."""

    whole: stats.Floats
    stages: dict[str, stats.Floats]

    def of(self, stage: str) -> stats.Floats:
        """A stage's time; 0 where the case does not have it."""
        return self.stages.get(stage, np.zeros_like(self.whole))


def attribute(run: Run, baseline: Measured, candidate: Measured) -> dict[str, Any] | None:
    """What each stage's change is worth end to end.

    Args:
        run: The run.
        baseline: The rung below.
        candidate: The rung.

    Returns:
        As `rungs[].attribution` of `summary.schema.json`; `None` where the two share no stage or no pair.
    """
    before, after = _times(run, baseline), _times(run, candidate)
    if not (set(before.stages) & set(after.stages)) - {OTHER} or not _paired(before.whole, after.whole):
        return None
    stages = [_stage(stage, before, after) for stage in _ordered({*before.stages, *after.stages})]
    changed = [row["stage"] for row in stages if row["changed"]]
    return {
        "stages": stages,
        "changed": changed,
        "share": sum(row["share"] for row in stages if row["changed"]),
        "predicted": _predicted(before, after, {s: _own(s, before, after) for s in changed}) if changed else None,
    }


def _times(run: Run, case: Measured) -> _Times:
    names = {stage for sample in case.steady.values() for stage in sample.stages_ns}
    stages = {
        name: table(run, case.steady, lambda sample, name=name: float(sample.stages_ns.get(name, 0)))  # type: ignore[misc]
        for name in names
    }
    stages[OTHER] = table(run, case.steady, _other)
    return _Times(table(run, case.steady, lambda sample: float(sample.latency_ns)), stages)


def _other(sample: Sample) -> float:
    return float(max(sample.latency_ns - sum(sample.stages_ns.values()), 0))


def _ordered(stages: set[str]) -> list[str]:
    """Stages in the order of a request, a third party's behind them, the rest last."""
    known = [stage for stage in (*STAGES, ENGINE_STAGE) if stage in stages]
    return [*known, *sorted(stages - set(known) - {OTHER}), OTHER]


def _stage(stage: str, before: _Times, after: _Times) -> dict[str, Any]:
    own = _own(stage, before, after)
    came_or_went = own is None and bool(np.nansum(before.of(stage)) + np.nansum(after.of(stage)))
    verdict = stats.verdict(own.low, own.high) if own else None
    limit = _mean_ratio(before.whole, before.whole - before.of(stage))
    matters = stage != OTHER or limit is None or limit > 1 + stats.NO_EFFECT_MARGIN
    return {
        "stage": stage,
        "share": _share(before, after, stage),
        "ratio": own.value if own else None,
        "low": own.low if own else None,
        "high": own.high if own else None,
        "verdict": verdict,
        "changed": matters and (came_or_went or verdict in ("faster", "slower")),
        "predicted": _predicted(before, after, {stage: own}),
        "limit": limit,
    }


def _own(stage: str, before: _Times, after: _Times) -> stats.Ratio | None:
    """How many times as fast a stage itself is; `None` where only one of the two has it."""
    if not _paired(before.of(stage), after.of(stage)):
        return None
    return stats.paired_ratio(before.of(stage), after.of(stage))


def _share(before: _Times, after: _Times, stage: str) -> float:
    """Mean share of the baseline's requests, each utterance counting the same, over the pairs that both have."""
    shares = np.where(_pairs(before.whole, after.whole), before.of(stage) / before.whole, np.nan)
    return float(np.nanmean(np.nanmean(shares[:, ~np.isnan(shares).all(axis=0)], axis=0)))


def _predicted(before: _Times, after: _Times, own: Mapping[str, stats.Ratio | None]) -> dict[str, float] | None:
    """The end-to-end ratio if these stages alone had changed as they did.

    Its interval is what the ends of the stages' own intervals would give, all of them at once: never beyond the limit.

    Args:
        before: The baseline's times.
        after: The candidate's.
        own: The stages, and how many times as fast each has become.

    Returns:
        `ratio`, `low` and `high`; `None` where nothing would be left of a request.
    """

    def end_to_end(now: Mapping[str, stats.Floats]) -> float | None:
        change = sum((now[stage] - before.of(stage) for stage in own), np.zeros_like(before.whole))
        return _mean_ratio(before.whole, before.whole + change)

    measured = {stage: after.of(stage) for stage in own}
    value = end_to_end(measured)
    low = end_to_end({stage: before.of(stage) / r.low if r else measured[stage] for stage, r in own.items()})
    high = end_to_end({stage: before.of(stage) / r.high if r else measured[stage] for stage, r in own.items()})
    if value is None or low is None or high is None:
        return None
    return {"ratio": value, "low": min(low, value), "high": max(high, value)}


def _mean_ratio(first: stats.Floats, second: stats.Floats) -> float | None:
    """The geometric mean over utterances, as `stats.paired_ratio` has it; `None` where no pair is positive."""
    usable = _pairs(first, second)
    if not usable.any():
        return None
    logs = np.full(first.shape, np.nan)
    logs[usable] = np.log(first[usable] / second[usable])
    return float(np.exp(np.nanmean(logs[:, usable.any(axis=0)], axis=0).mean()))


def _pairs(first: stats.Floats, second: stats.Floats) -> Any:
    return (first > 0) & (second > 0)


def _paired(first: stats.Floats, second: stats.Floats) -> bool:
    return bool(_pairs(first, second).any())
