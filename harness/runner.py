"""Runs a plan: each case in a fresh process, the cases interleaved over the repeats, failures kept apart."""

from __future__ import annotations

import contextlib
import os
import random
import tempfile
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

from harness.fingerprint import fingerprint
from harness.metrics.normalise import normalise
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
from harness.scenario import schedule
from harness.scratch import Scratch, write_scratch
from harness.side import Side
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
Block = tuple[tuple[Case, int], ...]
"""Cases of one repeat that are measured at the same time, taking turns call by call; mostly one."""


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
    sides: Mapping[str, Side] | None = None,
    budget_s: float | None = None,
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
        budget_s: Seconds after which no further process is started, as if the user had stopped it then.

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
    entries = tuple(_entry(case, plan.scenario.workers) for case in plan.cases)
    with contextlib.ExitStack() as stack:
        stack.enter_context(reporter)
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="amira-"))
        scratch = write_scratch(clips, Path(folder))
        facts = fingerprint(models_dir, {entry.case.pipeline.model for entry in entries})
        before = None if resume is None else open_run(resume)
        if resume is None or before is None:
            path = new_run_folder(runs_dir, plan.name)
            manifest = _manifest(path.name, plan, entries, scratch.utterances, facts)
            codes = {name: side.described() for name, side in (sides or {}).items()}
            recorder = Recorder.create(path, manifest.model_copy(update={"sides": codes}))
        else:
            check_resumable(before.manifest, plan, entries, scratch.utterances, facts)
            recorder = Recorder.resume(resume)
        stack.enter_context(recorder)
        stop = stack.enter_context(Stop())
        if budget_s is not None:
            stack.enter_context(stop.after(budget_s))
        here = Side.here(models_dir.absolute())
        measurement = _Measurement(plan, here, sides or {}, scratch, recorder, reporter, stop, before)
        return measurement.run([entry for entry in entries if entry.unavailable_reason is None])


class _Measurement:
    """The loop over repeats and cases, and what it has found so far."""

    def __init__(
        self,
        plan: Plan,
        here: Side,
        sides: Mapping[str, Side],
        scratch: Scratch,
        recorder: Recorder,
        reporter: Reporter,
        stop: Stop,
        before: Run | None,
    ) -> None:
        self._plan, self._here, self._sides, self._scratch = plan, here, sides, scratch
        self._recorder, self._reporter, self._stop = recorder, reporter, stop
        self._keeping = threading.Lock()
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
        blocks = self._missing(entries)
        self._reporter.started(
            self._recorder.path.name,
            [(case.id, repeat) for block in blocks for case, repeat in block],
            self._plan.warm_up + self._plan.laps * len(self._scratch.utterances),
        )
        try:
            status = self._measure_all(blocks)
            self._recorder.finish(status)
        except AmiraError:
            # The disk refused. Saying so in the manifest may fail for the same reason; the first error counts.
            with contextlib.suppress(AmiraError):
                self._recorder.mark("interrupted")
            raise
        if status == "complete" and not self._samples:
            raise self._nothing_measured()
        return RunOutcome(self._recorder.path, status, tuple(self._failures))

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

    def _measure_all(self, blocks: Sequence[Block]) -> RunStatus:
        failed: set[str] = set()
        for block in blocks:
            for case, repeat in block:
                if case.id in failed:
                    self._reporter.dropped(case.id, repeat)
            live = [(case, repeat) for case, repeat in block if case.id not in failed]
            records = [None] if live and self._stop.requested else self._measure_together(live)
            for record in filter(None, records):
                kept = self._final(record) if record.status == "failed" else record
                if kept.status == "failed":
                    failed.add(kept.case)
                    self._failures.append(kept)
                self._recorder.process(kept)
                self._reporter.process_done(kept)
            if None in records:
                self._reporter.message(f"{self._stop.requested}: what was measured is kept, the run can be resumed")
                return "interrupted"
        return "complete"

    def _measure_together(self, block: Sequence[tuple[Case, int]]) -> list[ProcessRecord | None]:
        """Run the processes of a block to their ends; `None` for one that the user stopped."""
        if len(block) < 2:
            return [self._measure(case, repeat, 0, None) for case, repeat in block]
        pipes = [os.pipe() for _ in block]
        os.write(pipes[0][1], b".")
        turns = [(pipes[place][0], pipes[(place + 1) % len(block)][1]) for place in range(len(block))]
        with ThreadPoolExecutor(len(block)) as pool:
            return list(
                pool.map(
                    self._measure,
                    (case for case, _ in block),
                    (repeat for _, repeat in block),
                    range(len(block)),
                    turns,
                )
            )

    def _expected(self) -> dict[str, str] | None:
        """What each utterance's reader was to read, where the plan tells pipelines so.

        Raises:
            AmiraError: An utterance has no transcript.
        """
        if self._plan.expected_text == "none":
            return None
        texts = {utterance.id: normalise(utterance.text or "") for utterance in self._scratch.utterances}
        if lacking := [name for name, text in texts.items() if not text]:
            raise AmiraError(
                f"the plan's expected_text is the reference, but '{lacking[0]}' has no transcript. Use a corpus with "
                "transcripts, or leave expected_text out"
            )
        return texts

    def _arrivals(self, repeat: int) -> list[list[list[tuple[int, int]]]] | None:
        """When the requests of each lap arrive, the same for all cases of a repeat."""
        scenario, count = self._plan.scenario, len(self._scratch.utterances)
        if scenario.kind == "single-stream":
            return None
        seeds = random.Random(f"{self._plan.seed}/{repeat}/arrivals")
        return [schedule(scenario, count, seeds.getrandbits(32)) for _ in range(self._plan.laps)]

    def _measure(self, case: Case, repeat: int, place: int, turn: tuple[int, int] | None) -> ProcessRecord | None:
        """Run one process to its end; `None` if the user stopped it.

        Args:
            case: What it measures.
            repeat: In which repeat.
            place: Its place in its block.
            turn: Its ends of the block's ring (`harness.worker`).
        """
        side = self._sides[case.side] if case.side else self._here
        self._reporter.process_started(case.id, repeat)
        job = Job(
            pipeline=case.pipeline.model_dump(mode="json"),
            models_dir=str(side.models_dir),
            audio=str(self._scratch.audio),
            utterances=self._scratch.sizes,
            warm_up=self._plan.warm_up,
            laps=self._plan.laps,
            order_seed=self._plan.seed + repeat,
            memory_limit_mib=self._plan.memory_limit_mib,
            spawned_ns=perf_counter_ns(),
            parent=os.getpid(),
            turn=turn,
            expected=self._expected(),
            slowdown=dict(side.slowdown),
            workers=self._plan.scenario.workers,
            arrivals=self._arrivals(repeat),
        )
        watched = Watched(
            case=case.id,
            repeat=repeat,
            timeout_s=self._plan.timeout_s,
            on_sample=self._keep,
            on_note=self._reporter.message,
            stopped=lambda: self._stop.requested is not None,
            environment={**side.environment, **process_environment(case.pipeline, {**os.environ, **side.environment})},
            python=side.python,
            fds=turn or (),
        )
        try:
            job_file = self._scratch.job_file(job, place)
        except AmiraError:
            for fd in watched.fds:  # or the others would wait for this one's turn for ever
                os.close(fd)
            raise
        return watch(job, job_file, watched)

    def _keep(self, sample: Sample) -> None:
        with self._keeping:
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
            f"{'; '.join(reasons)}. Mend one of them and run the plan again.",
            self._recorder.path,
        )


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
        scenario=plan.scenario,
        cases=entries,
        utterances=utterances,
        fingerprint=dict(facts),
    )
