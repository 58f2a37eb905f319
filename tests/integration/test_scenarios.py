"""Each scenario really runs its requests as it says, in a process with real threads."""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from harness.measured import lap_ns, measured_cases
from harness.records import Sample
from harness.report import write_report
from harness.store import Run, open_run
from harness.summary import summarise
from pipelines.errors import NothingMeasuredError
from tests.fakes.world import Bench, plan_of

LAPS = 3
CLIPS = 4
SERVICE_NS = 50_000_000


def ran(bench: Bench, scenario: str, engine: str = "slow") -> Run:
    plan = plan_of(engine, settings=f"laps = {LAPS}\n[scenario]\n{scenario}")
    return open_run(bench.run(plan).path)


def laps(run: Run) -> dict[int, list[Sample]]:
    """Steady samples of each lap, by their start."""
    found: dict[int, list[Sample]] = defaultdict(list)
    for row in sorted((row for row in run.samples if row.phase == "steady"), key=lambda row: row.started_ns):
        found[row.lap].append(row)
    assert {lap: len(rows) for lap, rows in found.items()} == dict.fromkeys(range(LAPS), CLIPS)
    return found


def arrived(row: Sample) -> int:
    return row.started_ns - row.stages_ns["queue"]


def ended(row: Sample) -> int:
    return arrived(row) + row.latency_ns


def overlap(rows: list[Sample]) -> int:
    """The most requests that were served at one time."""
    return max(sum(other.started_ns <= row.started_ns < ended(other) for other in rows) for row in rows)


def test_offline_serves_a_queue_that_is_full_from_the_start(bench: Bench) -> None:
    run = ran(bench, "kind = 'offline'")
    for rows in laps(run).values():
        assert max(map(arrived, rows)) - min(map(arrived, rows)) < SERVICE_NS / 2
        assert overlap(rows) == 1
        assert rows[-1].stages_ns["queue"] >= (CLIPS - 1) * SERVICE_NS
        assert rows[-1].latency_ns >= CLIPS * SERVICE_NS
    case = measured_cases(run)["slow"]
    assert (lap_ns(run, case) >= CLIPS * SERVICE_NS).all()


def test_multi_stream_waits_for_its_group(bench: Bench) -> None:
    run = ran(bench, "kind = 'multi-stream'\nstreams = 2")
    for rows in laps(run).values():
        first, second = rows[:2], rows[2:]
        assert abs(arrived(first[0]) - arrived(first[1])) < SERVICE_NS / 2
        assert min(map(arrived, second)) >= max(map(ended, first))


def test_a_server_counts_from_the_scheduled_arrival_when_it_falls_behind(bench: Bench) -> None:
    run = ran(bench, "kind = 'server'\narrivals_per_s = 400")
    for rows in laps(run).values():
        gaps = [after - before for before, after in zip(map(arrived, rows), map(arrived, rows[1:]), strict=False)]
        assert sum(gaps) < SERVICE_NS * (CLIPS - 1)
        assert rows[-1].latency_ns > 2 * SERVICE_NS
        assert rows[-1].latency_ns - rows[-1].stages_ns["queue"] < rows[-1].latency_ns / 2
    schedule = [[arrived(row) - arrived(rows[0]) for row in rows] for rows in laps(run).values()]
    assert schedule[0] != schedule[1]


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="two workers need two cores")
def test_two_workers_serve_two_requests_at_a_time(bench: Bench) -> None:
    run = ran(bench, "kind = 'offline'\nworkers = 2")
    assert all(overlap(rows) == 2 for rows in laps(run).values())


def test_more_workers_than_cores_are_a_row_with_the_reason(bench: Bench) -> None:
    plan = plan_of("slow", "staged", settings="[scenario]\nkind = 'offline'\nworkers = 200")
    with pytest.raises(NothingMeasuredError, match=r"it wants 200 threads \(200 workers with 1 each\)"):
        bench.run(plan)


def test_an_engine_that_fails_in_its_thread_is_a_failed_case(bench: Bench) -> None:
    plan = plan_of("raises", "staged", settings="[scenario]\nkind = 'offline'")
    run = open_run(bench.run(plan).path)
    statuses = {row.case: row.status for row in run.processes}
    assert statuses == {"raises": "failed", "staged": "ok"}


def test_the_report_shows_the_scenario_and_its_throughput(bench: Bench, tmp_path: Path) -> None:
    run = ran(bench, "kind = 'server'\narrivals_per_s = 100")
    found: dict[str, Any] = summarise(run)
    assert found["data"]["scenario"]["kind"] == "server"
    [case] = found["cases"]
    assert case["throughput"]["audio_s_per_s"] > 0
    assert case["throughput"]["low"] <= case["throughput"]["audio_s_per_s"] <= case["throughput"]["high"]
    page = write_report(run).html.read_text(encoding="utf-8")
    assert 'id="scenario"' in page
    assert "Poisson arrivals, 100 a second" in page
    assert "Poisson arrivals, 100 a second" in (run.path / "report.md").read_text(encoding="utf-8")
