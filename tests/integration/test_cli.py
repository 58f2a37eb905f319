"""The command line as people and scripts use it: real processes, exit codes, one JSON document on stdout."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import soundfile

import harness.report
from harness.corpus import load_corpus
from pipelines.models import source
from pipelines.paths import home

SCHEMA = Path(harness.report.__file__).with_name("summary.schema.json")
BECKETT = "Ever tried ever failed, no matter try again fail again fail better."


def amira(*arguments: object, at: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command line; `at` is the folder that holds its builds and runs."""
    environment = os.environ | ({"AMIRA_HOME": str(at)} if at else {})
    command = [sys.executable, "-m", "harness.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=240)


def document(result: subprocess.CompletedProcess[str]) -> Any:
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.fixture
def beckett() -> Path:
    return source.package_file("moonshine_cpp/test-data/beckett.wav")


@pytest.fixture
def own_home(tmp_path: Path) -> Path:
    """A home of the test's own, with the built models of this checkout."""
    (tmp_path / "build").mkdir()
    for name in ("models", "corpora"):
        (tmp_path / "build" / name).symlink_to(home() / "build" / name)
    return tmp_path


def write_plan(folder: Path, text: str) -> Path:
    path = folder / "plan.toml"
    path.write_text(text)
    return path


PLAN = """
name = "small"
title = "A small plan"
corpus = "starter"
corpus_limit = { max_clips = 2 }
repeats = 2
[base.variants]
acoustic = "ort@int8"
decoder = "aed-greedy"
kernel = "numpy"
memory = "fresh"
[[ladder]]
id = "fresh"
title = "Fresh buffers"
[[ladder]]
id = "pooled"
title = "Pooled buffers"
variants = { memory = "pooled" }
"""


def test_help_teaches_and_imports_nothing_heavy() -> None:
    result = amira("--help")
    assert result.returncode == 0
    for word in ("transcribe", "bench", "report", "variants", "models", "corpus", "env", "Exit codes"):
        assert word in result.stdout
    heavy = ["numpy", "onnx", "onnxruntime", "numba", "pandas", "matplotlib", "scipy", "pyarrow", "soundfile", "jiwer"]
    code = f"import sys; import harness.cli; print([name for name in {heavy} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize("command", ["models", "corpus", "bench", "report", "transcribe", "variants", "env"])
def test_every_command_explains_itself(command: str) -> None:
    result = amira(command, "--help")
    assert result.returncode == 0
    assert len(result.stdout) > 200


def test_variants_as_json() -> None:
    entries = document(amira("variants", "--json"))
    assert {"id", "axis", "available", "reason", "remedy"} <= set(entries[0])
    by_id = {entry["id"]: entry for entry in entries}
    assert by_id["acoustic/ort@int8"]["available"] is True
    assert all(entry["available"] or (entry["reason"] and entry["remedy"]) for entry in entries)


def test_env_as_json_is_publishable() -> None:
    result = amira("env", "--json")
    found = document(result)
    assert found["cpu"]
    assert found["models"]["moonshine-aed"]
    assert str(Path.home()) not in result.stdout


def test_models_list_and_build_find_what_is_there() -> None:
    listed = document(amira("models", "list", "--json"))
    [entry] = [row for row in listed if row["name"] == "moonshine-aed"]
    assert len(entry["files"]["encoder.fp32.onnx"]["sha256"]) == 64
    built = amira("models", "build", "--json")
    assert {row["name"] for row in document(built)} <= {row["name"] for row in listed}
    assert "up to date" in built.stderr


def test_corpus_show_as_json() -> None:
    shown = document(amira("corpus", "show", "starter", "--json"))
    assert len(shown["clips"]) >= 9
    assert all(clip["licence"] and clip["source"] for clip in shown["clips"])


def test_transcribe_formats(beckett: Path, tmp_path: Path) -> None:
    assert amira("transcribe", beckett).stdout == BECKETT + "\n"
    [entry] = document(amira("transcribe", beckett, "--json"))
    assert {"file", "text", "duration_s", "latency_ms", "words"} <= set(entry)
    assert entry["text"] == BECKETT
    assert entry["duration_s"] == pytest.approx(9.96, abs=0.01)
    folder = tmp_path / "subtitles"
    assert amira("transcribe", "-f", "vtt", "-o", folder, beckett).returncode == 0
    assert (folder / "beckett.vtt").read_text().startswith("WEBVTT\n\n00:00:00.000 --> 00:00:09.963\n")


def test_transcribe_cuts_long_files_at_pauses(beckett: Path, tmp_path: Path) -> None:
    samples, rate = soundfile.read(beckett, dtype="float32")
    pause = np.zeros(rate * 2, np.float32)
    soundfile.write(tmp_path / "long.flac", np.concatenate([samples, pause] * 8), rate)
    [entry] = document(amira("transcribe", tmp_path / "long.flac", "--json"))
    assert len(entry["segments"]) >= 8
    assert entry["text"].lower().count("better") == 8
    starts = [segment["start_s"] for segment in entry["segments"]]
    assert starts == sorted(starts)
    assert all(segment["end_s"] - segment["start_s"] <= 20.5 for segment in entry["segments"])


def test_silence_is_an_empty_transcript(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silence.wav", np.zeros(48_000, np.float32), 16_000)
    [entry] = document(amira("transcribe", tmp_path / "silence.wav", "--json"))
    assert (entry["text"], entry["segments"]) == ("", [])


def test_one_bad_file_does_not_lose_the_others(beckett: Path, tmp_path: Path) -> None:
    (tmp_path / "not-audio.wav").write_text("hello")
    result = amira("transcribe", tmp_path / "not-audio.wav", tmp_path / "missing.wav", beckett, "--json")
    assert result.returncode == 2
    assert [entry["text"] for entry in json.loads(result.stdout)] == [BECKETT]
    assert "not-audio.wav" in result.stderr
    assert "missing.wav" in result.stderr
    assert "2 of 3 files" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("transcribe", "--variant", "acoustic=ort@int4", "x.wav"), "Did you mean 'acoustic/ort@int8'"),
        (("transcribe", "--variant", "acoustic", "x.wav"), "is not AXIS=NAME"),
        (("transcribe", "-f", "srt", "a.wav", "b.wav"), "add --output DIR"),
        (("transcribe", "-o", "out", "a/x.wav", "b/x.wav"), "separate calls"),
        (("bench", "no-such-plan"), "plan 'no-such-plan' does not exist"),
        (("report", "no-such-run"), "no-such-run"),
        (("report", "latest"), "no run"),
        (("corpus", "show", "no-such-corpus"), "corpus 'no-such-corpus' does not exist"),
        (("variants", "--axis", "acustic"), "Did you mean 'acoustic'"),
    ],
)
def test_wrong_words_get_one_clear_message(arguments: tuple[str, ...], message: str, own_home: Path) -> None:
    result = amira(*arguments, at=own_home)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.count("error: ") == 1
    assert message in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("repeats = 2|reapeats = 2", "reapeats"),
        ('memory = "fresh"|memory = "frozen"', "variant 'memory/frozen' does not exist"),
        ('corpus = "starter"|corpus = "shared:nothing"', "nothing"),
        ("[[ladder]]|[[rung]]", "rung"),
    ],
)
def test_wrong_plans_get_one_clear_message(change: str, message: str, own_home: Path) -> None:
    plan = write_plan(own_home, PLAN.replace(*change.split("|")))
    result = amira("bench", plan, at=own_home)
    assert result.returncode == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert not (own_home / "reports").exists()


