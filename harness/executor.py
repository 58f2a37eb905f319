"""Where the processes of a plan run: on this machine, or on the workers of a Ray cluster (`harness.executor_ray`).

An executor is told what is missing and says what became of it. It neither writes a run nor knows what is in it, so a
run has the same folder, samples and numbers whoever measured it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from harness.fingerprint import fingerprint
from harness.plan import Plan
from harness.records import Case, CaseEntry, Execution, ProcessRecord, Sample
from harness.scratch import Scratch
from harness.side import Side
from harness.station import Block, Heard, Station
from pipelines.assemble import unavailable


@dataclass(frozen=True, slots=True)
class Survey:
    """What a machine says about a plan before anything is measured.

    Attributes:
        entries: The plan's cases, each with the reason where it cannot run there.
        fingerprint: What its measurements depend on.
    """

    entries: tuple[CaseEntry, ...]
    fingerprint: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Work:
    """What is measured, and with what.

    Attributes:
        plan: The plan.
        scratch: The audio of its corpus.
        models_dir: Absolute folder of built models.
        folder: The run's folder, for what must outlive an interruption.
        sides: The checkouts that cases name.
        placed: Case to the workers that measured it before the run was interrupted.
    """

    plan: Plan
    scratch: Scratch
    models_dir: Path
    folder: Path
    sides: Mapping[str, Side] = field(default_factory=dict)
    placed: Mapping[str, Sequence[str]] = field(default_factory=dict)


class Sink(Protocol):
    """Takes what an executor finds: the runner. Only `sample` may be called by several threads."""

    def wanted(self, case: Case, repeat: int) -> bool:
        """Whether this is still to be measured: not if an earlier repeat of the case failed."""
        ...

    def started(self, case: str, repeat: int) -> None:
        """Its process begins."""
        ...

    def sample(self, sample: Sample) -> None:
        """An utterance was measured."""
        ...

    def done(self, record: ProcessRecord, workers: Sequence[str] = ()) -> None:
        """A process has ended, all its samples told; `workers` says where it ran if not simply here."""
        ...

    def note(self, text: str) -> None:
        """Something that the user should read."""
        ...

    def stopped(self) -> bool:
        """Whether the user wants to stop."""
        ...


class Executor(Protocol):
    """Runs blocks. Open it in a `with` block; nothing that it started outlives that."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def survey(self, plan: Plan, models_dir: Path) -> Survey:
        """Ask where the plan will run.

        Raises:
            AmiraError: It cannot run there at all.
        """
        ...

    def described(self) -> Execution:
        """What the manifest says about it, after the survey."""
        ...

    def measure(self, work: Work, blocks: Sequence[Block], sink: Sink) -> bool:
        """Measure the blocks; those of cases that share a worker in this order.

        Returns:
            Whether all were measured: not where the user stopped it, or where a worker is gone for good.
        """
        ...


class LocalExecutor:
    """One block after the other, on this machine."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        return

    def survey(self, plan: Plan, models_dir: Path) -> Survey:
        """See `Executor`."""
        return Survey(entries_of(plan), facts_of(plan, models_dir))

    def described(self) -> Execution:
        """See `Executor`."""
        return Execution()

    def measure(self, work: Work, blocks: Sequence[Block], sink: Sink) -> bool:
        """See `Executor`."""
        station = Station(work.plan, work.scratch, Side.here(work.models_dir), work.sides)
        heard = Heard(sink.started, sink.sample, sink.note, sink.stopped)
        for block in blocks:
            live = [(case, repeat) for case, repeat in block if sink.wanted(case, repeat)]
            if live and sink.stopped():
                return False
            records = station.measure(live, heard)
            for record in filter(None, records):
                sink.done(record)
            if None in records:
                return False
        return True


def entries_of(plan: Plan) -> tuple[CaseEntry, ...]:
    """The plan's cases, each with the reason where it cannot run in a process like this one."""
    return tuple(_entry(case, plan.scenario.workers) for case in plan.cases)


def facts_of(plan: Plan, models_dir: Path) -> dict[str, Any]:
    """The fingerprint of this machine with the plan's models."""
    return fingerprint(models_dir, {case.pipeline.model for case in plan.cases})


def _entry(case: Case, workers: int) -> CaseEntry:
    """A case, with the reason where it cannot run here."""
    cores, wanted = len(os.sched_getaffinity(0)), case.pipeline.threads * workers
    if wanted > cores:
        each = f" ({workers} workers with {case.pipeline.threads} each)" if workers > 1 else ""
        return CaseEntry(
            case=case,
            unavailable_reason=f"it wants {wanted} threads{each}, this process may use {cores} cores",
            unavailable_remedy=f"Set threads to at most {cores // workers or 1}, or run on a machine with more cores",
        )
    problem = unavailable(case.pipeline)
    if problem is None:
        return CaseEntry(case=case)
    variant, why = problem
    return CaseEntry(case=case, unavailable_reason=f"{variant}: {why.reason}", unavailable_remedy=why.remedy)
