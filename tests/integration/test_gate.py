"""The gate on real processes: two sides that take turns, another commit in its own worktree, exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from harness import fingerprint
from harness.gate.checkout import prepare
from harness.gate.config import GateConfig, Margins, Repeats
from harness.gate.measure import Bench as GateBench
from harness.gate.measure import Budget, against_side
from harness.gate.sequence import Decision, decide
from harness.plan import parse_plan
from harness.side import BASELINE, CANDIDATE, Side
from harness.store import open_run
from pipelines.errors import AmiraError
from pipelines.paths import home
from tests.fakes.world import Bench

PLAN = """
name = "sides"
title = "Two sides"
corpus = "named by the test"
repeats = {repeats}
warm_up = 1
laps = 3
[[case]]
id = "staged"
title = "Two stages"
base = "none"
variants = {{ peer = "staged" }}
"""
MARGINS = Margins(latency=0.15, cpu=0.15, stage=0.15, peak_memory=0.2)


def gated(bench: Bench, candidate: Mapping[str, str], repeats: int) -> tuple[Decision, GateBench]:
    """Gate an engine against itself, the candidate with some variables in its environment."""
    plan = parse_plan(PLAN.format(repeats=repeats), bench.folder / "plan.toml")
    gate = GateBench(plan, bench.corpus, bench.models_dir, bench.runs_dir, lambda: bench.notes)
    sides = [
        Side(name, sys.executable, variables, bench.models_dir)
        for name, variables in ((BASELINE, {}), (CANDIDATE, candidate))
    ]
    config = GateConfig(repeats=Repeats(batch=repeats, most=2 * repeats), margin=MARGINS)
    return decide(against_side(gate, *sides), config), gate


@pytest.mark.usefixtures("faulty_engines")
def test_a_slower_stage_turns_red_with_its_name(bench: Bench) -> None:
    decision, gate = gated(bench, {"AMIRA_TEST_SLOW": "decode:2"}, repeats=4)
    [case] = decision.cases
    assert case.verdict == "worse"
    assert "stage decode" in case.worse()
    assert "stage acoustic" not in case.worse()
    assert decision.batches == len(gate.runs) == 2


@pytest.mark.usefixtures("faulty_engines")
def test_sides_take_turns_call_by_call(bench: Bench) -> None:
    _, gate = gated(bench, {}, repeats=2)
    run = open_run(bench.runs_dir / gate.runs[0])
    steady = sorted(
        (row.started_ns, row.case, row.utterance)
        for row in run.samples
        if row.repeat == 0  # the clock is the machine's, so the starts of both processes compare
    )
    calls = [(case, utterance) for _, case, utterance in steady]
    assert len(calls) == 2 * (1 + 3 * 4)
    assert all(first[0] != second[0] for first, second in zip(calls[::2], calls[1::2], strict=True))
    assert all(first[1] == second[1] for first, second in zip(calls[::2], calls[1::2], strict=True))
    assert set(run.manifest.sides) == {BASELINE, CANDIDATE}


@pytest.mark.usefixtures("faulty_engines")
def test_more_word_errors_turn_red(bench: Bench) -> None:
    decision, _ = gated(bench, {"AMIRA_TEST_DEAF": "1"}, repeats=2)
    assert "wer corpus" in decision.cases[0].worse()


@pytest.mark.usefixtures("faulty_engines")
def test_a_side_that_dies_does_not_stop_the_other(bench: Bench) -> None:
    decision, _ = gated(bench, {"AMIRA_TEST_BROKEN": "1"}, repeats=2)
    [case] = decision.cases
    assert case.verdict == "broken"
    assert "the engine is broken" in case.reason
    assert {row.status for row in bench.notes.records if BASELINE in row.case} == {"ok"}


@pytest.mark.usefixtures("faulty_engines")
def test_a_batch_is_cut_off_when_the_time_is_up(bench: Bench) -> None:
    plan = parse_plan(PLAN.format(repeats=50), bench.folder / "plan.toml")
    gate = GateBench(plan, bench.corpus, bench.models_dir, bench.runs_dir, lambda: bench.notes)
    sides = [Side(name, sys.executable, {}, bench.models_dir) for name in (BASELINE, CANDIDATE)]
    config = GateConfig(repeats=Repeats(batch=50, most=100, budget_s=15), margin=MARGINS)
    started = time.monotonic()

    decision = decide(against_side(gate, *sides, Budget(config.repeats.budget_s)), config)

    assert time.monotonic() - started < 60
    [case] = decision.cases
    run = open_run(bench.runs_dir / gate.runs[0])
    processes = Counter(record.repeat for record in run.processes)
    pairs = sum(count == 2 for count in processes.values())  # one side of the last may have been measured alone
    assert run.manifest.status == "interrupted"
    assert 0 < pairs < 50
    assert {row.samples for row in case.rows if row.metric == "latency"} == {pairs}, "what was measured counts"
    assert decision.batches == 1


def amira(*arguments: object, at: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "harness.cli", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"AMIRA_HOME": str(at)}, timeout=240
    )


@pytest.fixture
def own_home(tmp_path: Path) -> Iterator[Path]:
    """A home with the built models of this checkout; checkouts that the gate makes there are taken back."""
    if fingerprint.code(fingerprint.ROOT)["dirty"] is None:
        pytest.skip("this is no git checkout, so there is no commit to compare with")
    (tmp_path / "build").mkdir()
    for name in ("models", "corpora"):
        (tmp_path / "build" / name).symlink_to(home() / "build" / name)
    yield tmp_path
    for path in (tmp_path / "build").glob("gate/*/.git"):
        command = ["git", "-C", str(fingerprint.ROOT), "worktree", "remove", "--force", str(path.parent)]
        subprocess.run(command, check=True, capture_output=True)


REAL = """
name = "tiny"
title = "Tiny"
corpus = "starter"
corpus_limit = { max_clips = 1 }
laps = 2
repeats = 2
[base.variants]
acoustic = "ort@int8"
decoder = "aed-greedy"
kernel = "numpy"
memory = "pooled"
[[case]]
id = "int8"
title = "INT8"
"""
LENIENT = """
[repeats]
batch = 2
most = 2
[margin]
latency = 0.9
cpu = 0.9
stage = 0.9
peak_memory = 0.9
[stored]
drift = 0.9
"""


def document(result: subprocess.CompletedProcess[str], *codes: int) -> Any:
    """What it printed; two repeats cannot say much, so that a noisy machine may make them unclear."""
    assert result.returncode in (codes or (0,)), result.stderr
    return json.loads(result.stdout)


@pytest.mark.models
def test_gate_against_a_commit_and_against_what_that_stored(own_home: Path) -> None:
    (own_home / "plan.toml").write_text(REAL)
    (own_home / "gate.toml").write_text(LENIENT)
    options = ("gate", "--plan", own_home / "plan.toml", "--config", own_home / "gate.toml", "--json")
    found = document(amira(*options, "--against", "HEAD", at=own_home), 0, 3)
    assert found["how"] == "interleaved"
    rows = {row["metric"]: row for row in found["cases"][0]["rows"]}
    assert {"latency", "cpu", "stage acoustic", "stage decode", "peak memory", "wer starter"} <= set(rows)
    assert rows["wer starter"]["change"] == 0
    assert rows["latency"]["samples"] == 2
    assert (own_home / "reports" / "gate" / "junit.xml").is_file()
    report = amira("report", found["runs"][0], "--json", at=own_home)
    assert [case["status"] for case in document(report)["cases"]] == ["ok", "ok"]

    assert amira("bench", own_home / "plan.toml", at=own_home).returncode == 0
    assert amira("gate", "save", "latest", at=own_home).returncode == 0
    stored = document(amira(*options, "--baseline", "auto", at=own_home), 0, 3)
    assert stored["how"] == "stored baseline"
    # Two sittings of two repeats, with the usual margins: what a busy machine makes of that is not said here.
    compared = document(amira("compare", "latest", stored["runs"][0], "--json", at=own_home), 0, 1, 3)
    assert compared[0]["how"] == "stored runs"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("gate", "--against", "no-such-commit"), "commit 'no-such-commit' is not in this repository"),
        (("gate", "--against", "HEAD", "--baseline", "auto"), "two baselines"),
        (("gate", "--candidate", "latest"), "Name it with --baseline RUN"),
        (("gate", "--baseline", "auto"), "has no baseline for this machine"),
        (("gate", "--baseline", "no-such-run"), "run 'no-such-run' does not exist"),
        (("gate", "--plan", "no-such-plan"), "plan 'no-such-plan' does not exist"),
        (("gate", "--config", "no-such-file"), "gate configuration 'no-such-file' cannot be read"),
        (("gate", "save", "latest"), "no run"),
        (("compare", "latest"), "name another"),
    ],
)
@pytest.mark.models
def test_wrong_words_get_one_clear_message(arguments: tuple[str, ...], message: str, own_home: Path) -> None:
    (own_home / "experiments" / "gate").mkdir(parents=True)
    (own_home / "experiments" / "gate" / "plan.toml").write_text(REAL)
    result = amira(*arguments, at=own_home)
    assert result.returncode == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_a_checkout_brings_its_own_entry_points(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMIRA_HOME", str(own_home))
    side = prepare("HEAD", (), lambda _: None)
    code = "import harness, pipelines.registry as r; print(harness.__file__); print(len(r.ids()))"
    command = [side.python, "-P", "-c", code]
    said = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | dict(side.environment))
    file, variants = said.stdout.split()
    assert Path(file).is_relative_to(own_home / "build" / "gate")
    pyproject = (own_home / "build" / "gate").glob("*/pyproject.toml")
    assert int(variants) == next(pyproject).read_text().count('= "pipelines.')
    assert prepare("HEAD", (), lambda _: None).code == side.code
    with pytest.raises(AmiraError, match="git fetch --unshallow"):
        prepare("0123456789", (), lambda _: None)
