"""Runs a plan: each case in a fresh process, the cases interleaved over the repeats, failures kept apart."""

from __future__ import annotations

import contextlib
import os
import random
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

from harness.fingerprint import fingerprint
from harness.plan import Plan
from harness.progress import Reporter
from harness.recorder import Recorder, new_run_folder, utc_now
from harness.records import (
    SCHEMA_VERSION,
    Case,
    CaseEntry,
    Manifest,
    ProcessRecord,
    RunStatus,
    Sample,
    Utterance,
)
from harness.resume import check_resumable
from harness.scratch import Scratch, write_scratch
from harness.stop import Stop
from harness.store import Run, open_run
from harness.watch import Watched, watch
from harness.worker import Job
from pipelines.assemble import process_environment, unavailable
from pipelines.errors import AmiraError, NothingMeasuredError

if TYPE_CHECKING:
    from harness.corpus import Corpus

Pair = tuple[str, int]
"""A case id and a repeat: what one process measures."""


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """What became of a run.

    Attributes:
        path: Its folder.
        status: `complete`, or `interrupted` by the user.
        failures: The processes that failed, also those of earlier sittings.
    """

    path: Path
    status: RunStatus
    failures: tuple[ProcessRecord, ...]


def run_plan(
    plan: Plan,
    *,
    corpus: Corpus,
    models_dir: Path,
    runs_dir: Path,
    reporter: Reporter,
    resume: Path | None = None,
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

    Raises:
        NothingMeasuredError: The run ended without one sample; its folder says why.
        AmiraError: The disk is full or cannot be written, or the run cannot be resumed.
    """
    limit = plan.corpus_limit
    clips = corpus.select(max_clips=limit.max_clips, max_seconds=limit.max_seconds, seed=plan.seed).clips
    entries = tuple(_entry(case) for case in plan.cases)
    with contextlib.ExitStack() as stack:
        stack.enter_context(reporter)
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="amira-"))
        scratch = write_scratch(clips, Path(folder))
        facts = fingerprint(models_dir, {entry.case.pipeline.model for entry in entries})
        before = None if resume is None else open_run(resume)
        if resume is None or before is None:
            path = new_run_folder(runs_dir, plan.name)
            recorder = Recorder.create(path, _manifest(path.name, plan, entries, scratch.utterances, facts))
        else:
            check_resumable(before.manifest, plan, entries, scratch.utterances, facts)
            recorder = Recorder.resume(resume)
        stack.enter_context(recorder)
        stop = stack.enter_context(Stop())
        measurement = _Measurement(plan, models_dir.absolute(), scratch, recorder, reporter, stop, before)
        return measurement.run([entry for entry in entries if entry.unavailable_reason is None])


class _Measurement:
    """The loop over repeats and cases, and what it has found so far."""

    def __init__(
        self,
        plan: Plan,
        models_dir: Path,
        scratch: Scratch,
        recorder: Recorder,
        reporter: Reporter,
        stop: Stop,
        before: Run | None,
    ) -> None:
        self._plan, self._models_dir, self._scratch = plan, models_dir, scratch
        self._recorder, self._reporter, self._stop = recorder, reporter, stop
        records = before.processes if before else ()
        self._done: set[Pair] = {(record.case, record.repeat) for record in records}
        self._failures = [record for record in records if record.status == "failed"]
        self._samples = (
            0
            if before is None
            else sum(
                sample.phase == "steady" and (sample.case, sample.repeat) in self._done for sample in before.samples
            )
        )

    def run(self, entries: Sequence[CaseEntry]) -> RunOutcome:
        """Measure what is missing, and close the run."""
        pairs = self._missing(entries)
        self._reporter.started(
            self._recorder.path.name,
            [(case.id, repeat) for case, repeat in pairs],
            self._plan.warm_up + self._plan.laps * len(self._scratch.utterances),
        )
        try:
            status = self._measure_all(pairs)
            self._recorder.finish(status)
        except AmiraError:
            # The disk refused. Saying so in the manifest may fail for the same reason; the first error counts.
            with contextlib.suppress(AmiraError):
                self._recorder.mark("interrupted")
            raise
        if status == "complete" and not self._samples:
            raise self._nothing_measured()
        return RunOutcome(self._recorder.path, status, tuple(self._failures))

    def _missing(self, entries: Sequence[CaseEntry]) -> list[tuple[Case, int]]:
        """What is still to be measured, in order: the cases shuffled anew in each repeat.

        So no case always comes after the same neighbour, and a machine that gets slower hits all of them.
        """
        failed = {record.case for record in self._failures}
        pairs = []
        for repeat in range(self._plan.repeats):
            cases = [entry.case for entry in entries]
            random.Random(f"{self._plan.seed}/{repeat}").shuffle(cases)
            pairs += [(case, repeat) for case in cases if case.id not in failed and (case.id, repeat) not in self._done]
        return pairs

    def _measure_all(self, pairs: Sequence[tuple[Case, int]]) -> RunStatus:
        failed: set[str] = set()
        for case, repeat in pairs:
            if case.id in failed:
                self._reporter.dropped(case.id, repeat)
                continue
            record = None if self._stop.requested else self._measure(case, repeat)
            if record is None:
                self._reporter.message(f"{self._stop.requested}: what was measured is kept, the run can be resumed")
                return "interrupted"
            if record.status == "failed":
                record = self._final(record)
                failed.add(case.id)
                self._failures.append(record)
            self._recorder.process(record)
            self._reporter.process_done(record)
        return "complete"

    def _measure(self, case: Case, repeat: int) -> ProcessRecord | None:
        """Run one process to its end; `None` if the user stopped it."""
        self._reporter.process_started(case.id, repeat)
        job = Job(
            pipeline=case.pipeline.model_dump(mode="json"),
            models_dir=str(self._models_dir),
            audio=str(self._scratch.audio),
            utterances=self._scratch.sizes,
            warm_up=self._plan.warm_up,
            laps=self._plan.laps,
            order_seed=self._plan.seed + repeat,
            memory_limit_mib=self._plan.memory_limit_mib,
            spawned_ns=perf_counter_ns(),
            parent=os.getpid(),
        )
        watched = Watched(
            case=case.id,
            repeat=repeat,
            timeout_s=self._plan.timeout_s,
            on_sample=self._keep,
            on_note=self._reporter.message,
            stopped=lambda: self._stop.requested is not None,
            environment=process_environment(case.pipeline, os.environ),
        )
        return watch(job, self._scratch.job_file(job), watched)

    def _keep(self, sample: Sample) -> None:
        self._recorder.sample(sample)
        self._samples += sample.phase == "steady"
        self._reporter.sample(sample)

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
            f"{'; '.join(reasons)}. Mend one of them and run the plan again."
        )


def _entry(case: Case) -> CaseEntry:
    """A case, with the reason where it cannot run here."""
    cores = len(os.sched_getaffinity(0))
    if case.pipeline.threads > cores:
        return CaseEntry(
            case=case,
            unavailable_reason=f"it wants {case.pipeline.threads} threads, this process may use {cores} cores",
            unavailable_remedy=f"Set threads to at most {cores}, or run on a machine with more cores",
        )
    problem = unavailable(case.pipeline)
    if problem is None:
        return CaseEntry(case=case)
    variant, why = problem
    return CaseEntry(case=case, unavailable_reason=f"{variant}: {why.reason}", unavailable_remedy=why.remedy)


def _manifest(
    run: str,
    plan: Plan,
    entries: tuple[CaseEntry, ...],
    utterances: tuple[Utterance, ...],
    facts: Mapping[str, Any],
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
        cases=entries,
        utterances=utterances,
        fingerprint=dict(facts),
    )
