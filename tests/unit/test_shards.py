"""A corpus in pieces: cut by the audio alone, and put together as one process would have left it."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.records import ProcessRecord, Sample, Utterance
from harness.scratch import Scratch
from harness.shards import Outcome, Shard, ShardStore, merge, plan_of, split
from harness.worker import Job
from tests.fakes.world import plan_of as plan_from

DURATIONS = [1.0, 2.0, 0.5, 4.0, 0.2, 0.2, 0.2]


@pytest.fixture
def scratch(tmp_path: Path) -> Scratch:
    utterances = tuple(
        Utterance(id=f"u{number}", corpus="c", text=None, speaker=None, duration_s=seconds, sha256="0")
        for number, seconds in enumerate(DURATIONS)
    )
    return Scratch(tmp_path / "audio", utterances, tuple((row.id, 2) for row in utterances))


@pytest.mark.parametrize(
    ("seconds", "ends"),
    [(3.0, [(0, 2), (2, 4), (4, 7)]), (0.01, [(place, place + 1) for place in range(7)]), (100.0, [(0, 7)])],
)
def test_every_utterance_is_in_one_shard_of_enough_audio(
    scratch: Scratch, seconds: float, ends: list[tuple[int, int]]
) -> None:
    shards = split(scratch, seconds)

    assert [(shard.start, shard.stop) for shard in shards] == ends
    assert [shard.index for shard in shards] == list(range(len(ends)))
    assert {shard.count for shard in shards} == {len(ends)}


def _job(names: tuple[str, ...], laps: int, warm_up: int, seed: int) -> Job:
    sizes = tuple((name, 2) for name in names)
    return Job({}, "", "", sizes, warm_up, laps, seed, None, 0, 0)


def _outcome(names: tuple[str, ...], laps: int, warm_up: int, seed: int, **record: object) -> Outcome:
    """What a process leaves that measures these utterances, in its own order."""
    calls = _job(names, laps, warm_up, seed).order()
    samples = []
    for place, (phase, name) in enumerate(calls):
        lap = 0 if phase == "warm-up" else (place - warm_up) // len(names)
        samples.append(Sample("case", 1, name, phase, place, 1, 1, {}, 1, name, lap))  # type: ignore[arg-type]
    values: dict[str, object] = {"status": "ok", "error": None, "cpu_s": 1.0, "wall_s": 2.0, **record}
    return Outcome((ProcessRecord("case", 1, **values),), tuple(samples), (), "w")  # type: ignore[arg-type]


def test_merged_samples_stand_in_the_order_of_one_process(scratch: Scratch) -> None:
    plan = plan_from("moonshine-cpp", settings="measures = 'accuracy'\nlaps = 3\nseed = 5")
    seed = plan.seed + 1
    names = tuple(name for name, _ in scratch.sizes)
    shards = split(scratch, 3.0)
    parts = [
        _outcome(
            names[shard.start : shard.stop], 3, plan_of(plan, shard).warm_up, seed, peak_rss_bytes=10 - shard.index
        )
        for shard in shards
    ]

    record, samples = merge(plan, scratch, parts)

    whole = _job(names, 3, plan.warm_up, seed).order()
    assert [(s.phase, s.utterance) for s in samples if s.phase == "steady"] == [
        call for call in whole if call[0] == "steady"
    ]
    assert [s.lap for s in samples if s.phase == "steady"] == [lap for lap in range(3) for _ in names]
    assert sum(s.phase == "warm-up" for s in samples) == plan.warm_up
    assert (record.status, record.cpu_s, record.wall_s, record.peak_rss_bytes) == ("ok", 3.0, 6.0, 10)


def test_a_failed_shard_is_the_case_s_failure(scratch: Scratch) -> None:
    plan = plan_from("moonshine-cpp", settings="measures = 'accuracy'")
    parts = [
        _outcome(("u0",), 1, 1, 1),
        _outcome(("u1",), 1, 0, 1, status="failed", error="lost its way"),
        _outcome(("u2",), 1, 0, 1),
    ]

    record, samples = merge(plan, scratch, parts)

    assert (record.status, record.error) == ("failed", "lost its way")
    assert len(samples) == 4


def test_a_finished_shard_is_found_again_and_another_cut_is_not(scratch: Scratch, tmp_path: Path) -> None:
    store = ShardStore(tmp_path / "run", scratch)
    (tmp_path / "run").mkdir()
    shard, outcome = Shard(1, 3, 2, 4), _outcome(("u2", "u3"), 1, 0, 1)

    store.save("case", 1, shard, outcome)

    assert ShardStore(tmp_path / "run", scratch).load("case", 1, shard) == outcome
    assert store.load("case", 0, shard) is None
    assert store.load("case", 1, Shard(1, 3, 2, 5)) is None
    (file,) = (tmp_path / "run" / "shards").iterdir()
    file.write_bytes(file.read_bytes()[:-20])
    assert store.load("case", 1, shard) is None, "a torn file is no finding"
    store.forget("case", 1, [shard])
    assert not list((tmp_path / "run" / "shards").iterdir())
