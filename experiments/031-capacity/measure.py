"""Does the capacity model tell what a running server does? Predicted from measured rounds, beside an open-loop run.

    python experiments/031-capacity/measure.py            # three minutes; writes result.json and the README's table
    python experiments/031-capacity/measure.py --show     # writes the table of result.json anew

First rounds of several sizes are timed. Then, for each load, chunks of real streams arrive at their times, whatever the
server does, and a loop hears what has arrived, all of it in one batch; a latency runs from a chunk's due time to the
end of its round. Rounds are timed again right before each load, so that a prediction is of the same minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from harness.capacity import WARM_UP, Rounds, round_latency, simulate_rounds
from harness.documents import filled_in
from harness.fingerprint import fingerprint
from pipelines import registry
from pipelines.contracts import AudioBatch
from pipelines.paths import models_dir
from pipelines.registry import Context

RESULT = Path(__file__).with_name("result.json")
README = Path(__file__).with_name("README.md")
MODEL = "stream-ctc-server"
ACOUSTIC = "simd-stream@int8"
SIZES = (1, 2, 4, 8, 16)
LOADS = (0.2, 0.35, 0.5)
QUANTILES = (0.5, 0.99)
PAUSE_S = 0.01
STAY = 12
"""Chunks that a stream sends before its place in the period changes."""


def main() -> None:
    """Measure, or show what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--show", action="store_true", help="measure nothing: write the stored result's table")
    parser.add_argument("--seconds", type=float, default=40, help="of each load")
    parser.add_argument("--out", type=Path, default=RESULT, help="where the result goes, or is read from")
    arguments = parser.parse_args()
    if not arguments.show:
        arguments.out.write_text(json.dumps(measure(arguments.seconds)) + "\n", "utf-8")
    tables = all_tables(json.loads(arguments.out.read_text("utf-8")))
    print(*tables.values(), sep="\n\n")
    if arguments.out == RESULT:
        README.write_text(filled_in(README.read_text("utf-8"), tables), "utf-8")


def measure(seconds: float) -> dict[str, Any]:
    """The rounds, and for each load what was predicted, simulated and measured."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-1:])
    with ExitStack() as stack:
        context = Context(models_dir(), MODEL, 1, {})
        for axis, name in (("memory", "pooled"), ("kernel", "numpy")):
            context.parts[axis] = stack.enter_context(registry.get(f"{axis}/{name}").open(context))
        model = stack.enter_context(registry.get(f"acoustic/{ACOUSTIC}").open(context))
        model.warm_up()
        period_s = model.chunk_samples / 16_000
        loads = []
        for load in LOADS:
            times = _rounds(model)
            rounds = Rounds.fitted(SIZES, times)
            streams = max(int(load * period_s / rounds.chunk_s), 1)
            latencies = _run(model, streams, period_s, seconds)
            loads.append(
                {
                    "load": load,
                    "streams": streams,
                    "fixed_s": rounds.fixed_s,
                    "chunk_s": rounds.chunk_s,
                    "spread": rounds.spread,
                    "predicted_s": [round_latency(rounds, streams, period_s, q) for q in QUANTILES],
                    "simulated_s": np.quantile(simulate_rounds(rounds, streams, period_s, 20_000), QUANTILES).tolist(),
                    "measured_s": np.quantile(latencies, QUANTILES).tolist(),
                    "chunks": latencies.size,
                }
            )
    print_ = fingerprint(models_dir(), [MODEL])
    return {"fingerprint": print_, "model": MODEL, "acoustic": ACOUSTIC, "period_s": period_s, "quantiles": QUANTILES,
            "loads": loads}  # fmt: skip


def _batch(model: Any, count: int) -> AudioBatch:
    rng = np.random.default_rng(0)
    samples = (0.1 * rng.standard_normal((count, model.chunk_samples))).astype(np.float32)
    return AudioBatch(samples, np.full(count, model.chunk_samples))


def _rounds(model: Any) -> list[list[float]]:
    """Seconds of rounds of each size, interleaved, each after a pause: as most of a server that is not full."""
    states = [model.open() for _ in range(max(SIZES))]
    times: list[list[float]] = [[] for _ in SIZES]
    for _ in range(40):
        for size, row in zip(SIZES, times, strict=True):
            batch = _batch(model, size)
            time.sleep(PAUSE_S)
            started = time.perf_counter()
            model.infer_chunk(states[:size], batch)
            row.append(time.perf_counter() - started)
    return [row[5:] for row in times]


def _run(model: Any, streams: int, period_s: float, seconds: float) -> np.ndarray:
    """Latencies of chunks that arrive when they are due: one of each stream a period, somewhere in it.

    Where in the period changes every few seconds, as it does where sessions come and go: a latency at one choice of
    places says little about another.
    """
    rng = np.random.default_rng(1)
    states = [model.open() for _ in range(streams)]
    sends = max(int(seconds / period_s), 4)
    places = np.repeat(rng.uniform(0, period_s, (sends // STAY + 1, streams)), STAY, axis=0)[:sends]
    due = (places + np.arange(sends)[:, None] * period_s).ravel()
    owner = np.tile(np.arange(streams), sends)
    order = np.argsort(due, kind="stable")
    due, owner = due[order], owner[order]
    batches = {count: _batch(model, count) for count in range(1, streams + 1)}
    latencies = np.empty(due.size)
    at, began = 0, time.perf_counter()
    while at < due.size:
        now = time.perf_counter() - began
        if now < due[at]:
            time.sleep(due[at] - now)
            continue
        end = int(np.searchsorted(due, now, side="right"))
        taken = owner[at:end]
        _, first = np.unique(taken, return_index=True)
        end = at + (int(first.size) if first.size == taken.size else _once(taken))
        model.infer_chunk([states[stream] for stream in owner[at:end]], batches[end - at])
        latencies[at:end] = time.perf_counter() - began - due[at:end]
        at = end
    return latencies[int(WARM_UP * latencies.size) :]


def _once(owners: np.ndarray) -> int:
    """How many from the start are of different streams: a stream has one chunk in a round."""
    seen: set[int] = set()
    for count, owner in enumerate(owners.tolist()):
        if owner in seen:
            return count
        seen.add(owner)
    return len(owners)


def all_tables(result: dict[str, Any]) -> dict[str, str]:
    """The README's tables by their markers."""
    return {"predicted": _table(result)}


def _table(result: dict[str, Any]) -> str:
    """Predictions beside what was measured, in Markdown."""
    rows = [
        "| load | streams | quantile | predicted, ms | simulated, ms | measured, ms | off by |",
        "|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in result["loads"]:
        for place, quantile in enumerate(result["quantiles"]):
            told, simulated, found = (row[key][place] for key in ("predicted_s", "simulated_s", "measured_s"))
            rows.append(
                f"| {row['load']:.0%} | {row['streams']} | {quantile:.0%} | {1e3 * told:.1f} | {1e3 * simulated:.1f} "
                f"| {1e3 * found:.1f} | {told / found - 1:+.0%} |"
            )
    return "\n".join(rows)


if __name__ == "__main__":
    main()
