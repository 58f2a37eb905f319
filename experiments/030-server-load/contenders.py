"""Servers under load: ours, sherpa-onnx's and the one that ours replaces, each pinned to the server's cores."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import legacy_client
import sherpa_client
from t_one import STEP_SAMPLES, export

from harness.corpus import load_corpus
from harness.load.run import run_load
from harness.load.spec import LoadSpec
from harness.load.summary import summarise
from pipelines.paths import home, models_dir

HERE = Path(__file__).parent
CHUNK_MS = STEP_SAMPLES // 16
"""Audio of a message, for every contender: what sherpa-onnx hears in a step."""
PAUSE_MS = 300
"""Of the 500 ms of silence that end a segment 200 belong to it; the legacy service is told where an utterance ends."""
START_TIMEOUT_S = 60.0
SHERPA = "sherpa-onnx-online-websocket-server"
SHERPA_BATCH = 16
"""Streams of one batch: batches of 1 took twice the time a stream, 64 no less than 16."""
MODEL = "stream-ctc-server"
ONNX_RUNTIME = ("--set", "recognizer.first.variants.acoustic=ort@fp32")
INT8 = ("--set", "recognizer.first.variants.acoustic=simd-stream@int8")
INT8_ONNX_RUNTIME = ("--set", "recognizer.first.variants.acoustic=ort@int8-balanced")
FORMS = {"FP32": "fp32", "INT8": "int8-balanced"}
"""What sherpa-onnx gets, too: `int8` is no quicker than FP32 in ONNX Runtime on a CPU without VNNI."""


@dataclass(frozen=True)
class Contender:
    """A server and how it is asked.

    Attributes:
        kind: `amira`, `sherpa` or `legacy`.
        arguments: Of its process.
    """

    kind: str
    arguments: Sequence[str] = ()
    finals: bool = False
    """Whether finals count beside partials. Its wait for a pause is not counted."""
    cores: int = 1
    """How many it may use; with as many threads it hears the streams of a batch."""


@dataclass
class Running:
    """A server that runs, and where it listens."""

    contender: Contender
    process: subprocess.Popen[str]
    port: int
    tail: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Its WebSocket address."""
        return f"ws://127.0.0.1:{self.port}"

    def step(self, streams: int, seconds: float) -> dict[str, Any]:
        """Put `streams` on it for a while; what came out: `p50`, `p99` in ms from due audio, `n`, `bad`."""
        if self.contender.kind == "amira":
            spec = LoadSpec(streams=streams, seconds=seconds, chunk_ms=CHUNK_MS, ramp_s=1.0, anywhere=True)
            folder = run_load(self.url, [spec], load_corpus("starter"), _quiet)
            [step] = summarise(folder)["steps"]
            found = dict(step["latency_ms"]["partial"])
            final = step["latency_ms"]["final"]
            if self.contender.finals and found["n"] and final["n"]:
                waited = {q: max(found[q], final[q] - PAUSE_MS) for q in ("p50", "p90", "p99")}
                found = {"n": found["n"] + final["n"], **waited}
            more = {name: step["server"][name] for name in ("cpu_cores", "batch", "partials_within_10_ms")}
            bad = step["errors"] + step["lost_ms"]
            return {"streams": streams, **found, "bad": bad, **more, "wer": step["wer"], "run": folder.name}
        client = sherpa_client if self.contender.kind == "sherpa" else legacy_client
        return {"streams": streams, **client.load(self.port, streams, seconds, CHUNK_MS)}


def _quiet(message: str) -> None:
    pass


def amira(
    *arguments: str, config: Path | None = HERE / "streaming.toml", finals: bool = False, cores: int = 1
) -> Contender:
    """Our server."""
    given = ["--config", str(config)] if config else []
    threads = ["--set", f"recognizer.first.threads={cores}"] if cores > 1 else []
    return Contender("amira", ["-m", "server", "--port", "0", *given, *arguments, *threads], finals, cores)


def sherpa(form: str, cores: int = 1) -> Contender:
    """sherpa-onnx's server with our streaming model in a form of it; see `t_one.py`."""
    return Contender("sherpa", [form], cores=cores)


def sherpa_program() -> str | None:
    """Its program, on the path or in `build/sherpa`; `None` where it is not installed."""
    return shutil.which(SHERPA, path=f"{home() / 'build' / 'sherpa' / 'bin'}:{os.environ.get('PATH', '')}")


@contextmanager
def running(contender: Contender, cores: Sequence[int]) -> Iterator[Running]:
    """A server for the time of a block, on the first of these cores, or the first few."""
    own = set(cores[: contender.cores])
    with TemporaryDirectory() as scratch:
        if contender.kind == "sherpa":
            command, port = _sherpa_command(contender, Path(scratch))
            ready = re.compile("Starting without warmup|Started|Listening")
        elif contender.kind == "legacy":
            port = sherpa_client.free_port()
            command = [sys.executable, "-m", "server.legacy", "--port", str(port)]
            ready = None
        else:
            port, command, ready = 0, [sys.executable, *contender.arguments], re.compile(r"serving on \S+:(\d+)")
        process = subprocess.Popen(
            command, cwd=home(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            preexec_fn=lambda: os.sched_setaffinity(0, own),
        )  # fmt: skip
        it = Running(contender, process, port)
        listening = threading.Event()
        thread = threading.Thread(target=_follow, args=(it, ready, listening), daemon=True)
        thread.start()
        try:
            if ready is None:
                sherpa_client.wait_for_port(port, START_TIMEOUT_S)
            elif not listening.wait(START_TIMEOUT_S):
                raise RuntimeError(f"{command} did not start: {it.tail}")
            else:
                sherpa_client.wait_for_port(it.port, START_TIMEOUT_S)
            yield it
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _follow(it: Running, ready: re.Pattern[str] | None, listening: threading.Event) -> None:
    assert it.process.stdout is not None
    for line in it.process.stdout:
        it.tail = [*it.tail[-20:], line.rstrip()]
        found = ready.search(line) if ready else None
        if found:
            it.port = it.port or int(found.group(1))
            listening.set()


def _sherpa_command(contender: Contender, scratch: Path) -> tuple[list[str], int]:
    [form] = contender.arguments
    folder = models_dir() / MODEL
    model, tokens = export(folder / f"model.{form}.onnx", folder / "tokens.txt", scratch)
    port = sherpa_client.free_port()
    program = sherpa_program()
    if program is None:
        raise RuntimeError(f"{SHERPA} is not installed")
    return [
        program, f"--port={port}", f"--tokens={tokens}", f"--t-one-ctc-model={model}",
        f"--num-work-threads={contender.cores}", "--num-io-threads=1", "--num-threads=1",
        f"--max-batch-size={SHERPA_BATCH}", "--loop-interval-ms=5",
        "--input-sample-rate=8000", "--enable-endpoint=false", f"--log-file={scratch / 'log.txt'}",
    ], port  # fmt: skip
