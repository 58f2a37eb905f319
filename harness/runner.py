"""Runs a plan: each case in a fresh process, the cases interleaved over the repeats, failures kept apart."""

from __future__ import annotations

import contextlib
import random
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.executor import Executor, LocalExecutor, Work
from harness.plan import Plan
from harness.progress import Reporter
from harness.recorder import Recorder, new_run_folder, utc_now
from harness.records import (
    SCHEMA_VERSION,
    Case,
    CaseEntry,
    Execution,
    Manifest,
    ProcessRecord,
    RunStatus,
    Sample,
    Utterance,
)
from harness.resume import check_resumable
from harness.scratch import write_scratch
from harness.side import Side
from harness.station import Block, Pair
from harness.stop import TIME_IS_UP, Stop
from harness.store import Run, open_run
from pipelines.errors import AmiraError, NothingMeasuredError

if TYPE_CHECKING:
    from harness.corpus import Corpus


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """What became of a run.

    Attributes:
        path: Its folder.
        status: `complete`, or `interrupted` by the user.
        failures: The processes that failed, also those of earlier sittings.
        out_of_time: Whether it was interrupted because its budget was spent.
    """

    path: Path
    status: RunStatus
    failures: tuple[ProcessRecord, ...]
    out_of_time: bool = False


def run_plan(
    plan: Plan,
    *,
    corpus: Corpus,
    models_dir: Path,
    runs_dir: Path,
    reporter: Reporter,
    resume: Path | None = None,
    sides: Mapping[str, Side] | None = None,
    budget_s: float | None = None,
    executor: Executor | None = None,
) -> RunOutcome:
    """Measure every case of a plan.

    A case that cannot run here, crashes, hangs or runs out of memory is recorded as such, and the rest goes on.
    SIGINT and SIGTERM end the run in order; it can be resumed.

    Args:
        plan: What to measure; its `corpus_limit` is applied here.
        corpus: The corpus that the plan names.
        models_dir: Folder of built models.
        runs_dir: Folder that gets the run's folder.
        reporter: Hears what happens.
        resume: Folder of an interrupted run of the same plan to continue.
        sides: The checkouts that the plan's cases name; none for a plan that is no comparison of checkouts.
        budget_s: Seconds after which it is ended, as if the user had stopped it then.
        executor: Where its processes run; on this machine unless said otherwise. It is opened and closed here.

    Raises:
        NothingMeasuredError: The run ended without one sample; its folder says why.
        AmiraError: The disk is full or cannot be written, or the run cannot be resumed.
    """
    limit = plan.corpus_limit
    clips = (
        corpus.select(max_clips=limit.max_clips, max_seconds=limit.max_seconds, seed=plan.seed)
        .under(plan.condition)
        .clips
    )
    with contextlib.ExitStack() as stack:
        stack.enter_context(reporter)
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="amira-"))
        scratch = write_scratch(clips, Path(folder))
        executor = stack.enter_context(executor or LocalExecutor())
        found = executor.survey(plan, models_dir.absolute())
        entries, facts = found.entries, found.fingerprint
        before = None if resume is None else open_run(resume)
        if resume is None or before is None:
            path = new_run_folder(runs_dir, plan.name)
            manifest = _manifest(path.name, plan, entries, scratch.utterances, facts, executor.described())
            codes = {name: side.described() for name, side in (sides or {}).items()}
            recorder = Recorder.create(path, manifest.model_copy(update={"sides": codes}))
        else:
            check_resumable(before.manifest, plan, entries, scratch.utterances, facts, executor.described().name)
            recorder = Recorder.resume(resume, executor.described())
        stack.enter_context(recorder)
        stop = stack.enter_context(Stop())
        if budget_s is not None:
            stack.enter_context(stop.after(budget_s))
        work = Work(plan, scratch, models_dir.absolute(), recorder.path, sides or {}, recorder.manifest.executor.cases)
        measurement = _Measurement(work, executor, recorder, reporter, stop, before)
        return measurement.run([entry for entry in entries if entry.unavailable_reason is None])


