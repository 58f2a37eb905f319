"""Plans on a real Ray: the results of a local run, wherever its processes run and whatever becomes of the workers."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from harness import executor_ray
from harness.executor_ray import RayExecutor
from harness.plan import Plan, load_plan
from harness.records import Sample
from harness.runner import RunOutcome, run_plan
from harness.shards import FOLDER
from harness.store import PROCESSES, SAMPLES, Run, open_run
from pipelines.errors import AmiraError
from tests.fakes.world import CLIPS, Bench, is_running, plan_of, plan_toml, wait_for

ROOT = Path(__file__).resolve().parents[2]
SHARD_S = 0.2
"""The clips last 0.1 s to 0.4 s: three shards of one or two clips each."""
SHARDS = 3
ACCURACY = 'measures = "accuracy"'


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A cluster of one node, on loopback; this process has the token for it."""
    command = [sys.executable, "-m", "tests.fakes.ray_cluster"]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        address, token = process.stdout.readline().split()
        with pytest.MonkeyPatch.context() as patch:
            # As a user of that cluster has them; and its only node has no address but loopback's.
            patch.setenv("RAY_AUTH_MODE", "token")
            patch.setenv("RAY_AUTH_TOKEN", token)
            patch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
            yield address
    finally:
        process.communicate(timeout=60)


def on_ray(bench: Bench, plan: Plan, address: str, resume: Path | None = None, runs: str = "ray") -> RunOutcome:
    return run_plan(
        plan,
        corpus=bench.corpus,
        models_dir=bench.models_dir,
        runs_dir=bench.folder / runs,
        reporter=bench.notes,
        resume=resume,
        executor=RayExecutor(address, SHARD_S),
    )


def said(run: Run) -> list[tuple[Any, ...]]:
    """Every sample in its order, without times."""
    return [(s.case, s.repeat, s.phase, s.lap, s.utterance, s.text) for s in run.samples]


def steady(samples: tuple[Sample, ...]) -> list[Sample]:
    return [sample for sample in samples if sample.phase == "steady"]


def test_timing_is_what_a_local_run_is(bench: Bench, address: str) -> None:
    plan = plan_of("sound", "witness", "absent", repeats=3)
    local = open_run(bench.run(plan).path)
    there = open_run(on_ray(bench, plan, address).path)

    assert [(p.case, p.repeat, p.status) for p in there.processes] == [
        (p.case, p.repeat, p.status) for p in local.processes
    ], "the same processes, interleaved in the same order"
    without = [[row for row in said(run) if row[0] != "witness"] for run in (local, there)]
    assert without[0] == without[1]
    assert len(there.samples) == len(local.samples)
    assert there.cases["absent"].unavailable_reason == local.cases["absent"].unavailable_reason
    assert sorted(path.name for path in there.path.iterdir()) == sorted(path.name for path in local.path.iterdir())
    assert there.manifest.fingerprint == local.manifest.fingerprint
    assert local.manifest.executor.name == "local"
    where = there.manifest.executor
    (worker,) = where.workers
    assert (where.name, re.fullmatch(r"worker-[0-9a-f]{8}", worker) is not None) == ("ray", True)
    assert where.cases == {"sound": (worker,), "witness": (worker,)}
    seen = [json.loads(s.text) for s in there.samples if s.case == "witness"]
    assert {tuple(row["affinity"]) for row in seen} == {(max(os.sched_getaffinity(0)),)}
    assert {row["omp"] for row in seen} == {"1"}, "Ray's own number of threads has not got through"


def test_accuracy_is_sharded_and_put_together_in_order(bench: Bench, address: str) -> None:
    plan = plan_of("sound", "witness", repeats=2, settings=f"{ACCURACY}\nlaps = 2")
    local = open_run(bench.run(plan).path)
    there = open_run(on_ray(bench, plan, address).path)

    both = [[row[:5] for row in said(run) if row[2] == "steady"] for run in (local, there)]
    assert Counter(both[0]) == Counter(both[1])
    for case in ("sound", "witness"):
        for repeat in range(2):
            orders = [[row for row in rows if row[:2] == (case, repeat)] for rows in both]
            assert orders[0] == orders[1], "the samples of a case stand in the order of one process"
    texts = [{row for row in said(run) if row[0] == "sound" and row[2] == "steady"} for run in (local, there)]
    assert texts[0] == texts[1]
    assert len(there.samples) == len(local.samples), "as many warm-up calls, too"
    assert {(p.case, p.repeat, p.status) for p in there.processes} == {
        (p.case, p.repeat, p.status) for p in local.processes
    }
    assert there.manifest.measures == "accuracy"
    witnessed = [json.loads(s.text) for s in steady(there.samples) if s.case == "witness"]
    assert len({row["pid"] for row in witnessed}) == 2 * SHARDS
    assert {tuple(row["affinity"]) for row in witnessed} == {(core,) for core in sorted(os.sched_getaffinity(0))[:2]}
    assert not (there.path / FOLDER).exists()


