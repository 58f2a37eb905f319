"""Each way in which a case can go wrong becomes a failed record with the right words, and the rest is measured."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from harness.records import ProcessRecord
from tests.fakes.world import (
    CLIPS,
    Bench,
    is_running,
    plan_of,
    wait_for,
)

WELL = 2
"""Calls that a faulty engine does well before its fault: the warm-up and one that counts."""


def _failure_beside_a_sound_case(bench: Bench, engine: str, settings: str = "", options: str = "") -> ProcessRecord:
    """Run a faulty engine beside a sound one; the sound one must be measured in full."""
    settings = f"timeout_s = 60\n{settings}" if "timeout_s" not in settings else settings
    sound = plan_of("sound")
    plan = plan_of(engine, settings=settings, options=options)
    outcome = bench.run(plan.model_copy(update={"cases": (*plan.cases, *sound.cases)}))

    run = bench.stored()
    assert outcome.status == run.manifest.status == "complete"
    assert len([sample for sample in run.samples if sample.case == "sound"]) == CLIPS + 1
    assert [(record.case, record.status) for record in outcome.failures] == [(engine, "failed")]
    (stored,) = (record for record in run.processes if record.case == engine)
    assert (stored,) == outcome.failures
    return stored


@pytest.mark.parametrize(
    ("engine", "words"),
    [
        ("killed", r"killed, probably out of memory, on utterance 'clip\d' \(steady\) \(peak RSS \d\d+ MiB\)"),
        ("segfault", r"crashed with SIGSEGV \(Segmentation fault\) on utterance 'clip\d' .*faulty_engines.py.*_fault"),
        ("bad-alloc", r"out of memory on utterance .*crashed with SIGABRT .*peak RSS .*bad_alloc"),
        (
            "raises",
            r"failed on utterance 'clip\d' \(steady\): RuntimeError: the engine has lost its way \(fakes/faulty_",
        ),
        ("leaves", r"exited with code 3, without a result, on utterance 'clip\d'"),
    ],
)
def test_a_fault_in_a_call_is_named_with_what_was_going_on(bench: Bench, engine: str, words: str) -> None:
    record = _failure_beside_a_sound_case(bench, engine)

    assert re.search(words, str(record.error)), record.error
    assert "\n" not in str(record.error)
    assert record.peak_rss_bytes > 0
    assert record.load_ns > 0
    assert record.wall_s > 0
    assert record.cpu_s > 0
    kept = [sample for sample in bench.stored().samples if sample.case == engine]
    assert len(kept) == WELL, "what was measured before the fault is kept"


def test_running_out_of_memory_names_the_limit(bench: Bench) -> None:
    limit = "memory_limit_mib = 600"

    record = _failure_beside_a_sound_case(bench, "hungry", settings=limit)

    assert re.search(r"out of memory on utterance .*MemoryError.*under a limit of 600 MiB", str(record.error)), record
    assert 100 << 20 < record.peak_rss_bytes < 700 << 20


def test_a_pipeline_that_cannot_be_opened_says_so_in_its_own_words(bench: Bench) -> None:
    record = _failure_beside_a_sound_case(bench, "unloadable")

    assert record.error == "failed loading: model 'x' is not built. Build it with: amira models build"


def test_a_hang_is_ended_with_all_its_processes_soon_after_its_timeout(bench: Bench, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    started = time.monotonic()

    record = _failure_beside_a_sound_case(bench, "hangs", "timeout_s = 3", f'pid_file = "{pids}"')

    assert re.search(r"hung: no sign of life for 3 s on utterance .*raise timeout_s", str(record.error)), record
    assert time.monotonic() - started < 25
    hung, helper = map(int, pids.read_text(encoding="ascii").split())
    wait_for(lambda: not is_running(hung) and not is_running(helper), "the end of the hung processes", 5)


def test_a_helper_that_outlives_its_pipeline_is_ended(bench: Bench, tmp_path: Path) -> None:
    pids = tmp_path / "pids"

    outcome = bench.run(plan_of("orphans", options=f'pid_file = "{pids}"'))

    assert outcome.failures == ()
    _, helper = map(int, pids.read_text(encoding="ascii").split())
    wait_for(lambda: not is_running(helper), "the end of the helper", 5)


def test_a_crash_at_exit_does_not_spoil_what_was_measured_and_is_told(bench: Bench) -> None:
    outcome = bench.run(plan_of("dies-at-exit"))

    assert outcome.failures == ()
    assert len(bench.stored().samples) == CLIPS + 1
    assert any("measured in full, but crashed with SIGABRT" in text for text in bench.notes.messages)


def test_a_failed_case_is_not_tried_again_and_says_so(bench: Bench) -> None:
    outcome = bench.run(plan_of("raises", "sound", repeats=3))

    run = bench.stored()
    assert [record.repeat for record in run.processes if record.case == "raises"] == [0]
    assert [record.repeat for record in run.processes if record.case == "sound"] == [0, 1, 2]
    assert str(outcome.failures[0].error).endswith("Not tried again in later repeats")
    assert bench.notes.not_tried == [("raises", 1), ("raises", 2)]
