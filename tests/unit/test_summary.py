"""The summary keeps its schema whatever the run looks like, and its numbers are those that the run was made with."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

import harness.report
from harness.store import Run, open_run
from harness.summary import summarise
from tests.synthetic import DEFAULT_CASES, FakeCase, FakeRun, write_run

SCHEMA = Path(harness.report.__file__).parent / "summary.schema.json"
CRASH = "killed by signal 9: out of memory"
REASON = ("this CPU has no AVX-512", "Run on a CPU that has it.")

RUNS = {
    "default": FakeRun(),
    "one case": FakeRun(cases=(replace(DEFAULT_CASES[0], rung=False),)),
    "no ladder": FakeRun(cases=tuple(replace(case, rung=False) for case in DEFAULT_CASES[:3])),
    "no references": FakeRun(references=False, speakers=None),
    "one sample": FakeRun(cases=DEFAULT_CASES[:2], utterances=1, repeats=1, warm_up=0),
    "all failed": FakeRun(cases=tuple(replace(case, error=CRASH) for case in DEFAULT_CASES)),
    "all unavailable": FakeRun(cases=tuple(replace(case, unavailable=REASON) for case in DEFAULT_CASES)),
    "thirty cases": FakeRun(
        cases=tuple(
            FakeCase(f"c{i}", f"Case {i}", 0.6 * 0.9**i, f"c{i - 1}" if i else None, rung=i < 15) for i in range(30)
        ),
        corpora=("starter", "learners"),
        utterances=8,
        repeats=2,
    ),
    "holes": FakeRun(
        cases=(
            *DEFAULT_CASES[:3],
            replace(DEFAULT_CASES[3], unavailable=REASON),
            replace(DEFAULT_CASES[4], error=CRASH),
            *DEFAULT_CASES[5:],
        ),
        status="interrupted",
    ),
}


@pytest.fixture
def make_run(tmp_path: Path) -> Any:
    return lambda fake: open_run(write_run(tmp_path, fake))


@cache
def _validator() -> Draft202012Validator:
    return Draft202012Validator(json.loads(SCHEMA.read_text()))


def _by_id(summary: dict[str, Any]) -> dict[str, Any]:
    return {case["id"]: case for case in summary["cases"]}


@pytest.mark.parametrize("name", RUNS)
def test_every_run_keeps_the_schema(make_run: Any, name: str) -> None:
    summary = summarise(make_run(RUNS[name]))
    text = json.dumps(summary, allow_nan=False)
    _validator().validate(json.loads(text))
    assert len(summary["cases"]) == len(RUNS[name].cases)


def test_the_schema_refuses_another_shape(make_run: Any) -> None:
    summary = summarise(make_run(FakeRun(utterances=2, repeats=1)))
    for broken in (
        summary | {"surprise": 1},
        {key: value for key, value in summary.items() if key != "rungs"},
        summary | {"cases": [summary["cases"][0] | {"status": "fine"}]},
    ):
        assert not _validator().is_valid(broken)


def test_the_ladder_says_what_the_run_was_made_with(make_run: Any) -> None:
    rungs = {rung["candidate"]: rung for rung in summarise(make_run(FakeRun()))["rungs"]}
    assert list(rungs) == ["folded", "step-graph", "scalar-kernel", "pooled", "int8"]
    for name, below, ratio, whole, verdict in (
        ("folded", "shipped", 0.6 / 0.09, 0.6 / 0.09, "faster"),
        ("step-graph", "folded", 0.09 / 0.055, 0.6 / 0.055, "faster"),
        ("scalar-kernel", "step-graph", 1.0, 0.6 / 0.055, "no effect"),
        ("pooled", "scalar-kernel", 1.0, 0.6 / 0.055, "no effect"),
        ("int8", "pooled", 0.055 / 0.03, 20.0, "faster"),
    ):
        rung = rungs[name]
        assert (rung["baseline"], rung["verdict"]) == (below, verdict)
        assert rung["ratio"] == pytest.approx(ratio, rel=0.02)
        assert rung["low"] < rung["ratio"] < rung["high"]
        assert rung["cumulative"]["baseline"] == "shipped"
        assert rung["cumulative"]["ratio"] == pytest.approx(whole, rel=0.02)


def test_a_peer_is_compared_in_all_metrics(make_run: Any) -> None:
    rows = [row for row in summarise(make_run(FakeRun()))["comparisons"] if row["candidate"] == "peer"]
    found = {row["metric"]: (row["baseline"], row["verdict"]) for row in rows}
    assert found == {
        "latency": ("pooled", "slower"),
        "cpu": ("pooled", "more"),
        "peak_memory": ("pooled", "less"),
        "end_memory": ("pooled", "less"),
    }


def test_a_case_has_the_numbers_of_its_samples(make_run: Any) -> None:
    run: Run = make_run(FakeRun())
    case = _by_id(summarise(run))["folded"]
    latencies = sorted(row.latency_ns / 1e6 for row in run.samples if row.case == "folded" and row.phase == "steady")
    assert case["latency_ms"]["n"] == 90
    assert case["latency_ms"]["p50"] == pytest.approx((latencies[44] + latencies[45]) / 2)
    assert not case["latency_ms"]["p99_bounded"]
    assert case["rtf"] == pytest.approx(0.09, rel=0.03)
    assert case["rtf_interval"]["low"] < case["rtf"] < case["rtf_interval"]["high"]
    assert case["cpu_s_per_audio_s"] == pytest.approx(0.99 * case["rtf"])
    assert case["peak_rss_mib"] == pytest.approx(655, rel=0.02)
    assert case["stages_ms"]["decode"] == pytest.approx(0.68 * case["latency_ms"]["p50"], rel=1e-3)
    assert case["other_ms"] == pytest.approx(0.019 * case["latency_ms"]["p50"], rel=1e-2)
    assert case["load_ms"] == pytest.approx(1200, rel=0.02)
    assert case["first_request_ms"] > case["latency_ms"]["p50"]
    assert case["steps_per_s"] > 0


def test_warm_up_never_enters_the_steady_state(make_run: Any, tmp_path: Path) -> None:
    run: Run = make_run(FakeRun())
    slow = tuple(replace(row, latency_ns=10**13) if row.phase == "warm-up" else row for row in run.samples)
    before, after = summarise(run), summarise(replace(run, samples=slow))
    assert before["rungs"] == after["rungs"]
    assert [case["rtf"] for case in before["cases"]] == [case["rtf"] for case in after["cases"]]
    assert after["cases"][0]["first_request_ms"] == 1e7


def test_accuracy_is_per_corpus_and_paired(make_run: Any) -> None:
    cases = _by_id(summarise(make_run(FakeRun(corpora=("starter", "learners")))))
    assert set(cases["int8"]["wer"]) == {"starter", "learners"}
    for corpus in ("starter", "learners"):
        rate, change = cases["int8"]["wer"][corpus], cases["int8"]["wer_difference"][corpus]
        assert rate["utterances"] == 15
        assert rate["low"] <= rate["value"] <= rate["high"]
        assert change["baseline"] == "pooled"
        assert change["value"] == pytest.approx(rate["value"] - cases["pooled"]["wer"][corpus]["value"])
        assert cases["pooled"]["wer_difference"][corpus]["value"] == 0
    assert any(rate["value"] > 0 for rate in cases["int8"]["wer"].values())


def test_without_references_there_is_no_error_rate(make_run: Any) -> None:
    cases = summarise(make_run(RUNS["no references"]))["cases"]
    assert all(case["wer"] == {} and case["wer_difference"] == {} for case in cases)


def test_cases_without_numbers_are_rows_with_their_reason(make_run: Any) -> None:
    summary = summarise(make_run(RUNS["holes"]))
    cases = _by_id(summary)
    assert cases["scalar-kernel"]["status"] == "unavailable"
    assert (cases["scalar-kernel"]["reason"], cases["scalar-kernel"]["remedy"]) == REASON
    assert cases["pooled"]["status"] == "failed"
    assert CRASH in cases["pooled"]["reason"]
    assert cases["pooled"]["latency_ms"] is None
    assert "interrupted" in summary["notes"][0]


def test_a_rung_above_a_hole_says_what_it_is_compared_with(make_run: Any) -> None:
    summary = summarise(make_run(RUNS["holes"]))
    rungs = {rung["candidate"]: rung for rung in summary["rungs"]}
    assert rungs["pooled"]["ratio"] is None
    assert rungs["int8"]["baseline"] == "step-graph"
    assert {row["baseline"] for row in summary["comparisons"] if row["candidate"] == "int8"} == {"step-graph"}
    assert _by_id(summary)["int8"]["wer_difference"]["starter"]["baseline"] == "step-graph"
    assert not [row for row in summary["comparisons"] if row["candidate"] == "peer"]


def test_a_case_that_failed_in_one_repeat_has_no_numbers(make_run: Any) -> None:
    run: Run = make_run(FakeRun(utterances=3))
    processes = tuple(
        replace(row, status="failed", error="timed out") if (row.case, row.repeat) == ("int8", 1) else row
        for row in run.processes
    )
    case = _by_id(summarise(replace(run, processes=processes)))["int8"]
    assert case["status"] == "failed"
    assert case["reason"] == "timed out (in repeat 2 of 3)"
    assert case["rtf"] is None


def test_a_case_that_an_interruption_left_out_says_so(make_run: Any) -> None:
    run: Run = make_run(FakeRun(utterances=2, status="interrupted"))
    left = replace(run, samples=tuple(row for row in run.samples if row.case != "peer"))
    case = _by_id(summarise(replace(left, processes=())))["peer"]
    assert case["status"] == "failed"
    assert "not measured" in case["reason"]


def test_texts_that_change_between_repeats_are_counted(make_run: Any) -> None:
    run: Run = make_run(FakeRun(utterances=3))
    changed = tuple(
        replace(row, text="something else") if (row.case, row.repeat, row.phase) == ("int8", 2, "steady") else row
        for row in run.samples
    )
    cases = _by_id(summarise(replace(run, samples=changed)))
    assert (cases["int8"]["unstable_texts"], cases["pooled"]["unstable_texts"]) == (3, 0)
