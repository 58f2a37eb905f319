"""Connections to a real Triton: `python experiments/020-triton-connections/measure.py`, some eight minutes.

Everything is measured in turns against one server in one run, and every sample is kept beside this file. `--scale 0.1`
makes it short, to see that it runs. `--report` only writes `result.md` again. `--profile` records where the client's
processor time goes, with py-spy, while it calls through the pool.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import numpy as np
import pandas as pd
import settings
from report import HUGE, ONE_CORE, document
from stages import cpu, traced
from ways import LIMIT, SAMPLES, STREAMING, Urls, call_of, connection, one_caller, one_core, streaming

from pipelines.pages import collapse_all
from pipelines.resilience import Deadline
from pipelines.triton import repository
from pipelines.triton.connections.asynchronous import AsyncClient
from pipelines.triton.connections.pool import Pool
from pipelines.triton.server import ServerSpec, TritonServer

HERE = Path(__file__).parent
CALLERS = (1, 4, 16, 64)
KINDS = ("raw", "pooled", "stream", "shm", "http", "aio", "fresh")
POOL = 16
CELL_S = 0.4
ROUNDS, BLOCKS, CHUNK_BLOCKS, LEASES = 10, 120, 60, 200
"""Rounds of all cells, blocks of the two paired measurements, samples of the pool alone."""
PROCESS_ROUNDS = 8
PACED_BLOCKS, PAUSE_S = 16, 0.05
"""Of the streaming model with a pause before each call; how long it is does not matter."""
TURNS, CHUNK_TURNS = 16, 5
"""Calls of each way in a block; the first does not count: it finds the caches of the one before."""
COLD_BLOCKS, COLD = 40, 6 << 20
"""Of calls after 48 MB were read: numbers of 8 bytes."""
PER_SAMPLE = 500
PROFILE_S = 10


def threads(infer: Callable[[Any], Any], callers: int) -> tuple[list[int], int]:
    """Latencies of calls that threads make without a pause, and how long it went on, in ns."""
    latencies: list[int] = []
    begin = threading.Barrier(callers)
    infer(call_of("chunk"))

    def caller() -> None:
        begin.wait()
        stop_ns = perf_counter_ns() + round(CELL_S * 1e9)
        while (start_ns := perf_counter_ns()) < stop_ns:
            infer(call_of("chunk"))
            latencies.append(perf_counter_ns() - start_ns)

    workers = [threading.Thread(target=caller) for _ in range(callers)]
    start_ns = perf_counter_ns()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return latencies, perf_counter_ns() - start_ns


async def tasks(url: str, callers: int) -> tuple[list[int], int]:
    """The same with asyncio tasks on one loop."""
    latencies: list[int] = []
    async with AsyncClient(url, LIMIT) as client:
        await client.infer(call_of("chunk"))

        async def caller() -> None:
            stop_ns = perf_counter_ns() + round(CELL_S * 1e9)
            while (start_ns := perf_counter_ns()) < stop_ns:
                await client.infer(call_of("chunk"))
                latencies.append(perf_counter_ns() - start_ns)

        start_ns = perf_counter_ns()
        await asyncio.gather(*(caller() for _ in range(callers)))
        return latencies, perf_counter_ns() - start_ns


def loaded(urls: Urls, rounds: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Every connection at every number of callers, in shuffled rounds: latencies, and calls a second."""
    cells = [(kind, callers) for kind in KINDS for callers in CALLERS]
    rng, frames, rates = random.Random(0), [], []
    for number in range(rounds):
        rng.shuffle(cells)
        for kind, callers in cells:
            if kind == "aio":
                latencies, took_ns = asyncio.run(tasks(urls.grpc, callers))
            else:
                with connection(kind, urls, min(callers, POOL)) as it:
                    latencies, took_ns = threads(it.infer, callers)
            cell = {"round": number, "kind": kind, "callers": callers}
            frames.append(pd.DataFrame({**cell, "latency_ns": latencies}))
            rates.append({**cell, "calls_per_s": len(latencies) / (took_ns / 1e9)})
        print(f"round {number + 1} of {rounds}", flush=True)
    return pd.concat(frames), pd.DataFrame(rates)


def in_turns(
    ways: Mapping[str, Callable[[], Any]],
    blocks: int,
    turns: int,
    pause_s: float = 0.0,
    before: Callable[[], Any] = int,
    **more: str,
) -> pd.DataFrame:
    """One caller: each way in its turn for a few calls, in shuffled blocks, so that all meet the same machine.

    With a pause, every call of every way comes after one, as chunks of speech do; without, straight after the last.
    `before` is called before each call and not timed.
    """
    rng, rows, names = random.Random(1), [], list(ways)
    for block in range(blocks):
        rng.shuffle(names)
        for name in names:
            for turn in range(turns):
                if pause_s:
                    time.sleep(pause_s)
                before()
                start_ns = perf_counter_ns()
                ways[name]()
                if turn:
                    rows.append((block, name, perf_counter_ns() - start_ns))
    return pd.DataFrame(rows, columns=["block", "kind", "latency_ns"]).assign(**more)


def pool_alone(samples: int) -> pd.DataFrame:
    """Nanoseconds of a lease of nothing and its return, each the mean of many; deadline and call made beforehand."""
    pool: Pool[int] = Pool(lambda: 1, lambda one: None, lambda one, within_s: True, size=1)
    deadline, rows = Deadline.after(600), []
    for _ in range(samples):
        start_ns = perf_counter_ns()
        for _ in range(PER_SAMPLE):
            with pool.lease(deadline):
                pass
        rows.append((perf_counter_ns() - start_ns) / PER_SAMPLE)
    return pd.DataFrame({"lease_ns": rows})


