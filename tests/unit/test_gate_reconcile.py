"""Instructions and time of a kernel in the light of each other."""

from __future__ import annotations

import numpy as np
import pytest

from harness.gate.config import GateConfig, Kernels
from harness.gate.evidence import Effect, Evidence, Exact, Metric, Paired
from harness.gate.instructions import Counted
from harness.gate.judge import CaseVerdict, judge
from harness.gate.kernels import COUNTS_CASE, WithKernels, evidence
from harness.gate.result import Result
from harness.side import BASELINE, CANDIDATE

NAME = "pcm16 scalar (stage ingest)"
QUIET, NOISY = 0.002, 0.4


def judged(time: float, noise: float, instructions: float | None, implementation: str = "scalar") -> CaseVerdict:
    """A kernel whose time and instructions change so much, its time measured with so much noise."""
    spread = noise * np.linspace(-1, 1, 8)
    name = f"pcm16 {implementation} (stage ingest)"
    effects: dict[Metric, Effect] = {Metric("kernel", name): Paired(np.log1p(time) + spread)}
    if instructions is not None:
        counted = name.replace("avx512", "avx2")
        effects[Metric("instructions", counted)] = Exact(np.full(2, np.log1p(instructions)))
    return judge(Evidence("kernels", "Kernels", effects), GateConfig())


@pytest.mark.parametrize(
    ("time", "noise", "instructions", "verdict"),
    [
        (0.0, QUIET, 0.0, "fine"),
        (0.1, QUIET, 0.1, "worse"),
        (0.0, NOISY, 0.1, "worse"),  # the clock cannot say, the count can
        (0.0, NOISY, 0.0, "fine"),
        (0.0, NOISY, 0.005, "fine"),  # below the count's margin
        (0.0, QUIET, 0.1, "fine"),  # more instructions that cost nothing
        (0.1, QUIET, 0.0, "worse"),  # a miss costs time and is no instruction
        (0.0, NOISY, None, "unclear"),
        (-0.1, QUIET, 0.1, "better"),
    ],
)
def test_neither_clock_nor_count_is_alone(time: float, noise: float, instructions: float | None, verdict: str) -> None:
    assert judged(time, noise, instructions).verdict == verdict


def test_the_count_names_kernel_and_stage() -> None:
    assert judged(0.0, NOISY, 0.1).reason == f"instructions {NAME} +10.0 % (+10.0 to +10.0)"


def test_a_kernel_without_a_count_is_judged_by_its_sibling_only_where_that_is_the_very_same() -> None:
    assert judged(0.0, NOISY, 0.0, "avx512").verdict == "fine"
    assert judged(0.0, NOISY, 0.004, "avx512").verdict == "unclear"


def test_kernels_that_cannot_be_counted_are_noted_with_the_reason() -> None:
    wanted = Kernels(operations={"pcm16": "ingest"}, implementations=("scalar", "avx512"))
    times = {side: {"pcm16 scalar": [1.0, 1.0], "pcm16 avx512": [1.0, 1.0]} for side in (BASELINE, CANDIDATE)}
    counted = {
        BASELINE: Counted({"pcm16 scalar": [100.0, 100.0]}, {}),
        CANDIDATE: Counted({}, {"pcm16 scalar": "no reason"}),
    }
    found = evidence(times, {}, wanted, counted)
    assert not any(metric.kind == "instructions" for metric in found.effects)
    assert "instructions of pcm16 scalar: none counted of the candidate: no reason" in found.notes
    assert any("valgrind cannot run AVX-512" in note for note in found.notes)


def test_without_valgrind_counts_are_a_row_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    wanted = Kernels(operations={"pcm16": "ingest"}, implementations=())
    found = WithKernels(lambda _: {}, {}, wanted, 0, lambda _: None, lambda _: None)
    monkeypatch.setattr(
        "harness.gate.kernels.measure",
        lambda *_: ({BASELINE: {"pcm16 scalar": [1.0, 1.0]}, CANDIDATE: {"pcm16 scalar": [1.0, 1.0]}}, {}),
    )
    cases = tuple(judge(case, GateConfig()) for case in found(None).values())
    [missing] = [case for case in cases if case.case == COUNTS_CASE]
    assert missing.verdict == "unavailable"
    assert "valgrind is not installed. Install it" in missing.reason
    assert Result("a", "b", "interleaved", cases, (), "").verdict == "fine"


def request(wall: float, cpu: float, busy: float, wait: float = 0.0) -> dict[str, str]:
    """A request on a busy machine: the clock is noisy, CPU time is not."""
    noise = NOISY * np.linspace(-1, 1, 8)
    still = QUIET * np.linspace(-1, 1, 8)
    effects: dict[Metric, Effect] = {
        Metric("latency"): Paired(np.log1p(wall) + noise),
        Metric("cpu"): Paired(np.log1p(cpu) + still),
        Metric("stage", "decode"): Paired(np.log1p(wall) + noise),
        Metric("stage_cpu", "decode"): Paired(np.log1p(cpu) + still),
    }
    parts = {"": busy, "decode": busy - wait}
    case = judge(Evidence("a", "A", effects, {}, {"decode": 0.9}, parts), GateConfig())
    return {row.metric: row.verdict for row in case.rows}


def test_cpu_time_decides_where_the_clock_cannot_and_nothing_waits() -> None:
    assert set(request(0.0, 0.0, 0.99).values()) == {"fine"}


def test_cpu_time_says_nothing_of_a_stage_that_waits() -> None:
    found = request(0.0, 0.0, 0.99, wait=0.5)
    assert (found["latency"], found["stage decode"]) == ("fine", "unclear")
    assert request(0.0, 0.0, 0.5)["latency"] == "unclear"


def test_more_cpu_time_is_red_with_the_name_of_the_stage_though_the_clock_is_noisy() -> None:
    found = request(0.05, 0.05, 0.99)
    assert (found["cpu"], found["stage cpu decode"]) == ("worse", "worse")
    assert found["latency"] == "unclear"
