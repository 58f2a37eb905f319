"""Connections to a real Triton at 1, 4, 16 and 64 callers: `python experiments/020-triton-connections/measure.py`.

All cells are measured interleaved, in shuffled rounds, in one run against one server; every latency is kept in
`samples.parquet`, every call's stages of one caller in `stages.parquet`. `--report` writes `result.md` from them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import tempfile
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from itertools import pairwise
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import numpy as np
import pandas as pd

from pipelines.acoustic.sessions import open_session
from pipelines.resilience import Deadline
from pipelines.triton import repository
from pipelines.triton.connections import wire
from pipelines.triton.connections.asynchronous import AsyncClient
from pipelines.triton.connections.base import Call, Reply
from pipelines.triton.connections.shared import SharedConnection
from pipelines.triton.connections.stream import StreamConnection
from pipelines.triton.connections.unary import FreshConnection, PooledConnection
from pipelines.triton.server import ServerSpec, TritonServer

HERE = Path(__file__).parent
CALLERS = (1, 4, 16, 64)
KINDS = ("raw", "pooled", "stream", "shm", "aio", "fresh")
POOL = 16
ROUNDS = 6
CELL_S = 0.4
SAMPLES = {"small": 16, "chunk": 2_560}
"""Samples of a call's audio: a small tensor, and 160 ms."""
LIMIT = 64 << 20
TRACED = 150
BLOCKS, TURNS = 60, 16
"""Of the paired measurement: blocks, and calls of each connection in a block; the first does not count."""
STAGES = ("lease", "serialise", "send", "server in", "queue", "compute", "server out", "receive", "take")


def call_of(payload: str, request_id: str = "") -> Call:
    """A call with audio of one of the sizes."""
    pcm = np.arange(SAMPLES[payload], dtype=np.int16)[None]
    return Call("preprocessor", {"pcm": pcm}, ("waveform",), Deadline.after(30), None, request_id)


