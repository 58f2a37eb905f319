"""Dynamic batching of `moonshine-ctc`: batch size, queue delay and instances against latency and throughput.

`python experiments/021-triton-batching/measure.py` measures every setting in shuffled rounds, each on a server of its
own with that setting in its `config.pbtxt`; `--report` writes `result.md` from the stored samples and names the knee.
"""

from __future__ import annotations

import argparse
import random
import re
import shutil
import tempfile
import threading
from pathlib import Path
from time import perf_counter_ns

import numpy as np
import pandas as pd

from pipelines.resilience import Deadline
from pipelines.triton import repository
from pipelines.triton.connections.base import Call
from pipelines.triton.connections.unary import PooledConnection
from pipelines.triton.server import ServerSpec, TritonServer

HERE = Path(__file__).parent
MODEL = "moonshine-ctc"
SETTINGS = (
    *((1, 0, 1, False), (1, 0, 2, False), (4, 0, 1, False), (4, 5_000, 1, False), (4, 0, 2, False)),
    *((8, 0, 1, False), (8, 5_000, 1, False), (8, 20_000, 1, False), (8, 0, 2, False)),
    *((4, 0, 1, True), (4, 0, 2, True)),
)
"""Largest batch, queue delay in microseconds, instances, whether the queue has a policy (a bound, a time-out)."""
POLICY = "default_queue_policy { max_queue_size: 64 allow_timeout_override: true }"
STALL_S = 0.4
"""A call that takes so much longer than its cell's median has lain somewhere."""
CALLERS = (1, 4, 8, 16)
ROUNDS = 5
CELL_S = 0.6
SAMPLES = 8_000
"""Half a second of audio: every call of the same length, since only those share a batch."""


def configured(folder: Path, batch: int, delay_us: int, instances: int, policy: bool) -> Path:
    """A repository with the model under one setting."""
    target = folder / f"{batch}-{delay_us}-{instances}-{policy}"
    shutil.copytree(repository.served() / MODEL, target / MODEL, ignore=shutil.ignore_patterns("*.safetensors"))
    path = target / MODEL / "config.pbtxt"
    text = re.sub(r"max_batch_size: \d+", f"max_batch_size: {batch}", path.read_text("utf-8"))
    batching = f"dynamic_batching {{ max_queue_delay_microseconds: {delay_us} {POLICY if policy else ''} }}"
    text = re.sub(r"dynamic_batching \{.*?\n\}", batching, text, flags=re.DOTALL)
    path.write_text(re.sub(r"count: \d+", f"count: {instances}", text), "utf-8")
    return target


def load(connection: PooledConnection, callers: int) -> tuple[list[int], float]:
    """Latencies in ns of calls that threads make without a pause, and calls a second."""
    latencies: list[int] = []
    begin = threading.Barrier(callers + 1)
    wave = (np.random.default_rng(0).standard_normal((1, SAMPLES)) * 0.05).astype(np.float32)
    inputs = {"samples": wave, "lengths": np.array([[SAMPLES]])}

    def caller() -> None:
        begin.wait()
        stop_ns = perf_counter_ns() + round(CELL_S * 1e9)
        while (start_ns := perf_counter_ns()) < stop_ns:
            connection.infer(Call(MODEL, inputs, ("log_probs",), Deadline.after(60)))
            latencies.append(perf_counter_ns() - start_ns)

    threads = [threading.Thread(target=caller) for _ in range(callers)]
    for thread in threads:
        thread.start()
    begin.wait()
    start_ns = perf_counter_ns()
    for thread in threads:
        thread.join()
    return latencies, len(latencies) / ((perf_counter_ns() - start_ns) / 1e9)


def measure(rounds: int) -> None:
    """Measure every setting at every number of callers and keep all samples."""
    frames, rng, settings = [], random.Random(0), list(SETTINGS)
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds):
            rng.shuffle(settings)
            for batch, delay_us, instances, policy in settings:
                target = configured(Path(folder) / str(number), batch, delay_us, instances, policy)
                with (
                    TritonServer(ServerSpec(target, (MODEL,))) as server,
                    PooledConnection(server.url, 64 << 20, size=max(CALLERS), warm=max(CALLERS)) as connection,
                ):
                    load(connection, 2)
                    for callers in CALLERS:
                        latencies, rate = load(connection, callers)
                        setting = {"batch": batch, "delay_us": delay_us, "instances": instances, "policy": policy}
                        cell = {"round": number, **setting, "callers": callers, "calls_per_s": rate}
                        frames.append(pd.DataFrame({**cell, "latency_ns": latencies}))
            print(f"round {number + 1} of {rounds}", flush=True)
    pd.concat(frames).to_parquet(HERE / "samples.parquet", compression="zstd")


def document() -> str:
    """`result.md`: the table, and the knee.

    The knee is the setting with the best rate over its latency at its best number of callers (Kleinrock's power:
    throughput divided by response time), over all settings.
    """
    frame = pd.read_parquet(HERE / "samples.parquet")
    keys = ["batch", "delay_us", "instances", "policy"]
    cells = frame.groupby([*keys, "callers"]).agg(
        rate=("calls_per_s", "median"), p50=("latency_ns", "median"), p99=("latency_ns", lambda x: x.quantile(0.99))
    )
    cells["power"] = cells.rate / (cells.p50 / 1e9)
    lines = ["# Dynamic batching of moonshine-ctc", "", "Made by `measure.py --report` from `samples.parquet`: half a"]
    lines[-1] += " second of audio a call, calls a second and latency in ms (median / p99), by callers."
    lines += [
        "",
        "| batch, delay us, instances, queue policy | calls that lay | " + " | ".join(map(str, CALLERS)) + " |",
        "|---" * (2 + len(CALLERS)) + "|",
    ]
    for setting, part in cells.groupby(level=keys):
        row = [f"{r.rate:.0f}/s, {r.p50 / 1e6:.0f} / {r.p99 / 1e6:.0f}" for r in part.itertuples()]
        mine = frame[(frame[keys] == list(setting)).all(axis=1)]
        medians = mine.groupby("callers").latency_ns.transform("median")
        lay = (mine.latency_ns - medians > STALL_S * 1e9).mean()
        name = ", ".join(map(str, setting[:3])) + (", yes" if setting[3] else ", no")
        lines.append(f"| {name} | {lay:.1%} | " + " | ".join(row) + " |")
    batch, delay_us, instances, policy, callers = cells.power.idxmax()
    lines += ["", f"Calls that lay took {STALL_S:g} s longer than the median of their cell."]
    knee = f"batch {batch}, delay {delay_us} us, {instances} instance(s), {'a' if policy else 'no'} queue policy"
    lines += ["", f"Knee: {knee}, at {callers} callers."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--report", action="store_true", help="only write result.md from the stored samples")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="rounds of all settings, a minute each")
    chosen = parser.parse_args()
    if not chosen.report:
        measure(chosen.rounds)
    (HERE / "result.md").write_text(document(), "utf-8")
    print(document())
