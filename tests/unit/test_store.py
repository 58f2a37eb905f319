"""A run that was written is read back whole; damage is refused with its place, an interruption is only noted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.store import find_run, open_run
from pipelines.errors import AmiraError
from tests.synthetic import FakeRun, write_run

SMALL = FakeRun(utterances=4, repeats=2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_run(tmp_path, SMALL)


def test_reads_everything_back(folder: Path) -> None:
    run = open_run(folder)
    assert list(run.cases) == ["shipped", "folded", "step-graph", "scalar-kernel", "pooled", "int8", "peer"]
    assert len(run.utterances) == 4
    assert len(run.samples) == 7 * 2 * (4 + 1)
    assert len(run.processes) == 7 * 2
    assert run.notes == ()
    assert run.cases["int8"].case.pipeline.variants["acoustic"] == "acoustic/ort@int8"


def test_reads_a_run_whose_variants_are_not_installed_here(folder: Path) -> None:
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace("acoustic/ort@int8", "acoustic/elsewhere@fp8"))
    assert open_run(folder).cases["int8"].case.pipeline.variants["acoustic"] == "acoustic/elsewhere@fp8"


def test_latest_is_the_newest_by_creation_not_by_file_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMIRA_HOME", str(tmp_path))
    runs = tmp_path / "reports" / "runs"
    for name, created in (("b-newest", "2025-03-02T00:00:00Z"), ("a-older", "2025-03-01T00:00:00Z")):
        path = write_run(runs, FakeRun(name=name, utterances=1, repeats=1)) / "manifest.json"
        path.write_text(path.read_text().replace("2025-03-14T09:26:53Z", created))
    assert find_run("latest").name == "b-newest"
    assert find_run("a-older") == runs / "a-older"
    assert find_run(runs / "a-older") == runs / "a-older"


def test_finds_a_curated_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMIRA_HOME", str(tmp_path))
    write_run(tmp_path / "reports", FakeRun(name="curated", utterances=1, repeats=1))
    assert find_run("curated") == tmp_path / "reports" / "curated"


def test_an_unknown_run_names_those_that_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMIRA_HOME", str(tmp_path))
    with pytest.raises(AmiraError, match="no run yet"):
        find_run("latest")
    write_run(tmp_path / "reports" / "runs", FakeRun(name="first", utterances=1, repeats=1))
    with pytest.raises(AmiraError, match=r"run 'frist' does not exist.*have: first.*amira bench"):
        find_run("frist")


def test_refuses_another_schema_version(folder: Path) -> None:
    _change_manifest(folder, schema_version=99)
    with pytest.raises(AmiraError, match="schema_version 99"):
        open_run(folder)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\xff\xfe", b'{"schema_version": 1}', b"null"])
def test_refuses_a_broken_manifest(folder: Path, content: bytes) -> None:
    (folder / "manifest.json").write_bytes(content)
    with pytest.raises(AmiraError, match=r"manifest\.json"):
        open_run(folder)


def test_refuses_an_unknown_key_of_the_manifest(folder: Path) -> None:
    _change_manifest(folder, surprise=1)
    with pytest.raises(AmiraError, match="surprise"):
        open_run(folder)


def test_a_broken_manifest_is_not_passed_over_by_latest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMIRA_HOME", str(tmp_path))
    runs = tmp_path / "reports" / "runs"
    write_run(runs, FakeRun(name="fine", utterances=1, repeats=1))
    (write_run(runs, FakeRun(name="broken", utterances=1, repeats=1)) / "manifest.json").write_text("{")
    with pytest.raises(AmiraError, match="broken"):
        open_run(find_run("latest"))


def test_a_folder_without_a_manifest_is_not_a_run(tmp_path: Path) -> None:
    with pytest.raises(AmiraError, match="is not a run"):
        open_run(tmp_path)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(min_value=1, max_value=400))
def test_a_torn_last_line_is_left_out_and_noted(folder: Path, cut: int) -> None:
    path = folder / "samples.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    torn = lines[-1][: max(1, len(lines[-1]) - 1 - cut)]
    original = path.read_bytes()
    path.write_bytes(b"".join(lines[:-1]) + torn)
    run = open_run(folder)
    path.write_bytes(original)
    assert len(run.samples) == len(lines) - 1
    assert any("torn off" in note and f"line {len(lines)}" in note for note in run.notes)


def test_a_last_line_without_a_newline_is_whole(folder: Path) -> None:
    path = folder / "samples.jsonl"
    count = len(open_run(folder).samples)
    path.write_bytes(path.read_bytes().rstrip(b"\n"))
    run = open_run(folder)
    assert len(run.samples) == count
    assert run.notes == ()


@pytest.mark.parametrize("damage", [b'{"case": "ship', b'{"case": 3}', b"\xff", b"", b"[1, 2]"])
def test_a_broken_line_in_the_middle_is_an_error_with_its_place(folder: Path, damage: bytes) -> None:
    path = folder / "samples.jsonl"
    lines = path.read_bytes().splitlines()
    lines[6] = damage
    path.write_bytes(b"\n".join(lines) + b"\n")
    with pytest.raises(AmiraError, match=r"samples\.jsonl, line 7 is broken"):
        open_run(folder)


def test_a_whole_last_line_of_the_wrong_shape_is_an_error(folder: Path) -> None:
    path = folder / "samples.jsonl"
    path.write_bytes(path.read_bytes() + b'{"case": "shipped"}\n')
    with pytest.raises(AmiraError, match="is broken"):
        open_run(folder)


def test_rows_of_a_case_that_the_manifest_does_not_have_are_refused(folder: Path) -> None:
    path = folder / "samples.jsonl"
    path.write_text(path.read_text().replace('"int8"', '"int4"'))
    with pytest.raises(AmiraError, match="case 'int4'"):
        open_run(folder)


def test_an_interrupted_run_without_samples_opens_with_a_note(folder: Path) -> None:
    _change_manifest(folder, status="interrupted", finished_utc=None)
    (folder / "samples.jsonl").unlink()
    (folder / "processes.jsonl").unlink()
    run = open_run(folder)
    assert run.samples == ()
    assert run.processes == ()
    assert any("interrupted" in note for note in run.notes)


def test_a_sample_measured_again_after_an_interruption_counts_once(folder: Path) -> None:
    path = folder / "samples.jsonl"
    steady = [line for line in path.read_text().splitlines() if '"steady"' in line]
    again = json.loads(steady[0]) | {"latency_ns": 123}
    path.write_text(path.read_text() + json.dumps(again) + "\n")
    run = open_run(folder)
    same = [row for row in run.samples if (row.case, row.repeat, row.utterance) == ("shipped", 0, again["utterance"])]
    assert [row.latency_ns for row in same if row.phase == "steady"] == [123]
    assert any("measured again" in note for note in run.notes)


def _change_manifest(folder: Path, **changes: object) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
