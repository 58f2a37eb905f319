"""Every notebook runs to its end on a stored run, draws something, and is what jupytext reads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.paths import home
from tests.synthetic import FakeCase, FakeRun, write_run

DECODERS = FakeRun(
    [
        FakeCase("greedy", "Greedy", 0.05, axis="decoder", variant="decoder/greedy", rung=False, slip=0.2),
        FakeCase("beam", "Beam", 0.06, axis="decoder", variant="decoder/beam", rung=False, slip=0.0),
    ],
    corpora=("starter", "learners", "readers"),
)
NOTEBOOKS = sorted((home() / "notebooks").glob("*.py"))
COUNT_FIGURES = """
import runpy, sys
import matplotlib
matplotlib.use("agg")
import matplotlib.pyplot as plt
runpy.run_path(sys.argv[1])
figures = [plt.figure(number) for number in plt.get_fignums()]
everywhere = [axes for figure in figures for axes in figure.axes]
assert everywhere and all(axes.has_data() and axes.get_xlabel() and axes.get_title() for axes in everywhere)
"""


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = DECODERS if path.stem == "4_decoders" else FakeRun()
    monkeypatch.setenv("AMIRA_RUN", str(write_run(tmp_path, fake)))
    monkeypatch.setenv("AMIRA_LOAD", str(home() / "reports" / "server-load"))
    command = [sys.executable, "-c", COUNT_FIGURES, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_there_are_the_six_that_a_researcher_would_open() -> None:
    known = ["1_first_look", "2_compare_two", "3_ladder", "4_decoders", "5_load", "6_capacity"]
    assert [path.stem for path in NOTEBOOKS] == known


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_a_percent_script_and_measures_nothing(path: Path) -> None:
    text = path.read_text()
    assert "format_name: percent" in text
    assert text.count("# %% [markdown]") >= 2
    assert "run_plan" not in text
