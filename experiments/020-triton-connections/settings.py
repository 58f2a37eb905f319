"""Settings of gRPC that are said to matter: of a channel, in turns in one process; of a process, in fresh ones."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from time import perf_counter_ns
from typing import Any

import grpc
import numpy as np
import pandas as pd
from report import OURS
from ways import LIMIT, Urls, call_of, connection

from pipelines.triton.connections import wire

CHANNEL: dict[str, dict[str, Any]] = {
    OURS: {},
    "grpc.enable_retries = 1 (gRPC's default)": {"grpc.enable_retries": 1},
    "grpc.minimal_stack = 1": {"grpc.minimal_stack": 1},
    "grpc.http2.bdp_probe = 0": {"grpc.http2.bdp_probe": 0},
    "grpc.optimization_target = latency": {"grpc.optimization_target": "latency"},
}
PROCESS: dict[str, dict[str, str]] = {
    OURS: {},
    "GRPC_POLL_STRATEGY=poll": {"GRPC_POLL_STRATEGY": "poll"},
    "GRPC_EXPERIMENTS=-event_engine_client": {"GRPC_EXPERIMENTS": "-event_engine_client"},
}
CALLS = 400


def channels(url: str) -> dict[str, Callable[[], Any]]:
    """A call on a channel with each setting; the request is made beforehand."""
    call = call_of("small")
    message = wire.request(call)
    wire.limited(message, call)

    def caller(setting: dict[str, Any]) -> Callable[[], Any]:
        options = dict(wire.channel_arguments(LIMIT)) | setting
        infer = wire.method(grpc.insecure_channel(url, options=list(options.items())), "ModelInfer")
        return lambda: infer(message, timeout=30)

    return {name: caller(setting) for name, setting in CHANNEL.items()}


def processes(url: str, rounds: int) -> pd.DataFrame:
    """The median of calls through the pool in fresh processes, one for each setting in every round."""
    rows = []
    for number in range(rounds):
        for name, setting in PROCESS.items():
            done = subprocess.run(
                [sys.executable, __file__, url],
                env={**os.environ, **setting},
                capture_output=True,
                text=True,
                check=True,
            )
            rows.append({"round": number, "setting": name, "median_ns": float(done.stdout)})
    return pd.DataFrame(rows)


if __name__ == "__main__":
    with connection("pooled", Urls(sys.argv[1]), 1) as it:
        took = []
        for _ in range(CALLS):
            start_ns = perf_counter_ns()
            it.infer(call_of("small"))
            took.append(perf_counter_ns() - start_ns)
    print(np.median(took))
