"""How long the gate measures: until every case is decided, and never red on one look.

The first batch measures every case. A case that looks worse is measured again, and is red only where the fresh batch
alone says the same of the same number; so a false alarm needs the same accident twice. A case that is unclear is
measured again, too, and judged on everything it has. Instructions are counted twice at the first look where they differ
at all, so their red needs no other batch. What is still open when the repeats or the time run out is
unclear. A batch that is under way then is ended: its finished pairs count, and what it did not come to is unclear, too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

from harness.gate.config import GateConfig
from harness.gate.evidence import Evidence
from harness.gate.judge import CaseVerdict, decided, judge
from harness.gate.reconcile import reconciled

Measure = Callable[[Collection[str] | None], Mapping[str, Evidence]]
"""Measures a batch of these cases, `None` for all: case to evidence."""
COUNTED = "instructions "
NOT_CONFIRMED = "not confirmed by a repeat"


@dataclass(frozen=True, slots=True)
class Decision:
    """What the gate decided.

    Attributes:
        cases: A verdict for each case, in the plan's order.
        batches: How often it measured.
    """

    cases: tuple[CaseVerdict, ...]
    batches: int


def decide(measure: Measure, config: GateConfig, *, now: Callable[[], float] = time.monotonic) -> Decision:
    """Measure until every case is decided.

    Args:
        measure: See `Measure`.
        config: Margins, batches and budget.
        now: The clock of the budget, in seconds.
    """
    started = now()
    pooled = dict(measure(None))
    confirmed: dict[str, frozenset[str]] = {name: frozenset() for name in pooled}
    batches = 1
    took_s = now() - started
    while True:
        verdicts = {name: judge(evidence, config) for name, evidence in pooled.items()}
        wanted = [name for name, case in verdicts.items() if _open(case, confirmed[name])]
        spent = now() - started
        if (
            not wanted
            or (batches + 1) * config.repeats.batch > config.repeats.most
            or (spent + took_s > config.repeats.budget_s)
        ):
            break
        before = now()
        fresh = measure(wanted)
        took_s = now() - before
        batches += 1
        for name in wanted:
            if name in fresh and not fresh[name].late:
                confirmed[name] |= _confirmed(verdicts[name], judge(fresh[name], config))
                pooled[name] = _pooled(verdicts[name], pooled[name], fresh[name])
    return Decision(tuple(_final(verdicts[name], confirmed[name]) for name in pooled), batches)


BROKEN = "broken"


def _open(case: CaseVerdict, confirmed: frozenset[str]) -> bool:
    if case.verdict == "broken":
        return BROKEN not in confirmed
    return case.verdict == "unclear" or bool(_timed(case.worse()) - confirmed)


def _timed(metrics: frozenset[str]) -> frozenset[str]:
    """Those that noise may have made worse."""
    return frozenset(name for name in metrics if not name.startswith(COUNTED))


def _confirmed(before: CaseVerdict, fresh: CaseVerdict) -> frozenset[str]:
    """What looked worse and does so again."""
    if before.verdict == fresh.verdict == "broken":
        return frozenset({BROKEN})
    return before.worse() & fresh.worse()


def _pooled(before: CaseVerdict, evidence: Evidence, fresh: Evidence) -> Evidence:
    if before.verdict == "broken" and not fresh.problem:
        return replace(fresh, notes=(*fresh.notes, f"failed once and not again: {before.reason}"))
    return evidence.joined(fresh)


def _final(case: CaseVerdict, confirmed: frozenset[str]) -> CaseVerdict:
    """The case, without a red that no repeat confirmed."""
    if case.verdict == "broken" and BROKEN not in confirmed:
        return replace(case, reason=f"{case.reason} (there was no time to see whether it does so again)")
    rows = tuple(
        replace(row, verdict="unclear", note="; ".join(filter(None, (row.note, NOT_CONFIRMED))))
        if row.verdict == "worse" and row.metric in _timed(case.worse()) - confirmed
        else row
        for row in case.rows
    )
    return case if rows == case.rows else decided(replace(case, rows=reconciled(rows, case.busy)))
