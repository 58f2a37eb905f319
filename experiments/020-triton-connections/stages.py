"""Where a call goes: the client's marks joined with Triton's own timestamps, and processor time by process."""

from __future__ import annotations

import json
import os
from itertools import pairwise
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import pandas as pd
from report import STAGES
from ways import KINDS, Urls, call_of, connection, one_caller

from pipelines.triton.connections import wire
from pipelines.triton.server import TritonServer


def traced(server: TritonServer, folder: Path, calls: int) -> list[dict[str, Any]]:
    """One caller's calls of 160 ms: the client's marks joined with the server's own timestamps, call by call.

    Both are of the same clock (CLOCK_MONOTONIC), on one machine.
    """
    client = wire.open_client(server.url, 0)
    marks: dict[str, dict[str, int]] = {}
    for kind in (*KINDS, "fresh"):
        with connection(kind, Urls.of(server), 1) as it:
            for _ in range(20):
                it.infer(call_of("chunk"))
            settings = {"trace_level": ["TIMESTAMPS"], "trace_rate": "1", "trace_count": "-1", "log_frequency": "50"}
            client.update_trace_settings(settings=settings)
            for number in range(calls):
                name = f"{kind} {number}"
                marks[name] = it.infer(call_of("chunk", name)).marks_ns
            client.update_trace_settings(settings={"trace_level": ["OFF"]})
    client.close()
    return _joined(folder, marks)


def _joined(folder: Path, marks: dict[str, dict[str, int]]) -> list[dict[str, Any]]:
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


def cpu(server: TritonServer, calls: int) -> pd.DataFrame:
    """Microseconds of processor time and turns on a core that a call costs each process, by kind of call."""
    processes = {"client": os.getpid(), "server": server.pid, "stub": server.stub_pids("preprocessor")[0]}
    rows = []
    with one_caller(Urls.of(server)) as ways:
        for kind in ("gRPC alone", *KINDS):
            for _ in range(50):
                ways[kind](call_of("chunk"))
            before = {name: _spent(pid) for name, pid in processes.items()}
            start_ns = perf_counter_ns()
            for _ in range(calls):
                ways[kind](call_of("chunk"))
            took_ns = perf_counter_ns() - start_ns
            for name, pid in processes.items():
                ran_ns, turns = (after - first for first, after in zip(before[name], _spent(pid), strict=True))
                row = {"kind": kind, "process": name, "cpu_us": ran_ns / calls / 1e3, "turns": turns / calls}
                rows.append({**row, "wall_us": took_ns / calls / 1e3})
    return pd.DataFrame(rows)


def _spent(pid: int) -> tuple[int, int]:
    """Nanoseconds on a core and how often it got one, over all threads of a process that live now."""
    numbers = [
        tuple(map(int, (task / "schedstat").read_text("ascii").split())) for task in Path(f"/proc/{pid}/task").iterdir()
    ]
    return sum(ran for ran, _, _ in numbers), sum(turns for _, _, turns in numbers)
