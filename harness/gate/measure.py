"""Measuring for the gate: a plan with two sides, or a plan against a stored run, batch by batch."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from harness.gate.evidence import Evidence
from harness.gate.sides import apart, together
from harness.plan import Plan
from harness.progress import Reporter
from harness.records import Case
from harness.runner import run_plan
from harness.side import BASELINE, CANDIDATE, Side
from harness.store import Run, open_run
from pipelines.errors import NothingMeasuredError

if TYPE_CHECKING:
    from harness.corpus import Corpus


@dataclass(slots=True)
class Bench:
    """Where a gate measures.

    Attributes:
        plan: What to measure; its repeats are those of a batch.
        corpus: The corpus that it names.
        models_dir: Our built models.
        runs_dir: Gets a run for each batch.
        reporter: Makes one for each batch.
        runs: The names of the batches' runs so far.
    """

    plan: Plan
    corpus: Corpus
    models_dir: Path
    runs_dir: Path
    reporter: Callable[[], Reporter]
    runs: list[str] = field(default_factory=list)

    def batch(
        self, cases: tuple[Case, ...], sides: Mapping[str, Side] | None = None, budget_s: float | None = None
    ) -> Run:
        """Measure these cases; a run in which nothing could be measured is opened like any other.

        Args:
            cases: The plan's, or sides of them.
            sides: The checkouts that they name.
            budget_s: See `run_plan`; what was measured by then is the run.

        Raises:
            KeyboardInterrupt: The user stopped it.
        """
        update = {"cases": cases, "seed": self.plan.seed + len(self.runs), "name": f"{self.plan.name}-gate"}
        try:
            outcome = run_plan(
                self.plan.model_copy(update=update),
                corpus=self.corpus,
                models_dir=self.models_dir,
                runs_dir=self.runs_dir,
                reporter=self.reporter(),
                sides=sides,
                budget_s=budget_s,
            )
        except NothingMeasuredError as error:
            if error.run is None:
                raise
            path = error.run
        else:
            path = outcome.path
            if outcome.status == "interrupted" and not outcome.out_of_time:
                raise KeyboardInterrupt
        self.runs.append(path.name)
        return open_run(path)


class Budget:
    """How long measuring may take, from now on."""

    def __init__(self, seconds: float, now: Callable[[], float] = time.monotonic) -> None:
        """Start the clock; `now` gives seconds."""
        self._until, self._now = now() + seconds, now

    def left_s(self) -> float:
        """Seconds that are left; never quite none, for a run wants some."""
        return max(self._until - self._now(), 0.001)

    def spent(self) -> bool:
        """Whether none is left."""
        return self._now() >= self._until


def against_side(
    bench: Bench, baseline: Side, candidate: Side, budget: Budget | None = None
) -> Callable[[Collection[str] | None], dict[str, Evidence]]:
    """Measures batches of two checkouts together, and ends one that is under way when the budget is spent."""
    sides = {BASELINE: baseline, CANDIDATE: candidate}

    def measure(names: Collection[str] | None) -> dict[str, Evidence]:
        wanted = [case for case in bench.plan.cases if names is None or case.id in names]
        cases = tuple(side for case in wanted for side in two_sides(case))
        run = bench.batch(cases, sides, budget.left_s() if budget else None)
        return {evidence.case: evidence for evidence in together(run)}

    return measure


def against_run(
    bench: Bench, baseline: Run, budget: Budget | None = None
) -> Callable[[Collection[str] | None], dict[str, Evidence]]:
    """Measures batches of the candidate, to be compared with a stored run; the budget ends one that is under way."""

    def measure(names: Collection[str] | None) -> dict[str, Evidence]:
        wanted = tuple(
            case.model_copy(update={"compare_to": None, "rung": False})
            for case in bench.plan.cases
            if names is None or case.id in names
        )
        run = bench.batch(wanted, budget_s=budget.left_s() if budget else None)
        return {evidence.case: evidence for evidence in apart(baseline, run, {case.id: case.id for case in wanted})}

    return measure


def two_sides(case: Case) -> tuple[Case, Case]:
    """A plan's case as the baseline and the candidate run it."""
    ids = {side: f"{case.id} ({side})" for side in (BASELINE, CANDIDATE)}
    before, after = (
        case.model_copy(
            update={
                "id": ids[side],
                "title": case.title if side == CANDIDATE else f"{case.title} ({side})",
                "compare_to": ids[BASELINE] if side == CANDIDATE else None,
                "rung": False,
                "side": side,
                "of": case.id,
            }
        )
        for side in (BASELINE, CANDIDATE)
    )
    return before, after
