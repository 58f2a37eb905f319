"""Memory over a run: the curve, its three points, the overhead, and runs from before there was any of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.measured import Measured, measured_cases, table
from harness.memory import MIB, MOST_POINTS, memory
from harness.report import write_report
from harness.store import open_run
from harness.summary import summarise
from tests.synthetic import FakeCase, FakeRun, write_run


def measured(folder: Path, rss_mib: list[list[int]], *, warm_up: int = 1) -> Measured:
    """A case whose processes had this resident memory after each call, one list a repeat."""
    calls = len(rss_mib[0])
    fake = FakeRun(cases=(FakeCase("a", "A", 0.05),), utterances=calls - warm_up, repeats=len(rss_mib), warm_up=warm_up)
    found = measured_cases(open_run(write_run(folder, fake)))["a"]
    place = {row.started_ns: index for index, row in enumerate(sorted(
        (row for row in (*found.warm_up, *found.steady.values()) if row.repeat == 0), key=lambda row: row.started_ns
    ))}  # fmt: skip
    return replace(
        found,
        warm_up=tuple(
            replace(row, rss_bytes=rss_mib[row.repeat][place[row.started_ns]] * MIB) for row in found.warm_up
        ),
        steady={
            key: replace(row, rss_bytes=rss_mib[row.repeat][place[row.started_ns]] * MIB)
            for key, row in found.steady.items()
        },
    )


def test_the_curve_is_the_median_of_the_repeats_in_the_order_of_calls(tmp_path: Path) -> None:
    found = memory(measured(tmp_path, [[10, 20, 30, 40, 50], [11, 21, 31, 41, 51], [90, 22, 90, 39, 90]]))
    assert found is not None
    assert [point["mib"] for point in found["curve"]] == [11, 21, 31, 40, 51]
    assert [point["call"] for point in found["curve"]] == [1, 2, 3, 4, 5]
    assert (found["first_mib"], found["half_mib"], found["end_mib"]) == (21, 31, 51)
    assert found["calls"] == 5


def test_overhead_is_what_is_resident_and_not_live(tmp_path: Path) -> None:
    case = measured(tmp_path, [[10, 20], [10, 20], [10, 20]])
    pairs = [(300, 250), (310, 240), (330, 340)]
    processes = tuple(
        replace(row, end_anonymous_bytes=anonymous * MIB, live_bytes=live * MIB, allocator="test 1")
        for row, (anonymous, live) in zip(case.processes, pairs, strict=True)
    )
    found = memory(replace(case, processes=processes))
    assert found is not None
    assert (found["live_mib"], found["overhead_mib"], found["allocator"]) == (250, 50, "test 1")
    silent = memory(replace(case, processes=tuple(replace(row, live_bytes=0) for row in processes)))
    assert silent is not None
    assert (silent["live_mib"], silent["overhead_mib"]) == (None, None)


def test_a_long_run_is_thinned_and_keeps_its_ends(tmp_path: Path) -> None:
    found = memory(measured(tmp_path, [list(range(100, 601))]))
    assert found is not None
    assert len(found["curve"]) == MOST_POINTS
    assert (found["curve"][0]["call"], found["curve"][-1]) == (1, {"call": 501, "mib": 600})
    assert found["calls"] == 501


def test_a_run_from_before_there_was_any_of_it_still_gives_a_report(tmp_path: Path) -> None:
    folder = write_run(tmp_path, FakeRun(utterances=3, repeats=2))
    for name, keys in (
        ("samples.jsonl", ("lap", "rss_bytes")),
        ("processes.jsonl", ("end_rss_bytes", "end_anonymous_bytes", "live_bytes", "allocator")),
    ):
        import json

        rows = [json.loads(line) for line in (folder / name).read_text().splitlines()]
        for row in rows:
            for key in keys:
                del row[key]
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = open_run(folder)
    assert run.manifest.laps == 1
    assert all(case["memory"] is None for case in summarise(run)["cases"])
    paths = write_report(run)
    assert "memory" not in {path.stem for path in paths.figures}
    assert "Memory over the run" not in paths.html.read_text()


def test_laps_are_averaged_before_anything_is_compared(tmp_path: Path) -> None:
    run = open_run(write_run(tmp_path, FakeRun(cases=(FakeCase("a", "A", 0.05),), utterances=2, repeats=1)))
    [first, second] = measured_cases(run)["a"].steady.values()
    samples = {
        (0, first.utterance, 0): replace(first, latency_ns=100),
        (0, first.utterance, 1): replace(first, latency_ns=300, lap=1),
        (0, second.utterance, 0): replace(second, latency_ns=50),
    }
    assert table(run, samples, lambda row: float(row.latency_ns)).tolist() == [[200, 50]]


def test_end_memory_is_compared_like_peak_memory(tmp_path: Path) -> None:
    cases = (FakeCase("a", "A", 0.05, rss_mib=400), FakeCase("b", "B", 0.05, "a", rss_mib=200))
    rows = summarise(open_run(write_run(tmp_path, FakeRun(cases=cases, utterances=3))))["comparisons"]
    found = {row["metric"]: row for row in rows}
    assert found["end_memory"]["verdict"] == "less"
    assert found["end_memory"]["ratio"] == pytest.approx(2, rel=0.03)
