"""The runner as it is meant to go: what it measures, in which order, under which conditions, and what it stores."""

from __future__ import annotations

import json
import os

import pytest

from harness.records import Sample
from pipelines.errors import AmiraError, NothingMeasuredError
from tests.fakes.world import CLIPS, Bench, plan_of


def _steady(samples: tuple[Sample, ...], case: str, repeat: int) -> list[str]:
    return [s.utterance for s in samples if (s.case, s.repeat, s.phase) == (case, repeat, "steady")]


def test_measures_every_utterance_of_every_case_in_every_repeat(bench: Bench) -> None:
    outcome = bench.run(plan_of("sound", "witness", repeats=2))

    run = bench.stored()
    assert (outcome.path, outcome.status, outcome.failures) == (run.path, "complete", ())
    assert run.manifest.status == "complete"
    assert run.notes == ()
    assert {(record.case, record.repeat, record.status) for record in run.processes} == {
        (case, repeat, "ok") for case in ("sound", "witness") for repeat in range(2)
    }
    for repeat in range(2):
        orders = [_steady(run.samples, case, repeat) for case in ("sound", "witness")]
        assert sorted(orders[0]) == [f"clip{number}" for number in range(1, CLIPS + 1)]
        assert orders[0] == orders[1], "the cases of a repeat share the order of the utterances"
    assert _steady(run.samples, "sound", 0) != _steady(run.samples, "sound", 1)
    assert sum(sample.phase == "warm-up" for sample in run.samples) == 4


def test_samples_carry_what_was_recognised_and_how_long_it_took(bench: Bench) -> None:
    bench.run(plan_of("sound"))

    run = bench.stored()
    sizes = {utterance.id: round(utterance.duration_s * 32_000) for utterance in run.manifest.utterances}
    for sample in run.samples:
        assert sample.text == f"{sizes[sample.utterance]} bytes"
        assert 0 < sample.stages_ns["engine"] <= sample.latency_ns
        assert sample.cpu_ns >= 0
        assert sample.steps == 1
    (record,) = run.processes
    assert 0 < record.baseline_rss_bytes <= record.peak_rss_bytes
    assert min(record.import_ns, record.load_ns, record.warm_up_ns, record.cpu_s, record.threads) > 0
    assert record.import_ns / 1e9 < record.wall_s


def test_each_process_is_fresh_and_pinned_and_collects_no_garbage_in_a_timed_call(bench: Bench) -> None:
    bench.run(plan_of("witness", repeats=2))

    run = bench.stored()
    seen = [(sample, json.loads(sample.text)) for sample in run.samples]
    assert {tuple(said["affinity"]) for _, said in seen} == {(max(os.sched_getaffinity(0)),)}
    assert {said["omp"] for _, said in seen} == {"1"}
    assert not any(said["collecting"] for _, said in seen)
    assert all(said["frozen"] > 0 for sample, said in seen if sample.phase == "steady")
    pids = {(sample.repeat, said["pid"]) for sample, said in seen}
    assert len(pids) == len({pid for _, pid in pids}) == 2
    assert os.getpid() not in {pid for _, pid in pids}


def test_cases_take_turns_in_an_order_of_their_own_in_each_repeat(bench: Bench) -> None:
    bench.run(plan_of("sound", "witness", "slow", repeats=3))

    rounds = [[case for case, repeat in bench.notes.order if repeat == wanted] for wanted in range(3)]
    assert all(sorted(cases) == ["slow", "sound", "witness"] for cases in rounds)
    assert [repeat for _, repeat in bench.notes.order] == sorted(repeat for _, repeat in bench.notes.order)
    assert len({tuple(cases) for cases in rounds}) > 1


def test_a_case_that_cannot_run_here_is_an_entry_with_its_reason(bench: Bench) -> None:
    outcome = bench.run(plan_of("sound", "absent"))

    entry = bench.stored().cases["absent"]
    assert outcome.status == "complete"
    assert entry.unavailable_reason == "peer/absent: it needs a machine of brass"
    assert entry.unavailable_remedy == "Build one"
    assert {record.case for record in bench.stored().processes} == {"sound"}


def test_more_threads_than_cores_cannot_run_here(bench: Bench) -> None:
    plan = plan_of("sound", "witness")
    wide = plan.cases[1].pipeline.model_copy(update={"threads": 250})
    cases = (plan.cases[0], plan.cases[1].model_copy(update={"pipeline": wide}))

    bench.run(plan.model_copy(update={"cases": cases}))

    assert "it wants 250 threads" in str(bench.stored().cases["witness"].unavailable_reason)


def test_the_plan_limits_the_corpus(bench: Bench) -> None:
    bench.run(plan_of("sound", settings="corpus_limit = { max_clips = 2 }"))

    assert len(bench.stored().manifest.utterances) == 2
    assert len(_steady(bench.stored().samples, "sound", 0)) == 2


def test_a_run_without_a_sample_says_why_and_leaves_its_folder(bench: Bench) -> None:
    with pytest.raises(
        NothingMeasuredError, match=r"measured nothing.*model 'x' is not built.*machine of brass"
    ) as caught:
        bench.run(plan_of("absent", "unloadable"))

    assert caught.value.exit_code == 4
    run = bench.stored()
    assert run.manifest.status == "complete"
    assert run.samples == ()
    assert [record.status for record in run.processes] == ["failed"]
    assert (run.path / "samples.parquet").is_file()


def test_prints_of_a_library_do_no_harm(bench: Bench) -> None:
    outcome = bench.run(plan_of("chatty"))

    assert outcome.failures == ()
    assert len(bench.stored().samples) == CLIPS + 1


def test_half_a_character_is_stored_as_a_question_mark(bench: Bench) -> None:
    bench.run(plan_of("half-character"))

    assert {sample.text for sample in bench.stored().samples} == {"caf?"}


def test_an_unknown_model_folder_is_part_of_the_fingerprint_not_an_error(bench: Bench) -> None:
    bench.run(plan_of("sound"))

    assert bench.stored().manifest.fingerprint["models"] == {"moonshine-aed": "not built"}


def test_a_run_folder_that_cannot_be_made_is_one_clear_message(bench: Bench) -> None:
    bench.runs_dir.write_text("a file", encoding="utf-8")

    with pytest.raises(AmiraError, match=r"cannot write .*runs.*(File exists|Not a directory)"):
        bench.run(plan_of("sound"))
