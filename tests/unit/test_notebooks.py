"""Every notebook runs to its end on a stored run, draws something, and is what jupytext reads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.paths import home
from tests.synthetic import write_run

NOTEBOOKS = sorted((home() / "notebooks").glob("*.py"))
COUNT_FIGURES = """
import runpy, sys
import matplotlib
matplotlib.use("agg")
import matplotlib.pyplot as plt
runpy.run_path(sys.argv[1])
figures = [plt.figure(number) for number in plt.get_fignums()]
assert figures and all(axes.has_data() and axes.get_xlabel() for figure in figures for axes in figure.axes)
"""


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMIRA_RUN", str(write_run(tmp_path)))
    command = [sys.executable, "-c", COUNT_FIGURES, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_a_percent_script_and_measures_nothing(path: Path) -> None:
    text = path.read_text()
    assert "format_name: percent" in text
    assert text.count("# %% [markdown]") >= 2
    assert "run_plan" not in text
