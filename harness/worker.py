"""The fresh process of one case for one repeat: `python worker.py JOB_FILE REPORT_FD`.

It reports JSON Lines on a pipe of its own, so that a library that prints does no harm. Nothing but the
standard library is imported before the thread counts are set: OpenMP, BLAS and numba read them when loaded.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import random
import resource
import select
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from time import perf_counter_ns, process_time_ns
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipelines.assemble import Pipeline
    from pipelines.contracts import Transcript

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMBA_NUM_THREADS",
)
PR_SET_PDEATHSIG = 1
PR_SET_PTRACER = 0x59616D61
PR_SET_PTRACER_ANY = -1
WAIT_S = 1.0
OUT_OF_MEMORY = "out of memory"
BAD_ALLOC = "bad_alloc"
"""How C++ says that it is out of memory, through whatever wraps it."""


@dataclass(frozen=True, slots=True)
class Job:
    """What one worker process measures.

    Attributes:
        pipeline: A `PipelineConfig` as JSON-ready values.
        models_dir: Folder of built models.
        audio: File with the PCM16 bytes of all utterances, one behind the other.
        utterances: Id and number of bytes of each utterance, in the order of the file.
        warm_up: Utterances that are run before the ones that count.
        laps: How often all of them are run.
        order_seed: Seed of the order of the utterances; the same for all cases of a repeat.
        memory_limit_mib: Private writable memory that this process may have; `None` for no limit.
        spawned_ns: `perf_counter_ns` when the parent started this process (the clock is the machine's).
        parent: Process id of the parent.
        turn: Descriptors to wait on for this process's turn and to pass it on by; `None` where it is alone.
        expected: Utterance id to the text that its reader was to read, for pipelines that follow one.
        slowdown: Stage to the factor that it is slowed down by: how a gate finds out what it would notice.
        workers: Pipelines in this process, each in a thread of its own.
        arrivals: For each lap its groups of (place in the lap, nanoseconds after the group's start), as
            `harness.scenario.schedule` has them; `None` for one call after the other.
        traceable: Whether a profiler that is not its parent may look at this process.
    """

    pipeline: dict[str, Any]
    models_dir: str
    audio: str
    utterances: tuple[tuple[str, int], ...]
    warm_up: int
    laps: int
    order_seed: int
    memory_limit_mib: int | None
    spawned_ns: int
    parent: int
    turn: tuple[int, int] | None = None
    expected: dict[str, str] | None = None
    slowdown: dict[str, float] = field(default_factory=dict)
    workers: int = 1
    arrivals: list[list[list[tuple[int, int]]]] | None = None
    traceable: bool = False

    def to_json(self) -> str:
        """The text of the job file."""
        return json.dumps(asdict(self))

    def order(self) -> list[tuple[str, str]]:
        """Phase and utterance id of every call, in order.

        All cases of a repeat share the order, so that the samples that are compared met similar conditions.
        """
        ids = [utterance for utterance, _ in self.utterances]
        rng = random.Random(self.order_seed)
        rng.shuffle(ids)
        calls = [("warm-up", ids[index % len(ids)]) for index in range(self.warm_up)]
        for _ in range(self.laps):
            calls += [("steady", utterance) for utterance in ids]
            rng.shuffle(ids)
        return calls


class _Report:
    """The way back to the parent: one JSON object a line."""

    def __init__(self, fd: int) -> None:
        # A helper process that the pipeline starts must not hold the pipe open after us.
        os.set_inheritable(fd, False)
        self._fd = fd

    def __call__(self, event: str, **values: Any) -> None:
        data = json.dumps({"event": event, **values}).encode() + b"\n"
        while data:
            data = data[os.write(self._fd, data) :]


class _Turns:
    """Takes turns with the processes of the same block: a token goes around a ring of pipes.

    So two cases that are compared run call by call, one right after the other: whatever the machine does meanwhile
    hits both. A process whose neighbour has ended keeps the turn.
    """

    def __init__(self, ends: tuple[int, int] | None, report: _Report) -> None:
        self._ends, self._report = ends, report
        for fd in ends or ():
            os.set_inheritable(fd, False)

    def take(self) -> None:
        """Wait for the token, with a sign of life every second."""
        while self._ends and not select.select([self._ends[0]], [], [], WAIT_S)[0]:
            self._report("waiting")
        if self._ends and not os.read(self._ends[0], 1):
            self._ends = None

    def give(self) -> None:
        """Pass the token on."""
        try:
            if self._ends:
                os.write(self._ends[1], b".")
        except BrokenPipeError:
            self._ends = None


def main() -> None:
    """Do the job that the command line names."""
    job_file, report_fd = sys.argv[1:]
    job = Job(**json.loads(Path(job_file).read_text(encoding="utf-8")))
    report = _Report(int(report_fd))
    _die_with(job.parent)
    if job.traceable:
        ctypes.CDLL(None).prctl(PR_SET_PTRACER, ctypes.c_long(PR_SET_PTRACER_ANY), 0, 0, 0)
    try:
        _set_threads(job.pipeline["threads"], job.workers)
        audio = _read_audio(job)
        _limit_memory(job.memory_limit_mib)
        _measure(job, audio, report)
    except MemoryError as error:
        # The failed call's frames still hold what filled the memory: free it, or the report fails too.
        traceback.clear_frames(error.__traceback__)
        _lift_memory_limit()
        report("failed", error=_describe(error), out_of_memory=True)
    except Exception as error:  # noqa: BLE001 - whatever a pipeline raises becomes this case's error
        _lift_memory_limit()
        report("failed", error=_describe(error), out_of_memory=BAD_ALLOC in str(error))


def _measure(job: Job, audio: dict[str, bytes], report: _Report) -> None:
    turns = _Turns(job.turn, report)
    turns.take()
    spawned_ns = job.spawned_ns if job.turn is None else perf_counter_ns()
    from pipelines.assemble import open_pipeline
    from pipelines.config import PipelineConfig

    stages = _Stages(job.slowdown)
    config = PipelineConfig(**job.pipeline)
    report("imported", import_ns=perf_counter_ns() - spawned_ns, baseline_rss_bytes=_status()["VmRSS"])
    started = perf_counter_ns()
    with ExitStack() as stack:
        pipelines = [
            stack.enter_context(open_pipeline(config, Path(job.models_dir))) for _ in range(max(job.workers, 1))
        ]
        report("loaded", load_ns=perf_counter_ns() - started)
        started = perf_counter_ns()
        for pipeline in pipelines:
            pipeline.warm_up()
        report("warm", warm_up_ns=perf_counter_ns() - started)
        turns.give()
        calls = job.order()
        for phase, utterance in calls[: job.warm_up]:
            for pipeline in reversed(pipelines):
                turns.take()
                sample = _call(pipeline, audio[utterance], utterance, job, stages)
                if pipeline is pipelines[0]:
                    report("sample", phase=phase, lap=0, **_memory_now(), **sample)
                turns.give()
        # What the start left behind is collected once, and what stays is never walked through again.
        gc.collect()
        gc.freeze()
        if job.arrivals is None:
            for index, (phase, utterance) in enumerate(calls[job.warm_up :]):
                turns.take()
                sample = _call(pipelines[0], audio[utterance], utterance, job, stages)
                report("sample", phase=phase, lap=index // len(job.utterances), **_memory_now(), **sample)
                turns.give()  # not before: what is left to do must not run beside the other's call
        else:
            _laps(job, pipelines, audio, turns, report)
        end = {**_memory_at_end(), "threads": _status()["Threads"]}
    # Only now: a pipeline that cannot be closed has not done its job.
    report("done", cpu_s=process_time_ns() / 1e9, wall_s=(perf_counter_ns() - job.spawned_ns) / 1e9, **end)


def _call(pipeline: Pipeline, pcm: bytes, utterance: str, job: Job, stages: _Stages) -> dict[str, Any]:
    """One timed call."""
    called = pipeline
    if job.expected and pipeline.follows_text:
        called = pipeline.expecting(job.expected[utterance])  # a session's graph is built before it is needed
    # No collection during a timed call: it would fall on some calls by chance. It runs between them.
    gc.disable()
    stages.take()
    cpu_started = process_time_ns()
    started = perf_counter_ns()
    transcript = called.transcribe(pcm)
    latency_ns = perf_counter_ns() - started
    cpu_ns = process_time_ns() - cpu_started
    gc.enable()
    times = {"started_ns": started, "latency_ns": latency_ns, "cpu_ns": cpu_ns, "stages_cpu_ns": stages.take()}
    return {"utterance": utterance, **times, **_result(transcript)}


@dataclass(frozen=True, slots=True)
class _Request:
    """A request that arrived, and what became of it."""

    utterance: str
    arrived_ns: int
    started_ns: int = 0
    ended_ns: int = 0
    outcome: Transcript | Exception | None = None


def _laps(job: Job, pipelines: Sequence[Pipeline], audio: dict[str, bytes], turns: _Turns, report: _Report) -> None:
    """Requests that arrive as the scenario says, answered by threads that share one queue."""
    todo: SimpleQueue[_Request | None] = SimpleQueue()
    done: SimpleQueue[_Request] = SimpleQueue()

    def serve(pipeline: Pipeline) -> None:
        while (request := todo.get()) is not None:
            started = perf_counter_ns()
            outcome: Transcript | Exception
            try:
                outcome = pipeline.transcribe(audio[request.utterance])
            except Exception as error:  # noqa: BLE001 - raised again in the main thread
                outcome = error
            done.put(_Request(request.utterance, request.arrived_ns, started, perf_counter_ns(), outcome))

    for pipeline in pipelines:
        Thread(target=serve, args=(pipeline,), daemon=True).start()
    calls, size = job.order()[job.warm_up :], len(job.utterances)
    for lap, groups in enumerate(job.arrivals or []):
        utterances = [name for _, name in calls[lap * size :][:size]]
        turns.take()
        gc.disable()
        cpu_started = process_time_ns()
        answered: list[_Request] = []
        for group in groups:
            start = perf_counter_ns()
            for place, offset in group:
                time.sleep(max(start + offset - perf_counter_ns(), 0) / 1e9)
                todo.put(_Request(utterances[place], start + offset))
                answered += _answers(done, report)
            whole = group[-1][0] + 1
            while len(answered) < whole:
                answered += _answers(done, report, WAIT_S)
        cpu_ns = process_time_ns() - cpu_started
        gc.enable()
        busy_ns = sum(request.ended_ns - request.started_ns for request in answered)
        for request in answered:
            if isinstance(request.outcome, Exception):
                raise request.outcome
            assert request.outcome is not None
            result = _result(request.outcome)
            result["stages_cpu_ns"] = {}  # threads share the process: whose CPU time it is cannot be told
            result["stages_ns"] = {"queue": request.started_ns - request.arrived_ns, **result["stages_ns"]}
            report(
                "sample",
                phase="steady",
                lap=lap,
                utterance=request.utterance,
                started_ns=request.started_ns,
                latency_ns=request.ended_ns - request.arrived_ns,
                cpu_ns=cpu_ns * (request.ended_ns - request.started_ns) // max(busy_ns, 1),
                **_memory_now(),
                **result,
            )
        turns.give()
    for _ in pipelines:
        todo.put(None)


def _answers(done: SimpleQueue[_Request], report: _Report, wait_s: float = 0.0) -> Iterator[_Request]:
    """The answers that are there, or the next within `wait_s`. Each is a sign of life."""
    try:
        while True:
            yield done.get(timeout=wait_s) if wait_s else done.get_nowait()
            report("waiting")
            wait_s = 0.0
    except Empty:
        return


class _Stages:
    """Looks at every stage from inside its span: the CPU time that it takes, and a slowdown that was asked for.

    Attributes:
        cpu_ns: Stage to CPU time of the whole process since the last `take`.
    """

    def __init__(self, factors: dict[str, float]) -> None:
        from pipelines.contracts import Trace

        self.cpu_ns: dict[str, int] = {}
        span = Trace.span

        @contextmanager
        def watched(trace: Trace, stage: str) -> Iterator[None]:
            cpu_started = process_time_ns()  # asking for it takes a third of a microsecond: not within the span
            with span(trace, stage):
                if stage in factors:
                    started = perf_counter_ns()
                    yield
                    until = started + int(factors[stage] * (perf_counter_ns() - started))
                    while perf_counter_ns() < until:
                        pass
                else:
                    yield
            self.cpu_ns[stage] = self.cpu_ns.get(stage, 0) + process_time_ns() - cpu_started

        setattr(Trace, "span", watched)  # noqa: B010 - of the checkout that is measured, whichever it is

    def take(self) -> dict[str, int]:
        """The CPU times so far; from now on it counts anew."""
        found, self.cpu_ns = self.cpu_ns, {}
        return found


def _result(transcript: Transcript) -> dict[str, Any]:
    stages: dict[str, int] = {}
    for span in transcript.spans:
        stages[span.stage] = stages.get(span.stage, 0) + span.duration_ns
    # A model may emit half a character: JSON cannot carry it, and the scorer must see that it was there.
    text = transcript.text.encode("utf-8", "replace").decode()
    return {"stages_ns": stages, "steps": transcript.steps, "text": text}


def _die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent dies, however it dies."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit("the parent is gone")


def _set_threads(threads: int, workers: int) -> None:
    """Pin this process to the last `threads * workers` cores that it may use, and tell the libraries.

    The last, because core 0 has most of the machine's interrupts.
    """
    cores = sorted(os.sched_getaffinity(0))[-threads * workers :]
    os.sched_setaffinity(0, cores)
    for variable in THREAD_VARIABLES:
        os.environ[variable] = str(threads)


def _read_audio(job: Job) -> dict[str, bytes]:
    audio = {}
    with Path(job.audio).open("rb") as file:
        for utterance, size in job.utterances:
            audio[utterance] = file.read(size)
    return audio


def _limit_memory(limit_mib: int | None) -> None:
    """Limit private writable memory, not address space: runtimes reserve far more of that than they use."""
    if limit_mib is not None:
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (limit_mib * 2**20, hard))


def _lift_memory_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))


def _memory_now() -> dict[str, int]:
    status = _status()
    return {"rss_bytes": status["VmRSS"], "peak_rss_bytes": status["VmHWM"]}


def _memory_at_end() -> dict[str, int | str]:
    """What the process holds after its last utterance, and how much of that is in use."""
    from pipelines.allocators import process

    status = _status()  # before the allocator is asked, which needs some memory itself
    return {
        "peak_rss_bytes": status["VmHWM"],
        "end_rss_bytes": status["VmRSS"],
        "end_anonymous_bytes": status["RssAnon"],
        "live_bytes": process.live_bytes() or 0,
        "allocator": process.name(),
    }


def _status() -> dict[str, int]:
    """The numbers of `/proc/self/status`; sizes in bytes. `VmHWM` is the peak since this program was started."""
    found = {}
    for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
        name, _, value = line.partition(":")
        number, _, unit = value.strip().partition(" ")
        if number.isdecimal() and unit in ("", "kB"):
            found[name] = int(number) * (1024 if unit else 1)
    return found


def _describe(error: BaseException) -> str:
    """An error in one line: our own messages as they are, others with the line of code that raised them."""
    from pipelines.errors import AmiraError

    text = " ".join(str(error).split())
    if isinstance(error, AmiraError):
        return text
    last = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{'/'.join(Path(last.filename).parts[-2:])}:{last.lineno}"
    return f"{type(error).__name__}: {text or 'no message'} ({place}: {last.line})"


if __name__ == "__main__":
    main()
