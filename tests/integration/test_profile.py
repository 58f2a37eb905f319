"""Flame graphs of real worker processes, in the run's folder and on its page."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from harness.profile import profile
from harness.report import write_report
from harness.store import Run, open_run
from pipelines.errors import AmiraError
from tests.fakes.world import Bench, plan_of

needs_py_spy = pytest.mark.skipif(
    not (Path(sys.executable).with_name("py-spy").is_file() or shutil.which("py-spy")),
    reason="py-spy is not installed (the extra `profile`)",
)


def drawn(bench: Bench, run: Run, case: str) -> Path:
    return profile(run, case, bench.models_dir, seconds=1, rate=100, native=False, say=lambda _: None)


@pytest.fixture
def run(bench: Bench) -> Run:
    plan = plan_of("staged", "raises", "absent", settings="")
    plan = plan.model_copy(update={"source": plan.source.replace('"noise"', f'"{bench.corpus_folder}"')})
    return open_run(bench.run(plan).path)


@needs_py_spy
def test_a_flame_graph_of_a_case_lies_in_its_run_and_is_linked_from_its_page(bench: Bench, run: Run) -> None:
    path = drawn(bench, run, "staged")
    assert path == run.path / "profiles" / "staged.svg"
    assert "faulty_engines.py" in path.read_text(encoding="utf-8")
    assert "profiles/staged.svg" in write_report(run).html.read_text(encoding="utf-8")


@needs_py_spy
@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("no-such", "case 'no-such' does not exist; have: absent, raises, staged"),
        ("absent", "case 'absent' cannot run here: peer/absent"),
        ("raises", "case 'raises' failed: "),
    ],
)
def test_a_case_that_cannot_be_profiled_says_why(bench: Bench, run: Run, case: str, message: str) -> None:
    with pytest.raises(AmiraError, match=message):
        drawn(bench, run, case)
    assert not (run.path / "profiles").exists()


def test_without_py_spy_the_remedy_is_named(bench: Bench, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(AmiraError, match=r"py-spy is not installed\. Install it"):
        drawn(bench, run, "staged")
