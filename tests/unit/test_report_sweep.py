"""Word error rate against an option that a plan tries at several values."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.report import write_report
from harness.report.figures.sweep import describe, sweep
from harness.store import open_run
from harness.summary import summarise
from tests.synthetic import FakeCase, FakeRun, write_run

WHOLE = FakeCase("whole", "Whole clips", 0.05, rung=False)
CHUNKS = tuple(
    FakeCase(f"chunk-{n}", f"Chunks of {n}", 0.1 / n, "whole", rung=False, options={"acoustic": {"chunk_frames": n}})
    for n in (28, 4, 7)
)


def summary_of(tmp_path: Path, *cases: FakeCase) -> dict[str, Any]:
    run = FakeRun(cases=cases, corpora=("a", "b"), repeats=1, utterances=8)
    return summarise(open_run(write_run(tmp_path, run)))


def test_cases_that_differ_in_one_number_are_a_curve(tmp_path: Path) -> None:
    other = replace(CHUNKS[0], id="other", variant="acoustic/ort@int8")
    summary = summary_of(tmp_path, WHOLE, *CHUNKS, other)
    found = sweep(summary)
    assert found is not None
    assert found.option == "acoustic.chunk_frames"
    [(name, points)] = found.lines
    assert name == "moonshine-aed"
    assert [(value, case["id"]) for value, case in points] == [(4, "chunk-4"), (7, "chunk-7"), (28, "chunk-28")]
    assert [level["id"] for level in found.levels] == ["whole"]
    assert describe(summary).startswith("Word error rate against acoustic.chunk_frames. moonshine-aed on a: ")


def test_each_kind_of_case_has_a_curve_of_its_own(tmp_path: Path) -> None:
    int8 = tuple(replace(case, id=f"{case.id}-int8", variant="acoustic/ort@int8") for case in CHUNKS)
    found = sweep(summary_of(tmp_path, WHOLE, *CHUNKS, *int8))
    assert found is not None
    names = [name for name, _ in found.lines]
    assert len(names) == 2
    assert "acoustic/ort@int8" in names[1]


@pytest.mark.parametrize("cases", [(WHOLE, *CHUNKS[:2]), (WHOLE,)])
def test_two_values_are_no_curve(tmp_path: Path, cases: tuple[FakeCase, ...]) -> None:
    assert sweep(summary_of(tmp_path, *cases)) is None


def test_the_report_has_the_picture(tmp_path: Path) -> None:
    run = FakeRun(cases=(WHOLE, *CHUNKS), corpora=("a", "b"), repeats=1, utterances=8)
    paths = write_report(open_run(write_run(tmp_path, run)))
    assert "figures/sweep.svg" in paths.markdown.read_text()
    assert 'id="figure-sweep"' in paths.html.read_text()
