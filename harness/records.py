"""What a run stores. Raw samples only; every statistic is derived from them later.

A run is a folder:

- `manifest.json`: a `Manifest`: the plan, its cases, the utterances, the fingerprint of code and machine.
- `samples.jsonl`: one `Sample` a line, appended as it is measured.
- `processes.jsonl`: one `ProcessRecord` a line, one for each process that ran a case.
- `samples.parquet`: the same samples as a table, written when the run ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from harness.scenario import Scenario
from pipelines.config import PipelineConfig

SCHEMA_VERSION = 1

Status = Literal["ok", "failed", "unavailable"]
RunStatus = Literal["running", "complete", "interrupted"]
Measures = Literal["timing", "accuracy"]
"""What a plan wants to know. `accuracy` looks at texts alone, so that its cases may run beside each other."""


class Model(BaseModel):
    """Base of the stored objects: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Case(Model):
    """One pipeline to measure.

    Attributes:
        id: Unique in its plan, e.g. `2-folded`.
        title: What a reader of the report sees, e.g. `Folded FP32 weights`.
        pipeline: The configuration that runs.
        compare_to: Id of the case that it is compared with, `None` for none.
        rung: Whether it is a rung of the plan's ladder.
        side: Which checkout runs it where two are compared (`harness.side`); `None` for this one.
        of: Id of the plan's case that it is one side of; `None` where it is no side.
    """

    id: str
    title: str
    pipeline: PipelineConfig
    compare_to: str | None = None
    rung: bool = False
    side: str | None = None
    of: str | None = None


class CaseEntry(Model):
    """A case as the manifest keeps it: with the reason why it cannot run here, if so."""

    case: Case
    unavailable_reason: str | None = None
    unavailable_remedy: str | None = None


class Utterance(Model):
    """One clip of the corpus, as measured.

    Attributes:
        id: Unique in the corpus.
        corpus: Name of the corpus that it belongs to.
        text: Reference transcript as its source has it (normalised only when scored); `None` if unknown.
        speaker: Speaker id; `None` where unknown.
        duration_s: Length of the audio.
        sha256: Of the PCM16 16 kHz mono bytes that the pipelines got.
        age: The speaker's age in years; `None` where unknown.
    """

    id: str
    corpus: str
    text: str | None
    speaker: str | None
    duration_s: float
    sha256: str
    age: float | None = None


class Execution(Model):
    """Where a run's processes ran.

    Attributes:
        name: `local`: on the machine of the fingerprint; `ray`: on workers of a Ray cluster.
        version: Of what distributed them.
        workers: Worker to what a reader should know about it. A name stands for a machine, and hides its host's.
        cases: Case id to the workers that measured it.
    """

    name: Literal["local", "ray"] = "local"
    version: str | None = None
    workers: dict[str, str] = {}
    cases: dict[str, tuple[str, ...]] = {}

    def joined(self, later: Execution) -> Execution:
        """With a later sitting of the same run."""
        return later.model_copy(update={"workers": {**self.workers, **later.workers}, "cases": dict(self.cases)})

    def with_case(self, case: str, workers: Sequence[str]) -> Execution:
        """With workers that measured a case."""
        known = tuple(dict.fromkeys((*self.cases.get(case, ()), *workers)))
        return self.model_copy(update={"cases": {**self.cases, case: known}})


class Manifest(Model):
    """Everything about a run but its samples.

    `laps` is how often each process goes through the corpus, `scenario` how requests reached the pipelines; `measures`
    is what the plan wants to know and `executor` where its processes ran; `sides` is
    the code of each side of a comparison of two checkouts, by name, where the run is one.
    """

    schema_version: int
    run: str
    status: RunStatus
    created_utc: str
    finished_utc: str | None = None
    plan_name: str
    plan_title: str
    plan_description: str
    plan_toml: str
    corpus: str
    repeats: int
    warm_up: int
    laps: int = 1
    scenario: Scenario = Scenario()
    measures: Measures = "timing"
    executor: Execution = Execution()
    cases: tuple[CaseEntry, ...]
    utterances: tuple[Utterance, ...]
    fingerprint: dict[str, Any]
    sides: dict[str, Any] = {}

    @property
    def timed(self) -> bool:
        """Whether its times are a finding."""
        return self.measures == "timing"


@dataclass(frozen=True, slots=True)
class Sample:
    """One utterance through one pipeline, once.

    Attributes:
        case: Case id.
        repeat: Which interleaved round, from 0.
        utterance: Utterance id.
        phase: `warm-up` samples are kept and never enter a statistic of the steady state.
        started_ns: `perf_counter_ns` at the start, comparable within one process only.
        latency_ns: From PCM bytes in to text out; where requests wait (`harness.scenario`), from their arrival, and
            the wait is the stage `queue`.
        cpu_ns: CPU time of the whole process over the same span, all threads; with several pipelines in the process
            its share of a lap's, by the time that it took.
        stages_ns: Stage to nanoseconds; a stage that the pipeline does not have is absent.
        steps: Sequential decoder passes.
        text: Recognised text, in the model's own spelling.
        lap: Which time through the corpus within the process, from 0.
        rss_bytes: Resident memory of the process right after; 0 where unknown.
        stages_cpu_ns: Stage to CPU time of the whole process while it ran; empty where unknown.
    """

    case: str
    repeat: int
    utterance: str
    phase: Literal["warm-up", "steady"]
    started_ns: int
    latency_ns: int
    cpu_ns: int
    stages_ns: dict[str, int]
    steps: int
    text: str
    lap: int = 0
    rss_bytes: int = 0
    stages_cpu_ns: dict[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The row of `samples.jsonl`."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class ProcessRecord:
    """One process that ran one case for one repeat.

    Attributes:
        case: Case id.
        repeat: Which interleaved round, from 0.
        status: `ok`, or `failed` with `error`.
        error: What went wrong, in one line; `None` when nothing did.
        import_ns: Interpreter start to pipeline code imported; 0 where unknown.
        load_ns: Opening the pipeline: sessions, weights, pools.
        warm_up_ns: The pipeline's own warm-up (lazy compilation and first allocations).
        baseline_rss_bytes: Resident memory just before the pipeline was opened.
        peak_rss_bytes: Peak resident memory of the process.
        cpu_s: CPU seconds of the whole process.
        wall_s: Wall seconds of the whole process.
        threads: Threads of the process after its last sample.
        end_rss_bytes: Resident memory after its last sample, all of the pipeline still open; 0 where unknown.
        end_anonymous_bytes: The part of it that no file stands behind: heaps, arenas, stacks; 0 where unknown.
        live_bytes: Bytes in blocks that were allocated and not freed at that moment, as the allocator tells
            (`pipelines.allocators.process`); 0 where it does not.
        allocator: The allocator that the process really had, with its version; empty where unknown.
    """

    case: str
    repeat: int
    status: Literal["ok", "failed"]
    error: str | None
    import_ns: int = 0
    load_ns: int = 0
    warm_up_ns: int = 0
    baseline_rss_bytes: int = 0
    peak_rss_bytes: int = 0
    cpu_s: float = 0.0
    wall_s: float = 0.0
    threads: int = 0
    end_rss_bytes: int = 0
    end_anonymous_bytes: int = 0
    live_bytes: int = 0
    allocator: str = ""

    def to_json(self) -> dict[str, Any]:
        """The row of `processes.jsonl`."""
        return asdict(self)
