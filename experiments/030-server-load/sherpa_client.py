"""Real-time streams at sherpa-onnx's WebSocket server: float32 samples out, one JSON answer a step back."""

from __future__ import annotations

import asyncio
import random
import socket
from contextlib import closing, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, perf_counter_ns, sleep
from typing import Any

import numpy as np
import websockets
from t_one import PADDED_SAMPLES, STEP_SAMPLES

from harness.corpus import load_corpus
from harness.load.speech import write_speech

END_TIMEOUT_S = 20.0


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(port: int, seconds: float) -> None:
    """Wait until somebody listens."""
    end = monotonic() + seconds
    while True:
        with closing(socket.socket()) as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if monotonic() > end:
            raise RuntimeError(f"nobody listens on port {port}")
        sleep(0.05)


def speech(seconds: float) -> tuple[np.ndarray, list[int]]:
    """The audio of a load as `amira load` makes it, and where its utterances start."""
    with TemporaryDirectory() as scratch:
        path = Path(scratch) / "speech.raw"
        spoken = write_speech(load_corpus("starter"), path, max(60.0, seconds), 0)
        return np.fromfile(path, "<i2"), [each.start for each in spoken]


def load(port: int, streams: int, seconds: float, chunk_ms: int) -> dict[str, Any]:
    """Put streams on the server.

    A step's latency runs from the audio that made the server take it: it wants the first sample of the step behind,
    and that wait of a whole message is not held against it. `p99_from_need` has it in.
    """
    return asyncio.run(_load(port, streams, seconds, chunk_ms))


async def _load(port: int, streams: int, seconds: float, chunk_ms: int) -> dict[str, Any]:
    audio, starts = speech(seconds)
    chance = random.Random(0)
    url = f"ws://127.0.0.1:{port}"
    behind = await _steps_behind(url)
    start_ns = perf_counter_ns() + 500_000_000
    chunks = round(seconds * 1_000 / chunk_ms)
    tasks = [
        _stream(url, audio, chance.choice(starts), start_ns + number * 1_000_000_000 // streams, chunk_ms, chunks)
        for number in range(streams)
    ]
    rows = await asyncio.gather(*tasks)
    waited = np.array([at - due[min(k + behind, len(due) - 1)] for due, got in rows for k, at in enumerate(got)]) / 1e6
    needed = np.array([at - due[min(k, len(due) - 1)] for due, got in rows for k, at in enumerate(got)]) / 1e6
    missing = sum(max(0, chunks - behind - len(got)) for _, got in rows)
    p50, p90, p99 = np.percentile(waited, [50, 90, 99]) if len(waited) else [float("nan")] * 3
    return {
        "n": len(waited), "p50": float(p50), "p90": float(p90), "p99": float(p99), "bad": missing,
        "p99_from_need": float(np.percentile(needed, 99)) if len(needed) else None, "steps_behind": behind,
    }  # fmt: skip


async def _steps_behind(url: str) -> int:
    """How many messages behind its own a step is answered: asked of a server that has nothing else to do."""
    async with websockets.connect(url, compression=None, max_size=None) as connection:
        sent = 3
        for _ in range(sent):
            await connection.send(np.zeros(PADDED_SAMPLES, np.float32).tobytes())
        answers = 0
        try:
            while True:
                await asyncio.wait_for(connection.recv(), 1.0)
                answers += 1
        except TimeoutError:
            return sent - answers


async def _stream(
    url: str, audio: np.ndarray, offset: int, start_ns: int, chunk_ms: int, chunks: int
) -> tuple[list[int], list[int]]:
    due = [start_ns + (k + 1) * chunk_ms * 1_000_000 for k in range(chunks)]
    got: list[int] = []
    async with websockets.connect(url, compression=None, max_size=None, open_timeout=60) as connection:

        async def hear() -> None:
            try:
                async for answer in connection:
                    if answer == "Done!":
                        return
                    got.append(perf_counter_ns())
            except websockets.ConnectionClosed:
                return

        hearing = asyncio.create_task(hear())
        message = np.zeros(PADDED_SAMPLES, np.float32)
        for k in range(chunks):
            wait_ns = due[k] - perf_counter_ns()
            if wait_ns > 0:
                await asyncio.sleep(wait_ns / 1e9)
            at = (offset + k * STEP_SAMPLES) % len(audio)
            part = np.take(audio, range(at, at + STEP_SAMPLES), mode="wrap")
            message[:STEP_SAMPLES] = part * np.float32(1 / 32_768)
            try:
                await connection.send(message.tobytes())
            except websockets.ConnectionClosed:
                break  # the steps that it owes are missing
        with suppress(TimeoutError):
            await asyncio.wait_for(_counted(got, chunks), END_TIMEOUT_S)
        hearing.cancel()
    return due, got[:chunks]


async def _counted(got: list[int], chunks: int) -> None:
    while len(got) < chunks - 1:
        await asyncio.sleep(0.02)
