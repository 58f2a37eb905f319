"""A history is of one machine, and says where a level changed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from harness.commands.history import history as command
from harness.history import history
from harness.store import Run, open_run
from pipelines.errors import NothingMeasuredError
from tests.synthetic import FakeCase, FakeRun, write_run


def runs(folder: Path, speeds: list[float]) -> list[Run]:
    found = []
    for day, rtf in enumerate(speeds, start=1):
        fake = FakeRun((FakeCase("a", "A", rtf),), name=f"run-{day:02d}", seed=day, utterances=6, repeats=2)
        path = write_run(folder, replace(fake, process_noise=0.01))
        manifest = json.loads((path / "manifest.json").read_text())
        # One corpus for all of them: the noise is new every day, the clips are not.
        first = json.loads((folder / "run-01" / "manifest.json").read_text())
        manifest |= {"created_utc": f"2025-03-{day:02d}T00:00:00Z", "utterances": first["utterances"]}
        (path / "manifest.json").write_text(json.dumps(manifest))
        found.append(open_run(path))
    return found


def test_a_change_of_level_is_found_in_the_run_that_made_it(tmp_path: Path) -> None:
    [case] = history(runs(tmp_path, [0.05] * 8 + [0.075] * 8))["cases"]
    assert len(case["points"]) == 16
    [change] = case["changes"]
    assert change["run"] == "run-09"
    assert change["ratio"] == pytest.approx(0.05 / 0.075, rel=0.15)


def test_runs_of_other_machines_are_left_out(tmp_path: Path) -> None:
    all_runs = runs(tmp_path, [0.05] * 3)
    path = all_runs[0].path / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["fingerprint"]["cpu"]["model"] = "Another CPU"
    path.write_text(json.dumps(manifest))
    found = history([open_run(run.path) for run in all_runs])
    assert (found["runs"], found["left_out"]) == (2, 1)


def test_no_run_is_nothing_measured() -> None:
    with pytest.raises(NothingMeasuredError, match="no run of that plan"):
        history([])


def test_the_command_shows_each_run_with_its_commit_and_where_the_level_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AMIRA_HOME", str(tmp_path))
    for day, run in enumerate(runs(tmp_path / "reports" / "runs", [0.05] * 6 + [0.1] * 6)):
        path = run.path / "manifest.json"
        path.write_text(path.read_text().replace("0123456789abcdef" * 2 + "01234567", f"{day:012x}" + 28 * "0"))
    command("default", json=True)
    found = json.loads(capsys.readouterr().out)
    assert (found["runs"], found["notes"]) == (12, [])
    [case] = found["cases"]
    assert [point["commit"] for point in case["points"]] == [f"{day:012x}" for day in range(12)]
    assert [(change["run"], change["commit"]) for change in case["changes"]] == [("run-07", "000000000006")]
    command("default")
    assert "level changed: " in capsys.readouterr().out
    with pytest.raises(NothingMeasuredError, match="no run of that plan"):
        command("nothing")