class _Measurement:
    """What a run has found so far; an executor's sink (`harness.executor`)."""

    def __init__(
        self, work: Work, executor: Executor, recorder: Recorder, reporter: Reporter, stop: Stop, before: Run | None
    ) -> None:
        self._work, self._plan, self._executor = work, work.plan, executor
        self._recorder, self._reporter, self._stop = recorder, reporter, stop
        self._keeping = threading.Lock()
        records = before.processes if before else ()
        self._done: set[Pair] = {(record.case, record.repeat) for record in records}
        self._failures = [record for record in records if record.status == "failed"]
        self._failed: set[str] = set()
        self._samples = (
            0
            if before is None
            else sum(
                sample.phase == "steady" and (sample.case, sample.repeat) in self._done for sample in before.samples
            )
        )

    def run(self, entries: Sequence[CaseEntry]) -> RunOutcome:
        """Measure what is missing, and close the run."""
        blocks = self._missing(entries)
        self._reporter.started(
            self._recorder.path.name,
            [(case.id, repeat) for block in blocks for case, repeat in block],
            self._plan.warm_up + self._plan.laps * len(self._work.scratch.utterances),
        )
        status: RunStatus
        try:
            status = "complete" if self._executor.measure(self._work, blocks, self) else "interrupted"
            if status == "interrupted":
                why = self._stop.requested or "interrupted"
                self._reporter.message(f"{why}: what was measured is kept, the run can be resumed")
            self._recorder.finish(status)
        except AmiraError:
            # The disk refused. Saying so in the manifest may fail for the same reason; the first error counts.
            with contextlib.suppress(AmiraError):
                self._recorder.mark("interrupted")
            raise
        if status == "complete" and not self._samples:
            raise self._nothing_measured()
        late = status == "interrupted" and self._stop.requested == TIME_IS_UP
        return RunOutcome(self._recorder.path, status, tuple(self._failures), late)

    def _missing(self, entries: Sequence[CaseEntry]) -> list[Block]:
        """What is still to be measured, in order: the cases shuffled anew in each repeat.

        So no case always comes after the same neighbour, and a machine that gets slower hits all of them. The sides
        of one case stay together, and take turns in going first.
        """
        failed = {record.case for record in self._failures}
        blocks: list[Block] = []
        for repeat in range(self._plan.repeats):
            together: dict[str, list[Case]] = {}
            for entry in entries:
                together.setdefault(entry.case.of or entry.case.id, []).append(entry.case)
            groups = list(together.values())
            random.Random(f"{self._plan.seed}/{repeat}").shuffle(groups)
            for cases in groups:
                first = repeat % len(cases)
                wanted = [
                    (case, repeat)
                    for case in (*cases[first:], *cases[:first])
                    if case.id not in failed and (case.id, repeat) not in self._done
                ]
                if wanted:
                    blocks.append(tuple(wanted))
        return blocks

    def wanted(self, case: Case, repeat: int) -> bool:
        """See `Sink`."""
        if case.id in self._failed:
            self._reporter.dropped(case.id, repeat)
            return False
        return True

    def started(self, case: str, repeat: int) -> None:
        """See `Sink`."""
        self._reporter.process_started(case, repeat)

    def sample(self, sample: Sample) -> None:
        """See `Sink`."""
        with self._keeping:
            self._recorder.sample(sample)
            self._samples += sample.phase == "steady"
            self._reporter.sample(sample)

    def done(self, record: ProcessRecord, workers: Sequence[str] = ()) -> None:
        """See `Sink`."""
        kept = self._final(record) if record.status == "failed" else record
        if kept.status == "failed":
            self._failed.add(kept.case)
            self._failures.append(kept)
        if workers:
            self._recorder.ran(kept.case, workers)
        self._recorder.process(kept)
        self._reporter.process_done(kept)

    def note(self, text: str) -> None:
        """See `Sink`."""
        self._reporter.message(text)

    def stopped(self) -> bool:
        """See `Sink`."""
        return self._stop.requested is not None

    def _final(self, record: ProcessRecord) -> ProcessRecord:
        """A failed record, which says what its failure means for the repeats after it."""
        if record.repeat + 1 == self._plan.repeats:
            return record
        return replace(record, error=f"{record.error}. Not tried again in later repeats")

    def _nothing_measured(self) -> NothingMeasuredError:
        reasons = [f"{record.case}: {record.error}" for record in self._failures]
        reasons += [
            f"{entry.case.id}: {entry.unavailable_reason}. {entry.unavailable_remedy}"
            for entry in self._recorder.manifest.cases
            if entry.unavailable_reason is not None
        ]
        return NothingMeasuredError(
            f"run '{self._recorder.path.name}' measured nothing, for no case could be run to its end: "
            f"{'; '.join(reasons)}. Mend one of them and run the plan again.",
            self._recorder.path,
        )


def _manifest(
    run: str,
    plan: Plan,
    entries: tuple[CaseEntry, ...],
    utterances: tuple[Utterance, ...],
    facts: Mapping[str, Any],
    execution: Execution,
) -> Manifest:
    return Manifest(
        schema_version=SCHEMA_VERSION,
        run=run,
        status="running",
        created_utc=utc_now(),
        plan_name=plan.name,
        plan_title=plan.title,
        plan_description=plan.description,
        plan_toml=plan.source,
        corpus=plan.corpus,
        repeats=plan.repeats,
        warm_up=plan.warm_up,
        laps=plan.laps,
        scenario=plan.scenario,
        measures=plan.measures,
        executor=execution,
        cases=entries,
        utterances=utterances,
        fingerprint=dict(facts),
    )