def test_a_failing_case_fails_as_locally_and_the_rest_goes_on(bench: Bench, address: str) -> None:
    plan = plan_of("raises", "sound", repeats=2)
    local = open_run(bench.run(plan).path)
    outcome = on_ray(bench, plan, address)

    there = open_run(outcome.path)
    errors = [[(p.case, p.error) for p in run.processes if p.status == "failed"] for run in (local, there)]
    assert errors[0] == errors[1]
    assert len(errors[0]) == 1
    assert len(steady(there.samples)) == len(steady(local.samples))
    assert outcome.status == "complete"


def test_a_failing_shard_is_the_failure_of_its_case(bench: Bench, address: str) -> None:
    plan = plan_of("raises", "sound", repeats=2, settings=ACCURACY, options="after = 1")
    there = open_run(on_ray(bench, plan, address).path)

    failed = [p for p in there.processes if p.status == "failed"]
    assert {p.case for p in failed} == {"raises"}
    assert "the engine has lost its way" in str(failed[0].error)
    assert {(p.case, p.repeat) for p in there.processes if p.status == "ok"} >= {("sound", 0), ("sound", 1)}


@pytest.mark.parametrize("settings", ["", ACCURACY])
def test_a_worker_that_dies_is_replaced_and_its_work_done_again(bench: Bench, address: str, settings: str) -> None:
    pid_file = bench.folder / "pid"
    plan_file = bench.folder / "plan.toml"
    text = plan_toml("slow", "sound", repeats=2, settings=f"{settings}\nlaps = 20", options=f'pid_file = "{pid_file}"')
    plan_file.write_text(text, encoding="utf-8")
    process = start(bench, plan_file, address)
    wait_for(lambda: pid_file.exists() and pid_file.read_text().strip() != "", "a process that measures")
    measuring = psutil.Process(int(pid_file.read_text(encoding="ascii")))
    worker = measuring.parent()
    assert worker is not None
    assert worker.name().startswith("ray::Worker")
    worker.kill()

    out, err = process.communicate(timeout=200)

    assert out.strip() == "complete", err
    assert re.search(r"worker-\w+ died \(.*\); what it was doing is measured again", err)
    wait_for(lambda: not is_running(measuring.pid), "the end of what it measured", 5)
    run = stored(bench)
    assert [p.status for p in run.processes] == ["ok"] * 4
    counts = Counter((s.case, s.repeat, s.lap, s.utterance) for s in steady(run.samples))
    assert (set(counts.values()), len(counts)) == ({1}, 2 * 2 * 20 * CLIPS)


def test_a_case_of_which_workers_die_has_failed(bench: Bench, address: str) -> None:
    outcome = on_ray(bench, plan_of("regicide", "sound"), address)

    run = open_run(outcome.path)
    (failed,) = outcome.failures
    assert failed.case == "regicide"
    assert failed.error is not None
    assert failed.error.startswith("its worker died 3 times while it was measured: ")
    assert {p.case for p in run.processes if p.status == "ok"} == {"sound"}


@pytest.mark.parametrize("settings", ["", ACCURACY])
def test_ctrl_c_loses_nothing_that_was_finished(bench: Bench, address: str, settings: str) -> None:
    plan_file = bench.folder / "plan.toml"
    text = plan_toml("slow", "sound", repeats=3, settings=f"{settings}\nlaps = 6")
    plan_file.write_text(text, encoding="utf-8")
    process = start(bench, plan_file, address)
    kept = f"*/{FOLDER}/*.json" if settings else f"*/{PROCESSES}"
    wait_for(
        lambda: any(path.stat().st_size for path in (bench.folder / "runs").glob(kept)) or process.poll() is not None,
        "something that is finished",
        120,
    )
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)

    assert out.strip() == "interrupted", err
    before = stored(bench)
    shards = {path.name: path.read_bytes() for path in before.path.glob(f"{FOLDER}/*.json")}
    assert before.manifest.status == "interrupted"
    assert bool(shards) == bool(settings)
    stopped = sorted(json.loads(content)["samples"][0]["started_ns"] for content in shards.values())

    outcome = on_ray(bench, load_plan(plan_file), address, before.path)

    after = open_run(before.path)
    assert outcome.status == "complete"
    counts = Counter((s.case, s.repeat, s.lap, s.utterance) for s in steady(after.samples))
    assert (set(counts.values()), len(counts)) == ({1}, 2 * 3 * 6 * CLIPS)
    finished = {(p.case, p.repeat) for p in before.processes}
    assert set(bench.notes.order).isdisjoint(finished)
    assert {s.started_ns for s in after.samples}.issuperset(stopped), "a shard that was finished is not measured again"
    assert not (after.path / FOLDER).exists()


