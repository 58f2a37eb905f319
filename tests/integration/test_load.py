"""The load against a real server that recognises nothing: everything sent is answered, and every misdeed is counted."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter_ns

import numpy as np
import pytest
import soundfile
import websockets
from typer.testing import CliRunner
from websockets.typing import Subprotocol

from amira_client.connection import SUBPROTOCOL
from harness.cli import cli
from harness.corpus import Corpus, load_corpus
from harness.load import worker
from harness.load.run import find_load, run_load
from harness.load.spec import Job, LoadSpec
from harness.load.summary import summarise
from pipelines.errors import AmiraError
from tests.fakes.serving import ROOT, Server, serving


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving("--null") as running:
        yield running


@pytest.fixture
def corpus(tmp_path: Path, corpus_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Corpus:
    monkeypatch.setattr("harness.load.run.runs_dir", lambda: tmp_path / "runs")
    return load_corpus(str(corpus_folder))


def quiet(message: str) -> None:
    pass


def test_all_audio_is_answered_in_order(server: Server, corpus: Corpus) -> None:
    steps = [LoadSpec(streams=3, seconds=1.5, processes=2), LoadSpec(streams=2, seconds=2, session_s=0.5)]
    folder = run_load(server.url, steps, corpus, quiet)
    first, churned = summarise(folder)["steps"]
    assert first["outcomes"] == {"finished": 3}
    assert churned["outcomes"] == {"finished": 8}
    for step in (first, churned):
        assert (step["errors"], step["lost_ms"], step["disordered"]) == (0, 0, 0)
        for name in ("partial", "first_partial", "final"):
            due, sent = (step["latency_ms"][each] for each in (name, f"{name}_from_send"))
            assert due["n"] == sent["n"] > 0
            assert due["p50"] >= sent["p50"] > 0  # due is never after sent
    assert first["latency_ms"]["partial"]["n"] == 3 * 15
    assert not list(folder.rglob("*.raw"))  # no recordings are left behind


def test_streams_begin_with_a_clip_or_anywhere(server: Server, corpus: Corpus) -> None:
    steps = [LoadSpec(streams=8, seconds=1, anywhere=anywhere) for anywhere in (False, True)]
    folder = run_load(server.url, steps, corpus, quiet)
    record = json.loads((folder / "load.json").read_text("utf-8"))
    clips = {each["start"] for each in record["spoken"]}
    with_clip, anywhere = (
        [json.loads(line)["offset"] for line in (folder / name / "sessions-00000.jsonl").read_text().splitlines()]
        for name in ("step-00", "step-01")
    )
    assert set(with_clip) <= clips
    assert not set(anywhere) & clips
    assert len(set(anywhere)) == 8
    assert all(0 <= at < record["audio_samples"] for at in anywhere)
    assert [step["errors"] for step in summarise(folder)["steps"]] == [0, 0]


def test_clients_that_misbehave_are_apart_from_those_that_do_not(server: Server, corpus: Corpus) -> None:
    folder = run_load(server.url, [LoadSpec(streams=6, seconds=1, vanishing=0.5, seed=3)], corpus, quiet)
    [step] = summarise(folder)["steps"]
    assert step["outcomes"]["vanished"] >= 1
    assert step["outcomes"]["finished"] >= 1
    assert (step["errors"], step["lost_ms"]) == (0, 0)


def test_what_a_server_refuses_is_an_error(corpus: Corpus) -> None:
    with serving("--null", "--set", "limits.max_sessions=2") as small:
        folder = run_load(small.url, [LoadSpec(streams=4, seconds=1)], corpus, quiet)
    [step] = summarise(folder)["steps"]
    assert step["outcomes"] == {"finished": 2, "at_capacity": 2}
    assert step["errors"] == 2


@pytest.mark.parametrize(("hangs_up", "outcome"), [(True, "lost"), (False, "unready")])
def test_a_server_that_never_says_ready_is_not_waited_for(
    hangs_up: bool, outcome: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "READY_TIMEOUT_S", 0.2)
    audio = tmp_path / "audio.raw"
    audio.write_bytes(bytes(32_000))

    async def answer(socket: websockets.ServerConnection) -> None:
        await socket.recv()
        if not hangs_up:
            await socket.wait_closed()

    async def play() -> worker.Sink:
        async with websockets.serve(answer, "127.0.0.1", 0, subprotocols=[Subprotocol(SUBPROTOCOL)]) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            spec = LoadSpec(streams=2, seconds=1)
            job = Job(
                url=f"ws://127.0.0.1:{port}", token=None, spec=spec, streams=[0, 1], offsets=[0, 0],
                audio=str(audio), output=str(tmp_path), start_ns=perf_counter_ns(),
            )  # fmt: skip
            sink = worker.Sink()
            async with asyncio.timeout(20):
                await worker.run(job, sink)
            return sink

    sink = asyncio.run(play())
    assert [session["outcome"] for session in sink.sessions] == [outcome] * 2
    assert sink.sends == []


def test_a_stored_run_is_shown_again(server: Server, corpus: Corpus) -> None:
    folder = run_load(server.url, [LoadSpec(streams=1, seconds=1)], corpus, quiet)
    done = CliRunner().invoke(cli, ["load", "--show", str(folder), "--json"], catch_exceptions=False)
    assert json.loads(done.stdout)["run"] == folder.name
    assert find_load(str(folder)) == folder
    table = CliRunner().invoke(cli, ["load", "--show", str(folder), "--markdown"], catch_exceptions=False).stdout
    assert [line.split(" | ")[0] for line in table.splitlines()] == ["| streams", "| ---", "| 1"]


def test_errors_say_what_to_do(corpus: Corpus) -> None:
    with pytest.raises(AmiraError, match="amira serve"):
        run_load("ws://127.0.0.1:1", [LoadSpec(streams=1)], corpus, quiet)
    with pytest.raises(AmiraError, match="amira load URL"):
        find_load("no-such-run")


def test_k6_runs_the_script(tmp_path: Path) -> None:
    k6 = shutil.which("k6")
    if k6 is None:
        pytest.skip("no k6 on the PATH; it comes from its makers alone, as a program")
    wav, summary = tmp_path / "tone.wav", tmp_path / "summary.json"
    samples = (8_000 * np.sin(np.arange(12_000) / 10)).astype(np.int16)
    soundfile.write(wav, samples, 16_000, subtype="PCM_16")
    options = {"WAV": str(wav), "STREAMS": "2", "RAMP": "1s", "HOLD": "1s"}
    with serving("--null") as server:
        told = [part for name, value in {**options, "URL": server.url}.items() for part in ("-e", f"{name}={value}")]
        command = [k6, "run", "--quiet", "--no-usage-report", f"--summary-export={summary}", *told]
        done = subprocess.run(
            [*command, ROOT / "deploy" / "load" / "stream.js"], capture_output=True, text=True, timeout=90, check=False
        )
        if "unknown module: k6/websockets" in done.stderr:
            pytest.skip("this k6 is older than its module k6/websockets")
        assert done.returncode == 0, done.stdout + done.stderr  # the thresholds were kept
        sessions = server.metric('sessions_total{outcome="finished"}')
        assert server.metric("audio_seconds_total") == pytest.approx(0.75 * sessions)
    metrics = json.loads(summary.read_text("utf-8"))["metrics"]
    assert metrics["amira_finished"]["passes"] == sessions >= 2
    assert metrics["amira_finished"]["fails"] == 0
    assert "amira_errors" not in metrics
