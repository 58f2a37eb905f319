"""What two stored runs say of each other, and what becomes of runs that are not as they should be."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from harness import report
from harness.gate.config import GateConfig
from harness.gate.judge import CaseVerdict
from harness.gate.result import Result
from harness.gate.run import stored
from harness.ledger import ledger
from harness.store import open_run
from harness.summary import summarise
from pipelines.errors import AmiraError
from tests.synthetic import FakeCase, FakeRun, write_run

CONFIG = GateConfig()
FAST = FakeCase("fast", "The fast one", 0.05, slip=0.0)
SLOW = FakeCase("slow", "The slow one", 0.5, slip=0.0)
BASE = FakeRun((FAST, SLOW), name="base", repeats=6)


def compared(folder: Path, baseline: FakeRun, candidate: FakeRun) -> dict[str, CaseVerdict]:
    return {case.case: case for case in result(folder, baseline, candidate).cases}


def result(folder: Path, baseline: FakeRun, candidate: FakeRun) -> Result:
    write_run(folder, baseline)
    write_run(folder, candidate)
    return stored(CONFIG, str(folder / baseline.name), str(folder / candidate.name))


def again(cases: tuple[FakeCase, ...] = BASE.cases, **changes: Any) -> FakeRun:  # type: ignore[assignment]
    return replace(BASE, cases=cases, name="again", seed=8, **changes)


def edit(folder: Path, file: str, change: Callable[[dict[str, Any]], dict[str, Any] | None]) -> None:
    path = folder / file
    rows = [change(json.loads(line)) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows if row is not None))


def test_the_same_again_is_fine(tmp_path: Path) -> None:
    found = result(tmp_path, BASE, replace(BASE, name="again"))
    assert (found.verdict, found.exit_code) == ("fine", 0)
    assert {row.metric for row in found.cases[0].rows} == {
        *("latency", "loss of throughput", "cpu", "stage ingest", "stage acoustic", "stage decode"),
        *("peak memory", "wer starter"),
    }


def test_a_slower_case_is_worse_and_the_other_is_not(tmp_path: Path) -> None:
    write_run(tmp_path, BASE)
    write_run(tmp_path, replace(BASE, name="again", cases=(replace(FAST, rtf=0.065), SLOW)))
    found = stored(CONFIG, str(tmp_path / "base"), str(tmp_path / "again"))
    assert found.exit_code == 1
    fast, slow = found.cases
    assert (fast.verdict, slow.verdict) == ("worse", "fine")
    latency = next(row for row in fast.rows if row.metric == "latency")
    assert latency.change == pytest.approx(0.3, abs=0.02)
    assert latency.margin == pytest.approx(0.13)


def test_a_slower_stage_is_named(tmp_path: Path) -> None:
    slower = replace(FAST, rtf=0.05 * 1.2, stages={"ingest": 0.001, "acoustic": 0.25, "decode": 0.73})
    found = compared(tmp_path, BASE, replace(BASE, name="again", cases=(slower, SLOW)))
    assert found["fast"].worse() == {"latency", "loss of throughput", "cpu", "stage decode"}


def test_a_stage_with_a_tiny_share_is_shown_and_not_judged(tmp_path: Path) -> None:
    slower = replace(FAST, stages={"ingest": 0.002, "acoustic": 0.3, "decode": 0.68})
    case = compared(tmp_path, BASE, replace(BASE, name="again", cases=(slower, SLOW)))["fast"]
    ingest = next(row for row in case.rows if row.metric == "stage ingest")
    assert (ingest.verdict, ingest.judged) == ("worse", False)
    assert case.verdict == "fine"


def test_more_word_errors_are_worse(tmp_path: Path) -> None:
    write_run(tmp_path, replace(BASE, utterances=120, speakers=20))
    deaf = (replace(FAST, slip=0.08), SLOW)
    write_run(tmp_path, replace(BASE, utterances=120, speakers=20, name="again", cases=deaf))
    found = stored(CONFIG, str(tmp_path / "base"), str(tmp_path / "again"))
    assert found.cases[0].worse() == {"wer starter"}
    row = next(row for row in found.cases[0].rows if row.metric == "wer starter")
    assert row.unit == "points"
    assert row.change > 1
    assert row.note is not None
    assert "matched-pair test p =" in row.note


def test_a_case_that_only_fails_now_is_broken(tmp_path: Path) -> None:
    found = result(tmp_path, BASE, again((replace(FAST, error="crashed with SIGSEGV"), SLOW)))
    assert found.exit_code == 1
    assert found.cases[0].verdict == "broken"
    assert "crashed with SIGSEGV" in found.cases[0].reason


@pytest.mark.parametrize(
    ("before", "after", "word", "reason"),
    [
        (replace(FAST, error="it failed"), FAST, "not measured", "the baseline failed: it failed"),
        (None, FAST, "not measured", "the baseline does not have this case"),
        (FAST, None, "broken", "the candidate does not have this case"),
        (
            replace(FAST, unavailable=("no AVX-512", "another CPU")),
            replace(FAST, unavailable=("no AVX-512", "another CPU")),
            "not measured",
            "the baseline cannot run here: no AVX-512",
        ),
    ],
)
def test_a_case_that_is_not_on_both_sides_is_a_row_with_its_reason(
    before: FakeCase | None, after: FakeCase | None, word: str, reason: str, tmp_path: Path
) -> None:
    first = replace(BASE, cases=tuple(case for case in (before, SLOW) if case))
    second = again(tuple(case for case in (after, SLOW) if case))
    case = compared(tmp_path, first, second)["fast"]
    assert case.verdict == word
    assert reason in case.reason


def test_no_case_in_common_is_nothing_measured(tmp_path: Path) -> None:
    failed = tuple(replace(case, error="it failed") for case in (FAST, SLOW))
    found = result(tmp_path, replace(BASE, cases=failed), again(failed))
    assert (found.verdict, found.exit_code) == ("nothing measured", 4)


def test_nothing_measured_is_exit_code_4_of_the_command(tmp_path: Path) -> None:
    failed = tuple(replace(case, error="it failed") for case in (FAST, SLOW))
    write_run(tmp_path, replace(BASE, cases=failed))
    write_run(tmp_path, again(failed))
    command = [sys.executable, "-m", "harness.cli", "gate", "--baseline", tmp_path / "base"]
    command += ["--candidate", tmp_path / "again", "--output", tmp_path / "verdict", "--json"]

    done = subprocess.run(command, capture_output=True, text=True, timeout=120)

    assert done.returncode == 4, done.stderr
    said = json.loads(done.stdout)
    assert (said["verdict"], said["exit_code"]) == ("nothing measured", 4)
    assert {case["verdict"] for case in said["cases"]} == {"not measured"}
    assert "<error" in (tmp_path / "verdict" / "junit.xml").read_text()


def test_a_run_that_measured_accuracy_is_judged_by_its_words_alone(tmp_path: Path) -> None:
    write_run(tmp_path, BASE)
    folder = write_run(tmp_path, replace(BASE, name="again", cases=(replace(FAST, rtf=0.5), SLOW)))
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"measures": "accuracy"}))

    found = stored(CONFIG, str(tmp_path / "base"), str(folder))

    assert found.exit_code == 0
    assert {row.metric for case in found.cases for row in case.rows} == {"wer starter"}
    assert "only words are judged: the plan measures accuracy" in found.cases[0].notes
    assert any("no times are compared" in note for note in found.notes)
    summary = summarise(open_run(folder))
    assert summary["comparisons"] == []
    assert all(case["throughput"] is None for case in summary["cases"])
    jsonschema.validate(summary, json.loads(Path(report.__file__).with_name("summary.schema.json").read_text()))
    with pytest.raises(AmiraError, match="measured accuracy alone"):
        ledger(open_run(folder))


def test_one_sample_only_is_unclear_not_fine(tmp_path: Path) -> None:
    one = replace(BASE, repeats=1, utterances=1)
    found = result(tmp_path, one, replace(one, name="again"))
    assert (found.verdict, found.exit_code) == ("unclear", 3)
    assert "one repeat" in str(next(row.note for row in found.cases[0].rows if row.metric == "latency"))


def test_identical_samples_are_fine(tmp_path: Path) -> None:
    calm = replace(BASE, process_noise=0.0, sample_noise=0.0)
    found = result(tmp_path, calm, replace(calm, name="again"))
    latency = next(row for row in found.cases[0].rows if row.metric == "latency")
    assert (latency.change, latency.low, latency.high) == (0, 0, 0)
    assert found.exit_code == 0


def test_a_clock_that_went_backwards_gives_no_times(tmp_path: Path) -> None:
    write_run(tmp_path, BASE)
    folder = write_run(tmp_path, again())

    def backwards(row: dict[str, Any]) -> dict[str, Any]:
        return row | ({"latency_ns": -5} if row["case"] == "fast" and row["repeat"] == 2 else {})

    edit(folder, "samples.jsonl", backwards)
    found = stored(CONFIG, str(tmp_path / "base"), str(folder))
    assert any("samples took less than no time: a clock went backwards. Left out" in note for note in found.notes)
    counts = {case.case: {row.samples for row in case.rows if row.metric == "latency"} for case in found.cases}
    assert counts == {"fast": {BASE.repeats - 1}, "slow": {BASE.repeats}}


def test_a_run_killed_half_way_counts_with_the_repeats_that_it_ended(tmp_path: Path) -> None:
    write_run(tmp_path, BASE)
    folder = write_run(tmp_path, again(status="running"))
    edit(folder, "processes.jsonl", lambda row: row if row["repeat"] < 4 else None)
    with (folder / "samples.jsonl").open("a") as file:
        file.write('{"case": "fast", "repe')
    found = stored(CONFIG, str(tmp_path / "base"), str(folder))
    assert {row.samples for row in found.cases[0].rows if row.unit == "fraction"} == {4}
    assert any("torn" in note for note in found.notes)
    assert any("running, not complete" in note for note in found.notes)


def test_other_audio_under_the_same_name_is_left_out(tmp_path: Path) -> None:
    write_run(tmp_path, BASE)
    folder = write_run(tmp_path, again())
    manifest = json.loads((folder / "manifest.json").read_text())
    for row in manifest["utterances"][:3]:
        row["sha256"] = "0" * 64
    (folder / "manifest.json").write_text(json.dumps(manifest))
    case = stored(CONFIG, str(tmp_path / "base"), str(folder)).cases[0]
    assert any("3 utterances are not in both runs" in note for note in case.notes)
    assert next(row.samples for row in case.rows if row.metric == "wer starter") == 27


def test_another_schema_version_is_refused(tmp_path: Path) -> None:
    write_run(tmp_path, BASE)
    folder = write_run(tmp_path, again())
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"schema_version": 99}))
    with pytest.raises(AmiraError, match="schema_version 99"):
        stored(CONFIG, str(tmp_path / "base"), str(folder))


def test_another_machine_is_refused_unless_the_user_insists(tmp_path: Path) -> None:
    write_run(tmp_path, BASE)
    folder = write_run(tmp_path, replace(BASE, name="again"))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["fingerprint"]["cpu"]["model"] = "Another CPU"
    manifest["fingerprint"]["code"]["commit"] = "f" * 40
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(AmiraError, match=r"cpu\.model: Synthetic CPU @ 2\.00 GHz against Another CPU") as refused:
        stored(CONFIG, str(tmp_path / "base"), str(folder))
    assert refused.value.exit_code == 2
    assert "code" not in str(refused.value)
    found = stored(CONFIG, str(tmp_path / "base"), str(folder), anyway=True)
    assert any("the fingerprints differ: cpu.model" in note for note in found.notes)
