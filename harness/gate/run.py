"""The three ways to gate: against a commit, against a stored baseline, and with two stored runs."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from harness import fingerprint
from harness.gate import baselines
from harness.gate.checkout import prepare
from harness.gate.config import GateConfig
from harness.gate.judge import judge
from harness.gate.kernels import WithKernels, check
from harness.gate.measure import Bench, Budget, against_run, against_side
from harness.gate.result import Result
from harness.gate.sequence import decide
from harness.gate.sides import apart
from harness.side import BASELINE, CANDIDATE, Side
from harness.store import Run, find_run, open_run

KERNEL_TIMES = "kernels.jsonl"
SAME_CODE = "the measured code of both sides is the same: whatever differs is noise"
DRIFT = (
    "the baseline was measured at another time, so every margin of time is wider by {:.0%}: what the machine did "
    "between the two cannot be told from what the code does"
)


def against_commit(config: GateConfig, bench: Bench, commit: str, say: Callable[[str], None]) -> Result:
    """Measure the working tree and a commit together.

    Raises:
        AmiraError: The commit cannot be made ready.
        KeyboardInterrupt: The user stopped it.
    """
    models = {case.pipeline.model for case in bench.plan.cases}
    return together(config, bench, prepare(commit, models, say), Side.here(bench.models_dir.absolute()), say)


def together(config: GateConfig, bench: Bench, baseline: Side, candidate: Side, say: Callable[[str], None]) -> Result:
    """Measure two checkouts together.

    Raises:
        KeyboardInterrupt: The user stopped it.
    """
    started = time.monotonic()
    check(config.kernels)
    sides = {BASELINE: baseline, CANDIDATE: candidate}
    budget = Budget(config.repeats.budget_s)
    rest = against_side(bench, baseline, candidate, budget)
    measure = WithKernels(rest, sides, config.kernels, config.repeats.batch, _keeper(bench), say, budget.spent)
    decision = decide(measure, config)
    same = baseline.code["sources"] == candidate.code["sources"]
    return Result(
        _code_name(baseline.code),
        _code_name(candidate.code),
        "interleaved",
        decision.cases,
        tuple(bench.runs),
        _machine(open_run(bench.runs_dir / bench.runs[0]).manifest.fingerprint),
        decision.batches,
        round(time.monotonic() - started, 1),
        (SAME_CODE,) if same else (),
    )


def against_stored(config: GateConfig, bench: Bench, baseline: str, root: Path) -> Result:
    """Measure the working tree and compare it with a stored run of the same fingerprint.

    Raises:
        AmiraError: There is no such run, or its fingerprint differs.
        KeyboardInterrupt: The user stopped it.
    """
    facts = fingerprint.fingerprint(bench.models_dir, {case.pipeline.model for case in bench.plan.cases})
    named = baselines.find(root, facts, bench.plan.name) if baseline == baselines.AUTO else find_run(baseline)
    run = open_run(named)
    baselines.check_comparable(run.manifest.fingerprint, facts)
    started = time.monotonic()
    decision = decide(against_run(bench, run, Budget(config.repeats.budget_s)), config)
    return Result(
        _run_name(run),
        _code_name(facts["code"]),
        "stored baseline",
        decision.cases,
        (run.manifest.run, *bench.runs),
        _machine(facts),
        decision.batches,
        round(time.monotonic() - started, 1),
        (DRIFT.format(config.stored.drift), *run.notes),
    )


def stored(config: GateConfig, baseline: str, candidate: str, *, anyway: bool = False) -> Result:
    """Compare two stored runs; nothing is measured, so nothing is confirmed by a repeat.

    Args:
        config: The margins.
        baseline: A run.
        candidate: Another.
        anyway: Compare runs of different fingerprints, and say in what they differ.

    Raises:
        AmiraError: There is no such run, or the fingerprints differ.
    """
    runs = [open_run(find_run(name)) for name in (baseline, candidate)]
    facts = [run.manifest.fingerprint for run in runs]
    if not anyway:
        baselines.check_comparable(*facts)
    notes = [f"the fingerprints differ: {line}" for line in baselines.differences(*facts)]
    notes += [DRIFT.format(config.stored.drift), *runs[0].notes, *runs[1].notes]
    return Result(
        _run_name(runs[0]),
        _run_name(runs[1]),
        "stored runs",
        tuple(judge(evidence, config) for evidence in apart(runs[0], runs[1])),
        tuple(run.manifest.run for run in runs),
        _machine(facts[1]),
        notes=tuple(dict.fromkeys(notes)),
    )


def _keeper(bench: Bench) -> Callable[[Mapping[str, Any]], None]:
    """Keeps the times and instructions of kernels beside the last run, a line for each batch."""

    def keep(times: Mapping[str, Any]) -> None:
        with (bench.runs_dir / bench.runs[-1] / KERNEL_TIMES).open("a", encoding="utf-8") as file:
            file.write(json.dumps(times) + "\n")

    return keep


def _code_name(code: Mapping[str, Any]) -> str:
    commit = str(code.get("commit", "unknown"))
    return f"{commit[:12]}{' with changes' if code.get('dirty') else ''}"


def _run_name(run: Run) -> str:
    return f"{run.manifest.run} ({_code_name(run.manifest.fingerprint.get('code', {}))})"


def _machine(facts: Mapping[str, Any]) -> str:
    cpu = facts.get("cpu", {})
    return f"{cpu.get('model', 'an unknown processor')}, {cpu.get('cores', 'unknown')} cores"