@pytest.mark.models
def test_bench_and_report_end_to_end(own_home: Path) -> None:
    plan = write_plan(own_home, PLAN)
    result = amira("bench", plan, "--json", at=own_home)
    summary = document(result)
    jsonschema.validate(summary, json.loads(SCHEMA.read_text()))
    assert [(case["id"], case["status"]) for case in summary["cases"]] == [("fresh", "ok"), ("pooled", "ok")]
    assert all(case["latency_ms"]["n"] == 4 for case in summary["cases"])
    assert all(case["stages_ms"].keys() == {"ingest", "acoustic", "decode"} for case in summary["cases"])
    assert summary["rungs"][0]["low"] <= summary["rungs"][0]["ratio"] <= summary["rungs"][0]["high"]
    [run] = (own_home / "reports" / "runs").iterdir()
    names = {path.name for path in run.iterdir()}
    assert {"manifest.json", "samples.jsonl", "samples.parquet", "report.html", "report.md"} <= names
    assert document(amira("report", "latest", "--json", at=own_home)) == summary
    rewritten = amira("report", run.name, "-o", own_home / "page", at=own_home)
    assert rewritten.returncode == 0
    assert "Pooled buffers" in (own_home / "page" / "report.html").read_text()
    assert amira("report", "latest", "--picture", own_home / "ladder.svg", at=own_home).returncode == 0
    assert "Pooled buffers" in (own_home / "ladder.svg").read_text()


@pytest.mark.models
def test_bench_refuses_models_that_are_not_what_was_built(own_home: Path) -> None:
    models = own_home / "build" / "models"
    models.unlink()
    plan = write_plan(own_home, PLAN)
    missing = amira("bench", plan, at=own_home)
    assert missing.returncode == 2
    assert "Build it: amira models build" in missing.stderr
    shutil.copytree(home() / "build" / "models" / "moonshine-aed", models / "moonshine-aed", copy_function=os.link)
    damaged = models / "moonshine-aed" / "tokenizer.bin"
    data = damaged.read_bytes()
    damaged.unlink()
    damaged.write_bytes(data[:-1] + b"?")
    wrong = amira("bench", plan, at=own_home)
    assert wrong.returncode == 2
    assert "tokenizer.bin does not match its card" in wrong.stderr
    assert not (own_home / "reports").exists()


@pytest.mark.models
def test_nothing_measured_is_exit_code_4(own_home: Path) -> None:
    """A clip that every pipeline refuses: each case fails with the reason, and the run says that it has nothing."""
    soundfile.write(own_home / "hours.wav", np.zeros(16_000 * 90, np.float32), 16_000)
    (own_home / "clips").mkdir()
    (own_home / "hours.wav").rename(own_home / "clips" / "hours.wav")
    plan = write_plan(own_home, PLAN.replace('corpus = "starter"', f'corpus = "{own_home / "clips"}"'))
    result = amira("bench", plan, at=own_home)
    assert result.returncode == 4
    assert "90.0 s long" in result.stderr
    shown = document(amira("report", "latest", "--json", at=own_home))
    assert [case["status"] for case in shown["cases"]] == ["failed", "failed"]
    assert "amira transcribe" in shown["cases"][0]["reason"]


def test_the_starter_corpus_is_what_the_documents_say() -> None:
    corpus = load_corpus("starter")
    assert all(clip.text for clip in corpus.clips)
    assert "beckett" in {clip.id for clip in corpus.clips}