def test_a_run_goes_on_where_it_was_begun(bench: Bench, address: str) -> None:
    plan = plan_of("sound", repeats=2)
    path = bench.run(plan).path
    with pytest.raises(AmiraError, match=r"cannot be resumed.*the executor: local against ray"):
        on_ray(bench, plan, address, path)


def test_a_cluster_without_a_timing_node_times_nothing(
    bench: Bench, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executor_ray, "TIMING", "quiet_room")
    with pytest.raises(AmiraError, match=r"no node of the cluster offers the resource 'quiet_room'.*ray start"):
        on_ray(bench, plan_of("sound"), address)


def test_other_code_on_the_workers_is_refused(bench: Bench, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = executor_ray.fingerprint.code
    monkeypatch.setattr(executor_ray.fingerprint, "code", lambda root: {**ours(root), "sources": "0" * 64})
    with pytest.raises(
        AmiraError, match=r"other code than this checkout \(code.sources: [0-9a-f]{12} there, 000000000000"
    ):
        on_ray(bench, plan_of("sound"), address)


def test_a_cluster_that_is_not_there(bench: Bench) -> None:
    with pytest.raises(AmiraError, match=r"no Ray cluster could be joined at '127.0.0.1:1'.*ray start --head"):
        on_ray(bench, plan_of("sound"), "127.0.0.1:1")


def test_a_cluster_of_its_own_keeps_to_itself_and_leaves_nothing(bench: Bench) -> None:
    pid_file = bench.folder / "pid"
    plan_file = bench.folder / "plan.toml"
    text = plan_toml("slow", settings="laps = 10", options=f'pid_file = "{pid_file}"')
    plan_file.write_text(text, encoding="utf-8")
    home = bench.folder / "home"
    home.mkdir()
    temporary = Path(tempfile.mkdtemp(dir="/tmp"))  # a path short enough for Ray's sockets
    process = start(bench, plan_file, None, HOME=str(home), TMPDIR=str(temporary))
    wait_for(lambda: pid_file.exists() or process.poll() is not None, "a process that measures", 150)
    family = psutil.Process(process.pid).children(recursive=True)
    seen = [listening(member) for member in (psutil.Process(process.pid), *family)]
    names, heard = {name for name, _ in seen}, {address for _, addresses in seen for address in addresses}
    out, err = process.communicate(timeout=120)

    assert out.strip() == "complete", err
    assert "raylet" in names
    assert heard == {"127.0.0.1"}
    wait_for(lambda: not any(is_running(member.pid) for member in family), "the end of Ray's processes", 20)
    assert not list(temporary.iterdir())
    temporary.rmdir()
    assert not list(home.iterdir()), "no token, no setting is left in the home"


def listening(process: psutil.Process) -> tuple[str, set[str]]:
    """A process's name and where it listens; nothing of one that has just ended, as helpers of Ray do."""
    try:
        return process.name(), {
            connection.laddr.ip.removeprefix("::ffff:")
            for connection in process.net_connections("inet")
            if connection.status == psutil.CONN_LISTEN
        }
    except psutil.NoSuchProcess:  # zombies are among these
        return "", set()


def start(bench: Bench, plan: Path, address: str | None, **variables: str) -> subprocess.Popen[str]:
    arguments = [str(path) for path in (plan, bench.corpus_folder, bench.models_dir, bench.runs_dir)]
    environment = dict(os.environ) | {"EXECUTOR": "ray"} | variables
    if address is None:
        environment = {name: value for name, value in environment.items() if not name.startswith("RAY_")}
    else:
        environment["RAY_CLUSTER"] = address
    return subprocess.Popen(
        [sys.executable, "-m", "tests.fakes.run_noise", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def stored(bench: Bench) -> Run:
    run = bench.stored()
    assert (run.path / SAMPLES).is_file()
    return run
