"""What becomes of a run that went wrong: its report says so, and no other run suffers for it.

Broken manifests and lines: `test_store.py`. What resuming does: `test_recorder.py` and `tests/faults`.
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.faults import read_faults
from harness.history import history, runs_of
from harness.load.run import LOAD, find_load
from harness.load.summary import summarise as load_summary
from harness.report.page import markdown_page
from harness.store import Run, open_run
from harness.summary import summarise
from pipelines.errors import AmiraError, NothingMeasuredError
from pipelines.paths import home
from tests.synthetic import DEFAULT_CASES, FakeRun, write_run

TWO = FakeRun(DEFAULT_CASES[:2], utterances=3, repeats=2)


def rewrite(path: Path, change: Any) -> None:
    """Change every sample of a run."""
    rows = [json.loads(line) for line in (path / "samples.jsonl").read_text().splitlines()]
    (path / "samples.jsonl").write_text("".join(json.dumps(change(row)) + "\n" for row in rows))


def page(run: Run) -> str:
    text = markdown_page(run, summarise(run), {})
    assert not re.search(r"\bnan\b|\bNone\b|\binf\b", text)
    return text


class TestClockGoingBackwards:
    def test_samples_of_less_than_no_time_are_left_out_and_told(self, tmp_path: Path) -> None:
        path = write_run(tmp_path, TWO)
        times = iter(range(10**6))
        rewrite(path, lambda row: row | ({"latency_ns": -5} if next(times) % 4 == 1 else {}))
        run = open_run(path)
        assert all(row.latency_ns > 0 for row in run.samples)
        [note] = [note for note in run.notes if "a clock went backwards" in note]
        assert note.startswith("4 of 16 samples took less than no time")
        assert "a clock went backwards" in page(run)

    def test_a_stage_of_less_than_no_time_takes_its_sample_with_it(self, tmp_path: Path) -> None:
        path = write_run(tmp_path, TWO)
        rewrite(path, lambda row: row | {"stages_ns": {"acoustic": -1}} if row["case"] == "folded" else row)
        run = open_run(path)
        assert {case["id"]: case["status"] for case in summarise(run)["cases"]} == {"shipped": "ok", "folded": "failed"}

    def test_a_run_that_ended_before_it_began_is_read_like_any(self, tmp_path: Path) -> None:
        path = write_run(tmp_path, TWO)
        manifest = json.loads((path / "manifest.json").read_text())
        manifest["finished_utc"] = "2020-01-01T00:00:00Z"
        (path / "manifest.json").write_text(json.dumps(manifest))
        assert summarise(open_run(path))["rungs"][0]["verdict"] == "faster"


def test_identical_samples_have_an_interval_without_width_or_say_why_not(tmp_path: Path) -> None:
    path = write_run(tmp_path, TWO)
    rewrite(path, lambda row: row | {"latency_ns": 10**7, "cpu_ns": 10**7, "stages_ns": {"acoustic": 10**7}})
    [rung] = summarise(open_run(path))["rungs"]
    assert (rung["ratio"], rung["low"], rung["high"], rung["verdict"]) == (1.0, 1.0, 1.0, "no effect")
    page(open_run(path))


def test_one_sample_claims_nothing(tmp_path: Path) -> None:
    run = open_run(write_run(tmp_path, replace(TWO, utterances=1, repeats=1, warm_up=0)))
    [rung] = summarise(run)["rungs"]
    assert rung["note"]
    assert rung["low"] < rung["ratio"] < rung["high"]
    assert "about the slowest seen" in page(run)


def test_a_plan_whose_cases_all_failed_is_a_page_of_reasons(tmp_path: Path) -> None:
    cases = [replace(case, error="killed by signal 9") for case in DEFAULT_CASES[:2]]
    text = page(open_run(write_run(tmp_path, replace(TWO, cases=cases))))
    assert "No case could be measured: 2 of 2 failed" in text
    assert text.count("killed by signal 9") == 2


def test_a_run_killed_half_way_shows_what_it_has(tmp_path: Path) -> None:
    """The second repeat was in the middle of a case, and its last line was being written."""
    path = write_run(tmp_path, replace(TWO, status="running"))
    samples, processes = path / "samples.jsonl", path / "processes.jsonl"
    samples.write_bytes(samples.read_bytes()[:-30])
    processes.write_text("".join(processes.read_text().splitlines(keepends=True)[:-1]))
    run = open_run(path)
    assert [case["status"] for case in summarise(run)["cases"]] == ["ok", "ok"]
    text = page(run)
    assert "torn off while it was written" in text
    assert "The run is running, not complete" in text


class TestHistoryWithBadRuns:
    @pytest.fixture
    def runs(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setenv("AMIRA_HOME", str(tmp_path))
        for day in (1, 2, 3):
            write_run(tmp_path / "reports" / "runs", replace(TWO, name=f"run-{day}"))
        return tmp_path / "reports" / "runs"

    def test_each_is_named_and_the_rest_is_shown(self, runs: Path) -> None:
        manifest = json.loads((runs / "run-1" / "manifest.json").read_text())
        (runs / "run-1" / "manifest.json").write_text(json.dumps(manifest | {"schema_version": 7}))
        samples = runs / "run-2" / "samples.jsonl"
        samples.write_text("{broken\n" + samples.read_text())
        found, notes = runs_of("default")
        assert [run.manifest.run for run in found] == ["run-3"]
        assert len(notes) == 2
        assert "schema_version 7" in notes[0]
        assert re.search(r"samples\.jsonl, line 1 is broken", notes[1])

    def test_a_broken_run_of_another_plan_is_not_even_opened(self, runs: Path) -> None:
        manifest = json.loads((runs / "run-1" / "manifest.json").read_text())
        (runs / "run-1" / "manifest.json").write_text(json.dumps(manifest | {"plan_name": "other"}))
        (runs / "run-1" / "samples.jsonl").write_text("broken\nbroken\n")
        found, notes = runs_of("default")
        assert (len(found), notes) == (2, [])

    def test_a_curated_copy_counts_once(self, runs: Path) -> None:
        shutil.copytree(runs / "run-1", runs.parent / "curated")
        found, _ = runs_of("default")
        assert history(found)["runs"] == 3


class TestLoadRuns:
    @pytest.fixture
    def load(self, tmp_path: Path) -> Path:
        return Path(shutil.copytree(home() / "reports" / "server-load", tmp_path / "load"))

    def test_a_torn_last_line_is_left_out_and_told(self, load: Path) -> None:
        path = load / "step-02" / "finals-00000.jsonl"
        path.write_bytes(path.read_bytes()[:-20])
        summary = load_summary(load)
        [note] = summary["notes"]
        assert note.startswith("step-02: The last line of finals-00000.jsonl")
        assert len(summary["steps"]) == 4

    def test_a_run_that_was_cut_off_has_the_steps_that_it_finished(self, load: Path) -> None:
        record = json.loads((load / LOAD).read_text())
        (load / LOAD).write_text(json.dumps(record | {"steps": record["steps"][:2]}))
        assert [step["streams"] for step in load_summary(load)["steps"]] == [1, 2]

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"schema_version": 9}, "schema_version 9"),
            ({"steps": [{"spec": {"streams": 0}}]}, "does not describe a load run"),
            ({"steps": None}, "no finished step"),
        ],
    )
    def test_a_record_of_another_shape_is_one_clear_message(
        self, load: Path, change: dict[str, Any], message: str
    ) -> None:
        record = json.loads((load / LOAD).read_text())
        (load / LOAD).write_text(json.dumps(record | change))
        with pytest.raises(AmiraError, match=message):
            load_summary(load)

    def test_a_broken_record_and_lost_tables_are_one_clear_message(self, load: Path) -> None:
        for path in load.glob("step-00/events-*"):
            path.write_bytes(b"nothing")
        with pytest.raises(AmiraError, match="is broken"):
            load_summary(load)
        for path in load.glob("step-00/events-*"):
            path.unlink()
        with pytest.raises(AmiraError, match=r"has no events-\*\.parquet"):
            load_summary(load)
        (load / LOAD).write_text("{")
        with pytest.raises(AmiraError, match="is broken"):
            load_summary(load)
        with pytest.raises(AmiraError, match="does not exist"):
            find_load("nothing")


def test_faults_that_are_none_or_broken_are_one_clear_message(tmp_path: Path) -> None:
    with pytest.raises(NothingMeasuredError, match="has no fault"):
        read_faults(tmp_path)
    good = (home() / "reports" / "triton-faults" / "faults.jsonl").read_text()
    (tmp_path / "faults.jsonl").write_text("{}\n" + good)
    with pytest.raises(AmiraError, match="line 1 is broken"):
        read_faults(tmp_path)
    (tmp_path / "faults.jsonl").write_text(good[:-40])
    faults, notes = read_faults(tmp_path)
    assert len(faults) == len(good.splitlines()) - 1
    assert "torn off" in notes[0]
