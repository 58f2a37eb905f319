"""Follows one worker process to its end, whatever end that is, and says in one line what went wrong."""

from __future__ import annotations

import re
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter_ns
from typing import Any

from harness.process import Event, WorkerProcess
from harness.records import ProcessRecord, Sample
from harness.worker import BAD_ALLOC, Job

TICK_S = 0.2
EXIT_GRACE_S = 10.0
MIB = 2**20
SAMPLE_FIELDS = (
    *("phase", "utterance", "started_ns", "latency_ns", "cpu_ns", "stages_ns", "steps", "text"),
    *("lap", "rss_bytes", "stages_cpu_ns"),
)
PROCESS_FIELDS = (
    "import_ns",
    "load_ns",
    "warm_up_ns",
    "baseline_rss_bytes",
    "peak_rss_bytes",
    "end_rss_bytes",
    "end_anonymous_bytes",
    "live_bytes",
    "allocator",
    "threads",
    "cpu_s",
    "wall_s",
)


@dataclass(frozen=True, slots=True)
class Watched:
    """How a process is followed.

    Attributes:
        case: Id of the case that it runs.
        repeat: Which interleaved round, from 0.
        timeout_s: Seconds without a sign of life after which it counts as hung.
        on_sample: Gets each sample as soon as it is there.
        on_note: Gets what is odd about the process and does not make it a failure.
        stopped: Whether the user wants to stop.
        environment: Variables that the process is started with besides those of this one.
        python: The interpreter that runs it.
        fds: Descriptors that the process gets, and that are closed here.
    """

    case: str
    repeat: int
    timeout_s: float
    on_sample: Callable[[Sample], None]
    on_note: Callable[[str], None]
    stopped: Callable[[], bool]
    environment: Mapping[str, str] = field(default_factory=dict)
    python: str = sys.executable
    fds: tuple[int, ...] = ()


@dataclass(slots=True)
class _Progress:
    """How far the worker has come, as its reports tell."""

    order: list[tuple[str, str]]
    doing: str = "starting"
    samples: int = 0
    values: dict[str, Any] = field(default_factory=dict)
    end: Event | None = None

    def take(self, event: Event) -> Event | None:
        """Note a report; returns it if it is a sample."""
        for name in PROCESS_FIELDS:
            if name in event:
                self.values[name] = event[name]
        match event["event"]:
            case "imported":
                self.doing = "loading"
            case "loaded":
                self.doing = "warming up"
            case "warm":
                self.doing = self._next()
            case "sample":
                self.samples += 1
                self.doing = self._next()
                return event
            case "waiting":
                pass  # for its turn: a sign of life and no more
            case _:
                self.end = event
        return None

    def _next(self) -> str:
        if self.samples == len(self.order):
            return "closing"
        phase, utterance = self.order[self.samples]
        return f"on utterance '{utterance}' ({phase})"


def watch(job: Job, job_file: Path, watched: Watched) -> ProcessRecord | None:
    """Run a job in a fresh process.

    Returns:
        What became of it; `None` if the user stopped it half-way.
    """
    progress = _Progress(job.order())
    with WorkerProcess(job_file, watched.environment, python=watched.python, fds=watched.fds) as worker:
        hang = _follow(worker, progress, watched)
        if progress.end is None and watched.stopped():
            return None
        if progress.end is not None:
            worker.wait_for_exit(EXIT_GRACE_S)
        exited = worker.exited()
        code = worker.end()
        error = hang or _failure(progress, worker, code, job)
        if error is None and (code != 0 or not exited):
            how = _death(code) if exited else "hung"
            watched.on_note(f"{watched.case}: measured in full, but {how} at its exit{_last_words(worker.stderr)}")
        peak = max(worker.peak_rss_bytes, progress.values.get("peak_rss_bytes", 0))
        seen_from_outside = {
            "cpu_s": worker.cpu_s(),
            "wall_s": (perf_counter_ns() - job.spawned_ns) / 1e9,
        }
        values = {**seen_from_outside, **progress.values, "peak_rss_bytes": peak}
        return ProcessRecord(watched.case, watched.repeat, "failed" if error else "ok", error, **values)


def _follow(worker: WorkerProcess, progress: _Progress, watched: Watched) -> str | None:
    """Listen until the worker has reported its end, died, or is to be stopped; the error if it hangs."""
    heard = time.monotonic()
    while progress.end is None:
        exited = worker.exited()
        events = worker.events(0 if exited else TICK_S)
        for event in events:
            heard = time.monotonic()
            if sample := progress.take(event):
                fields = {name: sample[name] for name in SAMPLE_FIELDS}
                watched.on_sample(Sample(watched.case, watched.repeat, **fields))
        if watched.stopped():
            return None
        if exited and not events:
            return None
        if time.monotonic() - heard > watched.timeout_s:
            return (
                f"hung: no sign of life for {watched.timeout_s:g} s {progress.doing}, so it was ended"
                f"{_last_words(worker.stderr)}. If it is only slow, raise timeout_s in the plan"
            )
    return None


def _failure(progress: _Progress, worker: WorkerProcess, code: int, job: Job) -> str | None:
    """What went wrong in a process that has ended, `None` if nothing did."""
    end = progress.end
    if end is not None and end["event"] == "done":
        return None
    if end is not None:
        if end["out_of_memory"]:
            return f"out of memory {progress.doing}: {end['error']} ({_memory(worker, job)})"
        return f"failed {progress.doing}: {end['error']}"
    words = _last_words(worker.stderr)
    if any(BAD_ALLOC in line for line in worker.stderr):
        return f"out of memory {progress.doing}: {_death(code)} ({_memory(worker, job)}){words}"
    if code == -signal.SIGKILL:
        sure = "killed by the kernel, which was out of memory" if worker.killed_for_memory() else ""
        return f"{sure or 'killed, probably out of memory'}, {progress.doing} ({_memory(worker, job)}){words}"
    return f"{_death(code)} {progress.doing}{words}"


def _memory(worker: WorkerProcess, job: Job) -> str:
    limit = "" if job.memory_limit_mib is None else f", under a limit of {job.memory_limit_mib} MiB"
    return f"peak RSS {worker.peak_rss_bytes / MIB:.0f} MiB{limit}"


def _death(code: int) -> str:
    if code >= 0:
        return f"exited with code {code}, without a result,"
    number = -code
    return f"crashed with {signal.Signals(number).name} ({signal.strsignal(number)})"


def _last_words(lines: list[str]) -> str:
    """What a dying process said on stderr: its last line, and for a fault in native code where Python was."""
    fatal = next((index for index, line in enumerate(lines) if line.startswith("Fatal Python error")), None)
    if fatal is None:
        words = lines[-1:]
    else:
        # The innermost frames come first; the second is often the first that is not a wrapper's.
        frames = [line for line in lines[fatal:] if line.startswith("File ")]
        words = [*lines[max(0, fatal - 1) : fatal], *frames[:2]]
    return "".join(f"; stderr: {_without_folders(line)}" for line in words)


def _without_folders(line: str) -> str:
    """Paths cut to the last folder and the file: records are published, the rest is this machine's alone."""
    return re.sub(r"/(?:[^\s/\"':]+/)+(?=[^\s/\"':]+/)", "", line)
