"""A run that documents cite takes the place of the one before it, whole."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.curated import keep
from harness.store import open_run
from pipelines.errors import AmiraError
from tests.synthetic import DEFAULT_CASES, FakeRun, write_run

FAKE = FakeRun(DEFAULT_CASES[:2], utterances=2, repeats=2)


@pytest.fixture
def reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AMIRA_HOME", str(tmp_path))
    return tmp_path / "reports"


def new_run(reports: Path, name: str, status: str = "complete") -> Path:
    path = write_run(reports / "runs", replace(FAKE, name=name, status=status))
    (path / "samples.parquet").write_bytes(b"")
    return path


def test_a_run_takes_the_place_of_the_one_before_it(reports: Path) -> None:
    folder = keep(open_run(new_run(reports, "first")), "cited")
    (folder / "ladder.svg").write_text("the picture of a README")
    (folder / "stale.txt").write_text("of the run before")
    assert keep(open_run(new_run(reports, "second")), "cited") == folder
    assert open_run(folder).manifest.run == "second"
    assert "second" in (folder / "report.md").read_text()
    assert (folder / "ladder.svg").read_text().startswith("<svg")
    assert not (folder / "stale.txt").exists()
    assert (reports / "runs" / "second" / "manifest.json").is_file()


def test_what_is_no_complete_run_or_no_plain_name_is_refused(reports: Path) -> None:
    with pytest.raises(AmiraError, match="is interrupted: documents cite complete runs"):
        keep(open_run(new_run(reports, "half", "interrupted")), "cited")
    run = open_run(new_run(reports, "whole"))
    for name in ("../elsewhere", "runs", "a/b"):
        with pytest.raises(AmiraError, match="is no name for a curated run"):
            keep(run, name)
    (reports / "other").mkdir()
    with pytest.raises(AmiraError, match="is no run of a plan"):
        keep(run, "other")