class Raw:
    """A client of the package, opened once and used without anything of ours around it."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.client = wire.open_client(url, LIMIT)

    def infer(self, call: Call) -> Reply:
        """Make a call."""
        reply = Reply()
        wire.infer(self.client, self._url, call, reply)
        return reply


def connection(kind: str, url: str, callers: int) -> AbstractContextManager[Any]:
    """A connection of a kind for so many callers."""
    size = min(callers, POOL)
    if kind == "raw":
        return nullcontext(Raw(url))
    if kind == "fresh":
        return FreshConnection(url, LIMIT)
    if kind == "shm":
        return SharedConnection(url, LIMIT, size, size, region_bytes=1 << 20)
    return {"pooled": PooledConnection, "stream": StreamConnection}[kind](url, LIMIT, size, size)


def threads(infer: Callable[[Call], Any], payload: str, callers: int) -> tuple[list[int], int]:
    """Latencies of calls that threads make without a pause, and how long it went on, in ns."""
    latencies: list[int] = []
    begin = threading.Barrier(callers)
    infer(call_of(payload))
    end_ns = 0

    def caller() -> None:
        nonlocal end_ns
        begin.wait()
        stop_ns = perf_counter_ns() + round(CELL_S * 1e9)
        while (start_ns := perf_counter_ns()) < stop_ns:
            infer(call_of(payload))
            latencies.append(perf_counter_ns() - start_ns)

    workers = [threading.Thread(target=caller) for _ in range(callers)]
    start_ns = perf_counter_ns()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return latencies, perf_counter_ns() - start_ns


async def tasks(url: str, payload: str, callers: int) -> tuple[list[int], int]:
    """The same with asyncio tasks on one loop."""
    latencies: list[int] = []
    async with AsyncClient(url, LIMIT) as client:
        await client.infer(call_of(payload))

        async def caller() -> None:
            stop_ns = perf_counter_ns() + round(CELL_S * 1e9)
            while (start_ns := perf_counter_ns()) < stop_ns:
                await client.infer(call_of(payload))
                latencies.append(perf_counter_ns() - start_ns)

        start_ns = perf_counter_ns()
        await asyncio.gather(*(caller() for _ in range(callers)))
        return latencies, perf_counter_ns() - start_ns


def measure() -> None:
    """Measure all cells in rounds and keep every sample."""
    cells = [(kind, callers, "chunk") for kind in KINDS for callers in CALLERS]
    rng, frames, rates = random.Random(0), [], []
    with (
        tempfile.TemporaryDirectory() as folder,
        TritonServer(ServerSpec(repository.served(), ("preprocessor",), trace=Path(folder) / "trace")) as server,
    ):
        for number in range(ROUNDS):
            rng.shuffle(cells)
            for kind, callers, payload in cells:
                if kind == "aio":
                    latencies, took_ns = asyncio.run(tasks(server.url, payload, callers))
                else:
                    with connection(kind, server.url, callers) as it:
                        latencies, took_ns = threads(it.infer, payload, callers)
                cell = {"round": number, "kind": kind, "callers": callers, "payload": payload}
                frames.append(pd.DataFrame({**cell, "latency_ns": latencies}))
                rates.append({**cell, "calls_per_s": len(latencies) / (took_ns / 1e9)})
            print(f"round {number + 1} of {ROUNDS}", flush=True)
        pd.concat(frames).to_parquet(HERE / "samples.parquet", compression="zstd")
        pd.DataFrame(rates).to_json(HERE / "rates.jsonl", orient="records", lines=True)
        paired(server.url).to_parquet(HERE / "paired.parquet", compression="zstd")
        pd.DataFrame(traced(server, Path(folder))).to_parquet(HERE / "stages.parquet", compression="zstd")


def paired(url: str) -> pd.DataFrame:
    """One caller: all connections open at once, each in its turn for a few calls, in shuffled blocks.

    What else the machine does then falls on all of them alike.
    """
    rng, rows = random.Random(1), []
    session = open_session(repository.served() / "preprocessor" / "1" / "model.onnx", 1)
    kinds = [kind for kind in KINDS if kind != "aio"]
    with ExitStack() as stack:
        ways = {kind: stack.enter_context(connection(kind, url, 1)).infer for kind in kinds}
        ways["in process"] = lambda call: session.run(["waveform"], {"pcm": call.inputs["pcm"]})
        names = list(ways)
        for block in range(BLOCKS):
            for payload in SAMPLES:
                rng.shuffle(names)
                for name in names:
                    for turn in range(TURNS):
                        call = call_of(payload)
                        start_ns = perf_counter_ns()
                        ways[name](call)
                        took_ns = perf_counter_ns() - start_ns
                        if turn:  # the first finds the caches of the one before
                            rows.append((block, name, payload, took_ns))
    return pd.DataFrame(rows, columns=["block", "kind", "payload", "latency_ns"])


def traced(server: TritonServer, folder: Path) -> list[dict[str, Any]]:
    """One caller's calls of 160 ms: the client's marks joined with the server's own timestamps, call by call.

    Both are of the same clock (CLOCK_MONOTONIC), on one machine.
    """
    client = wire.open_client(server.url, LIMIT)
    marks: dict[str, dict[str, int]] = {}
    for kind in ("pooled", "stream", "shm", "fresh"):
        with connection(kind, server.url, 1) as it:
            for _ in range(20):
                it.infer(call_of("chunk"))
            settings = {"trace_level": ["TIMESTAMPS"], "trace_rate": "1", "trace_count": "-1", "log_frequency": "50"}
            client.update_trace_settings(settings=settings)
            for number in range(TRACED):
                name = f"{kind} {number}"
                marks[name] = it.infer(call_of("chunk", name)).marks_ns
            client.update_trace_settings(settings={"trace_level": ["OFF"]})
    client.close()
    return joined(folder, marks)


def joined(folder: Path, marks: dict[str, dict[str, int]]) -> list[dict[str, Any]]:
    """The stages of every call that both sides know."""
    names: dict[int, str] = {}
    times: dict[int, dict[str, int]] = {}
    for path in folder.glob("trace*"):
        for entry in json.loads(path.read_text("utf-8")):
            if "request_id" in entry:
                names[entry["id"]] = entry["request_id"]
            for stamp in entry.get("timestamps", ()):
                times.setdefault(entry["id"], {})[stamp["name"]] = stamp["ns"]
    rows = []
    for number, name in names.items():
        there, here = times[number], marks.get(name)
        if here is None or "COMPUTE_END" not in there or "QUEUE_START" not in there:
            continue
        read, sent = there.get("GRPC_WAITREAD_END", there["REQUEST_START"]), there["INFER_RESPONSE_COMPLETE"]
        points = (
            *(here[mark] for mark in ("start", "leased", "serialised")),
            *(read, there["QUEUE_START"], there["COMPUTE_START"], there["COMPUTE_OUTPUT_START"], sent),
            *(here["received"], here["end"]),
        )
        spans = (later - sooner for sooner, later in pairwise(points))
        rows.append({"kind": name.split()[0], **dict(zip(STAGES, spans, strict=True))})
    return rows


def blocks(frame: pd.DataFrame, payload: str) -> pd.DataFrame:
    """The median of every block, by connection, in microseconds."""
    part = frame[frame.payload == payload]
    return part.groupby(["block", "kind"]).latency_ns.median().unstack() / 1e3


def middle(values: np.ndarray, digits: int) -> str:
    """The median of blocks with its 95 % bootstrap interval."""
    rng = np.random.default_rng(0)
    draws = np.median(rng.choice(values, (4_000, len(values))), axis=1)
    low, high = np.percentile(draws, [2.5, 97.5])
    return f"{np.median(values):.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def interval(logs: np.ndarray) -> str:
    """A ratio with its 95 % interval from log-ratios of rounds."""
    from scipy import stats

    half = stats.t.ppf(0.975, len(logs) - 1) * logs.std(ddof=1) / np.sqrt(len(logs))
    low, middle, high = np.exp([logs.mean() - half, logs.mean(), logs.mean() + half])
    return f"{middle:.2f} [{low:.2f}, {high:.2f}]"


def document() -> str:
    """`result.md`, from the stored samples."""
    frame = pd.read_parquet(HERE / "samples.parquet")
    rates = pd.read_json(HERE / "rates.jsonl", lines=True)
    stages = pd.read_parquet(HERE / "stages.parquet")
    lines = ["# Connections to a real Triton", "", "Made by `measure.py --report` from the samples beside it.", ""]
    lines += ["Latency in ms of a call with 160 ms of audio, by callers: median / p90 / p99, and calls a second.", ""]
    lines += ["| connection | " + " | ".join(f"{n} callers" for n in CALLERS) + " |", "|---" * 5 + "|"]
    for kind in KINDS:
        cells = []
        for callers in CALLERS:
            part = frame[(frame.kind == kind) & (frame.callers == callers) & (frame.payload == "chunk")]
            found = np.percentile(part.latency_ns, [50, 90, 99]) / 1e6
            rate = rates[(rates.kind == kind) & (rates.callers == callers) & (rates.payload == "chunk")]
            cells.append(" / ".join(f"{x:.2f}" for x in found) + f", {rate.calls_per_s.median():.0f}/s")
        lines.append(f"| {kind} | " + " | ".join(cells) + " |")
    wide = rates[rates.callers == 64].pivot_table(index="round", columns="kind", values="calls_per_s")
    best = interval(np.log(wide.aio / wide.pooled).to_numpy())
    lines += ["", "One caller, all connections in turn, block by block; at 64 callers round by round:", ""]
    lines += ["| question | answer, 95 % interval |", "|---|---|"]
    pairs = pd.read_parquet(HERE / "paired.parquet")
    for payload in SAMPLES:
        us = blocks(pairs, payload)
        lines.append(
            f"| pooled against fresh, {payload}, times as fast | {middle((us.fresh / us.pooled).to_numpy(), 2)} |"
        )
    us = blocks(pairs, "small")
    lines.append(f"| pool over a raw reused client, small, us | {middle((us.pooled - us.raw).to_numpy(), 0)} |")
    us = blocks(pairs, "chunk")
    for kind in ("stream", "shm", "pooled"):
        hop = middle((us[kind] - us["in process"]).to_numpy(), 0)
        lines.append(f"| whole hop over in-process, {kind}, 160 ms, us | {hop} |")
    lines.append(f"| aio's rate against pooled threads' at 64 callers | {best} |")
    lines += ["", "Where one caller's call goes, medians in us (client marks joined with Triton's timestamps):", ""]
    names = [name for name in STAGES if name in stages]
    lines += ["| connection | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for kind, part in stages.groupby("kind"):
        lines.append(f"| {kind} | " + " | ".join(f"{part[name].median() / 1e3:.0f}" for name in names) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--report", action="store_true", help="only write result.md from the stored samples")
    if not parser.parse_args().report:
        measure()
    (HERE / "result.md").write_text(document(), "utf-8")
    print(document())
