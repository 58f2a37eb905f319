"""Amdahl's law against cases worked out by hand, and against synthetic runs whose truth is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.attribution import attribute
from harness.measured import Measured, measured_cases
from harness.records import Sample
from harness.report import write_report
from harness.report.findings import findings
from harness.report.numbers import bound, share
from harness.store import Run, open_run
from harness.summary import summarise
from tests.synthetic import FakeCase, FakeRun, write_run

MS = 1_000_000
Stages = Mapping[str, float]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    cases = (FakeCase("before", "Before", 0.05), FakeCase("after", "After", 0.05, "before"))
    return open_run(write_run(tmp_path_factory.mktemp("run"), FakeRun(cases=cases, utterances=4, repeats=3)))


def timed(run: Run, case: str, requests: Sequence[tuple[float, Stages]]) -> Measured:
    """A case of exactly these requests in ms, whole and by stage: the n-th utterance takes the n-th, in any repeat."""
    found = measured_cases(run)[case]
    utterances = list(run.utterances)

    def exact(sample: Sample) -> Sample:
        whole, stages = requests[utterances.index(sample.utterance) % len(requests)]
        stages_ns = {name: round(value * MS) for name, value in stages.items()}
        return replace(sample, latency_ns=round(whole * MS), stages_ns=stages_ns)

    return replace(found, steady={key: exact(sample) for key, sample in found.steady.items()})


def stage_of(found: dict[str, Any], name: str) -> dict[str, Any]:
    return next(row for row in found["stages"] if row["stage"] == name)


def attributed(
    run: Run, before: Sequence[tuple[float, Stages]], after: Sequence[tuple[float, Stages]]
) -> dict[str, Any]:
    found = attribute(run, timed(run, "before", before), timed(run, "after", after))
    assert found is not None
    return found


def test_half_of_a_request_twice_as_fast_is_a_third_more(run: Run) -> None:
    found = attributed(run, [(100, {"acoustic": 50, "decode": 50})], [(75, {"acoustic": 25, "decode": 50})])
    acoustic = stage_of(found, "acoustic")
    assert found["changed"] == ["acoustic"]
    assert acoustic["share"] == found["share"] == pytest.approx(0.5)
    assert (acoustic["ratio"], acoustic["low"], acoustic["high"]) == pytest.approx((2, 2, 2))
    assert acoustic["limit"] == pytest.approx(2)
    assert acoustic["predicted"]["ratio"] == found["predicted"]["ratio"] == pytest.approx(100 / 75)
    assert stage_of(found, "decode") == {
        "stage": "decode", "share": pytest.approx(0.5), "ratio": 1.0, "low": 1.0, "high": 1.0, "verdict": "no effect",
        "changed": False, "predicted": {"ratio": 1.0, "low": 1.0, "high": 1.0}, "limit": pytest.approx(2.0),
    }  # fmt: skip


def test_a_tiny_stage_can_gain_next_to_nothing(run: Run) -> None:
    """0.05 % of a request, 2.1 times as fast, and a decode stage that happens to take 1 % longer."""
    before, after = (100, {"ingest": 0.05, "decode": 99.95}), (100.9733, {"ingest": 0.0238, "decode": 100.9495})
    found = attributed(run, [before], [after])
    ingest = stage_of(found, "ingest")
    assert ingest["ratio"] == pytest.approx(2.1, abs=2e-3)
    assert ingest["limit"] == pytest.approx(1 / (1 - 0.0005))
    assert ingest["predicted"]["ratio"] == pytest.approx(1 / (1 - 0.0005 + 0.0005 / 2.1), rel=1e-6)
    for end in ("low", "high"):
        assert ingest["predicted"][end] == pytest.approx(1 / (1 - 0.0005 + 0.0005 / ingest[end]), rel=1e-6)
    assert found["changed"] == ["ingest"], "1 % is within what counts as no effect"


def test_two_changed_stages_are_predicted_together(run: Run) -> None:
    found = attributed(run, [(100, {"acoustic": 40, "decode": 60})], [(50, {"acoustic": 20, "decode": 30})])
    assert found["changed"] == ["acoustic", "decode"]
    assert found["share"] == pytest.approx(1)
    assert found["predicted"]["ratio"] == pytest.approx(2)
    assert stage_of(found, "acoustic")["predicted"]["ratio"] == pytest.approx(100 / 80)
    assert stage_of(found, "decode")["predicted"]["ratio"] == pytest.approx(100 / 70)


def test_each_utterance_counts_with_its_own_share(run: Run) -> None:
    """The stage is 90 % of one utterance and 10 % of the other; the geometric mean of both is predicted."""
    before = [(100, {"acoustic": 90, "decode": 10}), (1000, {"acoustic": 100, "decode": 900})]
    after = [(55, {"acoustic": 45, "decode": 10}), (950, {"acoustic": 50, "decode": 900})]
    found = attributed(run, before, after)
    acoustic = stage_of(found, "acoustic")
    assert acoustic["share"] == pytest.approx(0.5)
    assert acoustic["predicted"]["ratio"] == pytest.approx(float(np.sqrt(100 / 55 * 1000 / 950)))


def test_a_stage_that_comes_or_goes_has_no_speed_up_of_its_own(run: Run) -> None:
    found = attributed(run, [(100, {"connection": 20, "acoustic": 80})], [(90, {"acoustic": 80, "queue": 10})])
    gone, new = stage_of(found, "connection"), stage_of(found, "queue")
    assert found["changed"] == ["queue", "connection"]
    assert (gone["ratio"], gone["share"], gone["predicted"]["ratio"]) == (None, pytest.approx(0.2), pytest.approx(1.25))
    assert (new["ratio"], new["share"], new["limit"]) == (None, 0, 1)
    assert new["predicted"]["ratio"] == pytest.approx(100 / 110)
    assert found["predicted"]["ratio"] == pytest.approx(100 / 90)


def test_what_no_stage_covers_counts_only_where_it_matters(run: Run) -> None:
    small = attributed(run, [(100, {"acoustic": 99})], [(99.5, {"acoustic": 99})])
    large = attributed(run, [(100, {"acoustic": 60})], [(80, {"acoustic": 60})])
    assert (stage_of(small, "other")["verdict"], small["changed"], small["predicted"]) == ("faster", [], None)
    assert large["changed"] == ["other"]
    assert large["predicted"]["ratio"] == pytest.approx(100 / 80)


def test_a_prediction_is_as_sure_as_the_stage_and_never_beyond_its_limit(tmp_path: Path) -> None:
    """One repeat assumes a wide interval for the stage; a tiny stage is worth next to nothing all the same."""
    [rung] = kernel_run(tmp_path, 0.0005, 2.1, repeats=1)["rungs"]
    ingest = stage_of(rung["attribution"], "ingest")
    assert ingest["high"] / ingest["low"] > 1.5
    assert 1 < ingest["predicted"]["low"] < ingest["predicted"]["ratio"] < ingest["predicted"]["high"]
    assert ingest["predicted"]["high"] < ingest["limit"] < 1.0006


def test_a_stage_that_is_all_of_a_request_has_no_limit(run: Run) -> None:
    found = attributed(run, [(100, {"acoustic": 100})], [(50, {"acoustic": 50})])
    assert stage_of(found, "acoustic")["limit"] is None
    assert found["predicted"]["ratio"] == pytest.approx(2)


def test_without_a_common_stage_there_is_nothing_to_attribute(run: Run) -> None:
    before, after = timed(run, "before", [(100, {"engine": 100})]), timed(run, "after", [(50, {"acoustic": 50})])
    assert attribute(run, before, after) is None


@settings(max_examples=25, deadline=None)
@given(
    before=st.lists(st.integers(1, 10_000), min_size=3, max_size=3),
    after=st.lists(st.integers(1, 10_000), min_size=3, max_size=3),
)
def test_all_stages_together_predict_what_was_measured(run: Run, before: list[int], after: list[int]) -> None:
    names = ("ingest", "acoustic", "decode")
    wholes = [sum(before), sum(after)]
    found = attributed(
        run,
        [(wholes[0], dict(zip(names, before, strict=True)))],
        [(wholes[1], dict(zip(names, after, strict=True)))],
    )
    change = sum(row["share"] * (1 - 1 / row["ratio"]) for row in found["stages"] if row["stage"] in names)
    assert 1 / (1 - change) == pytest.approx(wholes[0] / wholes[1])
    for row in found["stages"]:
        if row["predicted"] and row["limit"] and row["verdict"] == "faster":
            assert 1 <= row["predicted"]["ratio"] <= row["limit"] * (1 + 1e-12)


def kernel_run(folder: Path, share_before: float, speed_up: float, **settings: Any) -> dict[str, Any]:
    """The summary of a synthetic run in which one rung makes ingest faster and nothing else."""
    rest = 1 - share_before
    shorter = rest + share_before / speed_up
    stages = {"ingest": share_before, "acoustic": 0.3 * rest, "decode": 0.7 * rest}
    after = {"ingest": share_before / speed_up, "acoustic": 0.3 * rest, "decode": 0.7 * rest}
    cases = (
        FakeCase("numpy", "NumPy kernels", 0.05, stages=stages),
        FakeCase("simd", "SIMD kernels", 0.05 * shorter, "numpy", stages={k: v / shorter for k, v in after.items()}),
    )
    return summarise(open_run(write_run(folder, FakeRun(cases=cases, **settings))))


def test_the_summary_tells_the_truth_of_a_synthetic_run(tmp_path: Path) -> None:
    [rung] = kernel_run(tmp_path, 0.4, 4.0)["rungs"]
    ingest = stage_of(rung["attribution"], "ingest")
    assert rung["attribution"]["changed"] == ["ingest"]
    assert ingest["low"] <= 4.0 <= ingest["high"]
    assert ingest["share"] == pytest.approx(0.4, abs=0.01)
    assert ingest["predicted"]["low"] <= 1 / 0.7 <= ingest["predicted"]["high"]
    assert rung["ratio"] == pytest.approx(1 / 0.7, rel=0.02)


def test_a_gain_that_cannot_matter_is_a_finding(tmp_path: Path) -> None:
    summary = kernel_run(tmp_path, 0.0005, 2.1)
    said = " ".join(findings(summary))
    assert "“SIMD kernels” makes ingest 2.1" in said
    assert "that is 0.05 % of a request: at most 1.0005× end to end" in said
    assert summary["rungs"][0]["verdict"] in ("no effect", "unclear")


def test_the_report_shows_share_prediction_and_measurement(tmp_path: Path) -> None:
    kernel_run(tmp_path, 0.0005, 2.1)
    paths = write_report(open_run(next(tmp_path.iterdir())))
    markdown = paths.markdown.read_text()
    [row] = [line for line in markdown.splitlines() if line.startswith("| SIMD kernels | ingest")]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[2] == "0.05"
    assert cells[3].startswith("2.1")
    assert cells[4:6] == ["1.0005×", "1.0003×"]
    assert cells[6].startswith("1.00×")
    html = paths.html.read_text()
    assert 'data-attribution="simd"' in html
    assert "1.0005×" in html


def test_a_rung_that_changed_no_stage_says_so(tmp_path: Path) -> None:
    summary = kernel_run(tmp_path, 0.4, 1.0)
    assert summary["rungs"][0]["attribution"]["changed"] == []
    markdown = write_report(open_run(next(tmp_path.iterdir()))).markdown.read_text()
    assert "| SIMD kernels | none |" in markdown


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0.68, "68.0"), (0.0031, "0.31"), (0.0005, "0.05"), (0.000099, "0.01"), (0.00004, "0.004"), (0, "0")],
)
def test_small_shares_keep_their_digits(value: float | None, text: str) -> None:
    assert share(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (3.2, "3.20×"), (1.04, "1.04×"), (1.0005, "1.0005×"), (0.9996, "0.9996×"), (1.0, "1.00×"),
     (1 + 1e-9, "1.00×")],
)  # fmt: skip
def test_a_bound_keeps_its_distance_from_one(value: float | None, text: str) -> None:
    assert bound(value) == text
