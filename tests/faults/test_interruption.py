"""Ctrl-C, SIGTERM and SIGKILL on a run that is a process of its own; then resuming it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from harness.store import SAMPLES, open_run
from pipelines.errors import AmiraError
from tests.fakes.world import (
    CLIPS,
    Bench,
    is_running,
    plan_of,
    plan_toml,
    wait_for,
)

REPEATS = 3
ROOT = Path(__file__).resolve().parents[2]


def _start(bench: Bench, plan: Path) -> subprocess.Popen[str]:
    arguments = [str(path) for path in (plan, bench.corpus_folder, bench.models_dir, bench.runs_dir)]
    command = [sys.executable, "-m", "tests.fakes.run_noise", *arguments]
    # The environment as Python has it: libraries of other tests set variables behind its back (KMP_BLOCKTIME), which
    # would make this process's fingerprint another one than ours.
    environment = dict(os.environ)
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def _lines(bench: Bench) -> int:
    return sum(path.read_bytes().count(b"\n") for path in bench.runs_dir.glob(f"*/{SAMPLES}"))


def _interrupted(bench: Bench, number: signal.Signals, lines: int) -> tuple[Path, int, str, str]:
    """Start a run of slow engines, send it a signal after `lines` samples; its plan, worker, stdout and stderr."""
    pid_file = bench.folder / "pid"
    text = plan_toml("slow", "sound", repeats=REPEATS, options=f'pid_file = "{pid_file}"')
    plan = bench.folder / "plan.toml"
    plan.write_text(text, encoding="utf-8")
    process = _start(bench, plan)
    wait_for(lambda: _lines(bench) >= lines or process.poll() is not None, f"{lines} samples")
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    return plan, int(pid_file.read_text(encoding="ascii")), out, err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_keeps_its_samples_and_is_resumed_to_completeness(
    bench: Bench, number: signal.Signals
) -> None:
    plan_file, worker, out, err = _interrupted(bench, number, lines=CLIPS + 4)

    assert out.strip() == "interrupted", err
    assert f"interrupted by {number.name}" in err
    wait_for(lambda: not is_running(worker), "the end of the worker", 5)
    before = bench.stored()
    assert before.manifest.status == "interrupted"
    assert len(before.samples) >= CLIPS + 4
    assert (before.path / "samples.parquet").is_file()
    finished = {(record.case, record.repeat) for record in before.processes}
    assert 0 < len(finished) < 2 * REPEATS

    outcome = _resume_here(bench, plan_file, before.path)

    after = open_run(before.path)
    assert outcome == after.manifest.status == "complete"
    assert set(bench.notes.order).isdisjoint(finished), "only what was missing is measured"
    assert len(bench.notes.order) == 2 * REPEATS - len(finished)
    counts = Counter((s.case, s.repeat, s.utterance) for s in after.samples if s.phase == "steady")
    assert set(counts.values()) == {1}
    assert len(counts) == 2 * REPEATS * CLIPS
    assert after.notes == ()
    raw = (before.path / SAMPLES).read_text(encoding="utf-8").splitlines()
    assert len(raw) == 2 * REPEATS * (CLIPS + 1), "the half-measured pair's first samples are gone from the file"
    kept = [s for s in before.samples if (s.case, s.repeat) in finished]
    assert [json.loads(line) for line in raw[: len(kept)]] == [s.to_json() for s in kept]


def test_a_killed_run_leaves_no_worker_and_is_resumed(bench: Bench) -> None:
    plan_file, worker, _, _ = _interrupted(bench, signal.SIGKILL, lines=CLIPS + 4)

    wait_for(lambda: not is_running(worker), "the end of the worker", 5)
    before = bench.stored()
    assert before.manifest.status == "running"
    with (before.path / SAMPLES).open("a", encoding="utf-8") as file:
        file.write('{"case":"slow","repe')

    assert _resume_here(bench, plan_file, before.path) == "complete"

    after = open_run(before.path)
    assert after.notes == ()
    assert len(after.samples) == 2 * REPEATS * (CLIPS + 1)


def test_resuming_a_complete_run_measures_nothing_again(bench: Bench) -> None:
    plan = plan_of("sound")
    path = bench.run(plan).path
    stored = (path / SAMPLES).read_bytes()
    bench.notes.order.clear()

    outcome = bench.run(plan, resume=path)

    assert (outcome.path, outcome.status) == (path, "complete")
    assert bench.notes.order == []
    assert (path / SAMPLES).read_bytes() == stored


def test_a_failed_case_stays_failed_when_a_run_is_resumed(bench: Bench) -> None:
    plan = plan_of("raises", "sound", repeats=2)
    path = bench.run(plan).path
    lines = (path / "processes.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    without_last = [line for line in lines if '"sound","repeat":1' not in line]
    assert len(without_last) == len(lines) - 1
    (path / "processes.jsonl").write_text("".join(without_last), encoding="utf-8")
    bench.notes.order.clear()

    outcome = bench.run(plan, resume=path)

    assert bench.notes.order == [("sound", 1)]
    assert [record.case for record in outcome.failures] == ["raises"]


def _resume_here(bench: Bench, plan_file: Path, path: Path) -> str:
    from harness.plan import load_plan

    return bench.run(load_plan(plan_file), resume=path).status


class TestRefusals:
    """A run is resumed only where its old samples are comparable with the new ones."""

    @pytest.fixture
    def path(self, bench: Bench) -> Path:
        return bench.run(plan_of("sound")).path

    def test_another_plan(self, bench: Bench, path: Path) -> None:
        with pytest.raises(AmiraError, match=r"cannot be resumed.*the plan's repeats: 1 against 2.*start a new run"):
            bench.run(plan_of("sound", repeats=2), resume=path)

    def test_another_memory_limit(self, bench: Bench, path: Path) -> None:
        with pytest.raises(AmiraError, match="memory_limit_mib: None against 900"):
            bench.run(plan_of("sound", settings="memory_limit_mib = 900"), resume=path)

    def test_other_cases(self, bench: Bench, path: Path) -> None:
        with pytest.raises(AmiraError, match="case 'witness' is only in the present plan"):
            bench.run(plan_of("sound", "witness"), resume=path)

    def test_another_pipeline_under_the_same_name(self, bench: Bench, path: Path) -> None:
        with pytest.raises(AmiraError, match="case 'sound' has another pipeline"):
            bench.run(plan_of("sound", options="after = 9"), resume=path)

    def test_other_audio(self, bench: Bench, path: Path) -> None:
        shutil.copy(bench.corpus_folder / "clip1.wav", bench.corpus_folder / "clip2.wav")
        with pytest.raises(AmiraError, match="utterance 'clip2' has other audio"):
            bench.run(plan_of("sound"), resume=path)

    def test_more_audio(self, bench: Bench, path: Path) -> None:
        shutil.copy(bench.corpus_folder / "clip1.wav", bench.corpus_folder / "clip9.wav")
        with pytest.raises(AmiraError, match="4 against 5 utterances, 'clip9' is not in both"):
            bench.run(plan_of("sound"), resume=path)

    def test_another_machine(self, bench: Bench, path: Path) -> None:
        manifest = json.loads((path / "manifest.json").read_bytes())
        manifest["fingerprint"]["cpu"]["model"] = "Z80"
        manifest["fingerprint"]["code"]["commit"] = "0" * 40
        (path / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
        with pytest.raises(AmiraError, match=r"code.commit: 000000000000 against .*cpu.model: Z80 against"):
            bench.run(plan_of("sound"), resume=path)

    def test_a_folder_that_is_no_run(self, bench: Bench, tmp_path: Path) -> None:
        with pytest.raises(AmiraError, match="is not a run"):
            bench.run(plan_of("sound"), resume=tmp_path)