def measure(scale: float) -> None:
    """Measure everything and keep every sample."""

    def times(count: int) -> int:
        return max(2, round(count * scale))

    with (
        tempfile.TemporaryDirectory() as folder,
        TritonServer(ServerSpec(repository.served(), ("preprocessor",), trace=Path(folder) / "trace")) as server,
    ):
        samples, rates = loaded(Urls.of(server), times(ROUNDS))
        keep(samples, "samples")
        keep(rates, "rates")
        frames = alone(server, times, "")
        keep(in_turns(settings.channels(server.url), times(BLOCKS), TURNS), "channels")
        keep(settings.processes(server.url, times(PROCESS_ROUNDS)), "processes")
        keep(pool_alone(times(LEASES)), "pool")
        keep(cpu(server, times(2_000)), "cpu")
        keep(pd.DataFrame(traced(server, Path(folder), times(300))), "stages")
    with one_core(), TritonServer(ServerSpec(repository.served(), ("preprocessor",))) as server:
        frames += alone(server, times, ONE_CORE)
    for pages in ("", HUGE):  # in this order: there is no way back
        for where, place in (("model", nullcontext()), ("model, one core", one_core())):
            with place, TritonServer(ServerSpec(repository.served(), (STREAMING,))) as server:
                frames += hops(server, times(CHUNK_BLOCKS), times(PACED_BLOCKS), where, pages)
    keep(pd.concat(frames), "paired")


def alone(server: TritonServer, times: Callable[[int], int], where: str) -> list[pd.DataFrame]:
    """Calls of the preprocessor by one caller, of each size; of the larger one also after much memory was read."""
    frames = []
    with one_caller(Urls.of(server)) as ways:
        for payload in SAMPLES:
            bound = {name: lambda way=way, payload=payload: way(call_of(payload)) for name, way in ways.items()}
            frames.append(in_turns(bound, times(BLOCKS), TURNS, payload=payload + where))
            print(f"one caller, {payload}{where}: done", flush=True)
        read = np.ones(COLD).sum
        frames.append(in_turns(bound, times(COLD_BLOCKS), CHUNK_TURNS, before=read, payload=f"chunk{where}, cold"))
    return frames


def hops(server: TritonServer, blocks: int, paced: int, where: str, pages: str) -> list[pd.DataFrame]:
    """Steps of the streaming model, one after the other and with a pause before each."""
    with streaming(Urls.of(server)) as steps:
        if pages == HUGE:
            collapse_all()
        return [
            in_turns(steps, blocks, CHUNK_TURNS, payload=f"{where}{pages}"),
            in_turns(steps, paced, CHUNK_TURNS, PAUSE_S, payload=f"{where}, paced{pages}"),
        ]


def keep(frame: pd.DataFrame, name: str) -> None:
    """Store samples."""
    frame.to_parquet(HERE / f"{name}.parquet", compression="zstd")


def profile() -> None:
    """Record the processor time of a process that calls through the pool: `profile.svg`, and the stacks as text."""
    spy = shutil.which("py-spy", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if spy is None:
        sys.exit("py-spy is not installed. Install it: pip install 'amira-asr[profile]'")
    with TritonServer(ServerSpec(repository.served(), ("preprocessor",))) as server:
        for kind, name in (("flamegraph", "profile.svg"), ("raw", "profile.folded")):
            this = [sys.executable, __file__, "--calls", server.url]
            options = ["--native", "--rate", "500", "--duration", str(PROFILE_S), "--format", kind]
            caller = subprocess.Popen(this, stdout=subprocess.PIPE)
            assert caller.stdout is not None
            try:
                caller.stdout.readline()  # its imports are not what is asked about
                subprocess.run([spy, "record", *options, "-o", HERE / name, "-p", str(caller.pid)], check=True)
            finally:
                caller.kill()
                caller.wait()
            # Neither where this checkout lies nor where its code was loaded says anything.
            text = (HERE / name).read_text("utf-8").replace(f"{spy} ", "py-spy ").replace(f"{HERE}/", "")
            text = re.sub(r"0x[0-9a-f]{6,} \((.*?)\)", r"\1", text)
            (HERE / name).write_text(merged(text) if kind == "raw" else text, "utf-8")


def merged(folded: str) -> str:
    """The same stacks added up, most samples first: without addresses many are the same."""
    counted: Counter[str] = Counter()
    for line in folded.splitlines():
        stack, _, count = line.rpartition(" ")
        counted[stack] += int(count)
    return "".join(f"{stack} {count}\n" for stack, count in counted.most_common())


def calls(url: str) -> None:
    """Call through the pool until the process is ended."""
    with connection("pooled", Urls(url), 1) as it:
        it.infer(call_of("chunk"))
        print("ready", flush=True)
        while True:
            it.infer(call_of("chunk"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="how much is measured; 1 takes some eight minutes")
    parser.add_argument("--report", action="store_true", help="only write result.md from the stored samples")
    parser.add_argument("--profile", action="store_true", help="record a profile of the client with py-spy")
    parser.add_argument("--calls", metavar="URL", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.calls:
        calls(chosen.calls)
    elif chosen.profile:
        profile()
    elif not chosen.report:
        measure(chosen.scale)
    (HERE / "result.md").write_text(document(), "utf-8")
    print(document())
