"""The recorder: whole lines, whatever happens."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.recorder import Recorder, new_run_folder, write_atomically
from harness.records import SCHEMA_VERSION, Case, CaseEntry, Manifest, ProcessRecord, Sample, Utterance
from harness.store import PROCESSES, SAMPLES, open_run
from pipelines.config import PipelineConfig
from pipelines.errors import AmiraError

UTTERANCES = ("a", "b", "c")


def _manifest() -> Manifest:
    case = Case(id="one", title="One", pipeline=PipelineConfig(variants={"kernel": "numpy"}))
    return Manifest(
        schema_version=SCHEMA_VERSION,
        run="r",
        status="running",
        created_utc="2026-01-02T03:04:05Z",
        plan_name="p",
        plan_title="P",
        plan_description="",
        plan_toml="",
        corpus="c",
        repeats=2,
        warm_up=0,
        cases=(CaseEntry(case=case),),
        utterances=tuple(
            Utterance(id=name, corpus="c", text=None, speaker=None, duration_s=1.0, sha256=name) for name in UTTERANCES
        ),
        fingerprint={},
    )


def _sample(utterance: str = "a", repeat: int = 0, **changes: object) -> Sample:
    sample = Sample("one", repeat, utterance, "steady", 10, 20, 30, {"engine": 15}, 3, "Größe \u2028 <&>")
    return replace(sample, **changes)  # type: ignore[arg-type]


def _ok(repeat: int) -> ProcessRecord:
    return ProcessRecord("one", repeat, "ok", None, wall_s=1.5)


def test_what_is_recorded_is_read_back(tmp_path: Path) -> None:
    with Recorder.create(tmp_path, _manifest()) as recorder:
        recorder.sample(_sample())
        assert open_run(tmp_path).samples == (_sample(),), "a sample is on disk at once"
        recorder.process(_ok(0))
        recorder.finish("complete")

    run = open_run(tmp_path)
    assert (run.samples, run.processes, run.notes) == ((_sample(),), (_ok(0),), ())
    assert run.manifest.status == "complete"
    assert run.manifest.finished_utc is not None
    assert {path.name for path in tmp_path.iterdir()} == {"manifest.json", SAMPLES, PROCESSES, "samples.parquet"}


def test_the_table_has_the_same_samples_with_a_column_for_each_stage(tmp_path: Path) -> None:
    cpu = {"decode": 6, "ingest": 1}
    samples = [
        _sample("a", stages_ns={"decode": 7, "ingest": 1}, stages_cpu_ns=cpu),
        _sample("b", stages_ns={"warp": 2}),
    ]
    with Recorder.create(tmp_path, _manifest()) as recorder:
        for sample in samples:
            recorder.sample(sample)
        recorder.finish("complete")

    table = pq.read_table(tmp_path / "samples.parquet")
    assert [name for name in table.column_names if name.startswith("stage_")] == [
        "stage_ingest_ns",
        "stage_decode_ns",
        "stage_warp_ns",
    ]
    assert table.schema.metadata[b"schema_version"] == str(SCHEMA_VERSION).encode()
    for row, sample in zip(table.to_pylist(), samples, strict=True):
        flat = {key: value for key, value in sample.to_json().items() if not key.startswith("stages_")}
        stages = {key: value for key, value in row.items() if key.startswith("stage_") and value is not None}
        assert {key: row[key] for key in flat} == flat
        assert {stage: row[f"cpu_{stage}_ns"] for stage in sample.stages_cpu_ns} == sample.stages_cpu_ns
        assert stages == {f"stage_{stage}_ns": value for stage, value in sample.stages_ns.items()}


def test_a_run_without_samples_has_an_empty_table(tmp_path: Path) -> None:
    with Recorder.create(tmp_path, _manifest()) as recorder:
        recorder.finish("complete")

    table = pq.read_table(tmp_path / "samples.parquet")
    assert table.num_rows == 0
    assert "latency_ns" in table.column_names


def test_run_folders_of_the_same_second_do_not_collide(tmp_path: Path) -> None:
    folders = [new_run_folder(tmp_path / "runs", "plan") for _ in range(3)]

    assert len(set(folders)) == 3
    assert all(folder.is_dir() and "Z-plan" in folder.name for folder in folders)


def test_one_run_has_one_writer(tmp_path: Path) -> None:
    writing = pytest.raises(AmiraError, match=r"being written by another process. Wait for it")
    with Recorder.create(tmp_path, _manifest()), writing:
        Recorder.resume(tmp_path)
    Recorder.resume(tmp_path).close()


def test_resuming_drops_the_samples_of_a_process_that_did_not_finish(tmp_path: Path) -> None:
    with Recorder.create(tmp_path, _manifest()) as recorder:
        for name in UTTERANCES:
            recorder.sample(_sample(name))
        recorder.process(_ok(0))
        recorder.sample(_sample("a", repeat=1, text="half-way"))
        recorder.finish("interrupted")

    with Recorder.resume(tmp_path) as recorder:
        assert open_run(tmp_path).manifest.status == "running"
        recorder.sample(_sample("a", repeat=1, text="again"))

    assert [(sample.repeat, sample.utterance) for sample in open_run(tmp_path).samples] == [
        *((0, name) for name in UTTERANCES),
        (1, "a"),
    ]
    assert open_run(tmp_path).samples[-1].text == "again"


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_wherever_the_last_line_is_torn_resuming_keeps_all_before_it(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with Recorder.create(folder, _manifest()) as recorder:
            for repeat in range(2):
                recorder.sample(_sample(repeat=repeat))
            for repeat in range(2):
                recorder.process(_ok(repeat))
        lines = (folder / SAMPLES).read_bytes().splitlines(keepends=True)
        cut = data.draw(st.integers(1, len(lines[1]) - 2))
        (folder / SAMPLES).write_bytes(lines[0] + lines[1][:cut])

        Recorder.resume(folder).close()

        assert (folder / SAMPLES).read_bytes() == lines[0]
        assert open_run(folder).notes == ("The run is running, not complete: what it has measured so far is shown.",)


def test_a_disk_that_refuses_leaves_whole_lines_and_says_what_to_do(tmp_path: Path) -> None:
    # The limit on the size of a file stands for a full disk where none can be mounted.
    code = """
import resource, sys
from pathlib import Path
from harness.recorder import Recorder
from pipelines.errors import AmiraError
from tests.unit.test_recorder import _manifest, _sample
with Recorder.create(Path(sys.argv[1]), _manifest()) as recorder:
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
    written = 0
    try:
        while True:
            recorder.sample(_sample(repeat=written))
            written += 1
    except AmiraError as error:
        print(written, error)
"""
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, cwd=root, check=True
    )

    written, message = done.stdout.split(" ", 1)
    assert int(written) > 5
    for part in (f"cannot write '{tmp_path / SAMPLES}': File too large", "MiB free there", "is kept", "resume the run"):
        assert part in message
    content = (tmp_path / SAMPLES).read_bytes()
    assert content.endswith(b"\n")
    assert [json.loads(line)["repeat"] for line in content.splitlines()] == list(range(int(written)))


def test_a_file_that_cannot_be_replaced_stays_as_it_was(tmp_path: Path) -> None:
    target = tmp_path / "manifest.json"
    target.mkdir()

    with pytest.raises(AmiraError, match=r"cannot write .*Is a directory"):
        write_atomically(target, b"new")

    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]


def test_a_run_folder_that_is_gone_is_one_clear_message(tmp_path: Path) -> None:
    with pytest.raises(AmiraError, match=r"cannot write .*No such file or directory"):
        Recorder.create(tmp_path / "gone", _manifest())
