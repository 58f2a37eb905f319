"""`amira gpu`: everything that a GPU can be measured for, in one run."""

from __future__ import annotations

import json as json_module
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from harness.output import Json, print_json, print_table, say

FILE = "gpu.json"


def gpu(
    model: Annotated[str, typer.Argument(help="A streaming CTC model's name or folder.")] = "stream-ctc-server",
    steps: Annotated[int, typer.Option(min=10, help="Steps of each batch size.")] = 200,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run. By default one of its own in reports/runs.")
    ] = None,
    json: Json = False,
) -> None:
    """Measure the GPU lanes beside the CPU lanes: latency by batch, saturation, streams within a latency, power, floor.

    Without a GPU nothing is measured and the exit code is 4. `make gpu` also measures what the precisions do to words.
    """
    from harness.gpu import measured
    from pipelines.engines.api import has_gpu
    from pipelines.errors import NothingMeasuredError
    from pipelines.paths import models_dir, runs_dir

    if not has_gpu():
        raise NothingMeasuredError(
            "nothing measured: there is no NVIDIA GPU on this machine (no device of its driver). Run this on a machine "
            "with one; packages that it lacks can be brought in a folder: AMIRA_WHEELS=folder make gpu"
        )
    document = measured(models_dir(), model, steps, say)
    place = out or runs_dir() / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-gpu"
    place.mkdir(parents=True, exist_ok=True)
    (place / FILE).write_text(json_module.dumps(document) + "\n", "utf-8")
    say(f"written: {place / FILE}")
    if json:
        print_json(document)
        return
    print_table("", ("lane", "batch", "p50 ms", "p99 ms", "device p50 ms", "audio s/s", "W"), _rows(document["lanes"]))


def _rows(found: dict) -> list[tuple]:  # type: ignore[type-arg]
    import numpy as np

    rows: list[tuple] = []  # type: ignore[type-arg]
    for name, lane in found.items():
        if lane["status"] != "ok":
            rows.append((name, "not measured", lane["reason"], "", "", "", ""))
            continue
        for row in lane["rows"]:
            p50, p99 = (1e3 * float(np.quantile(row["times_s"], q)) for q in (0.5, 0.99))
            device = f"{1e3 * float(np.median(row['device_s'])):.2f}" if row["device_s"] else ""
            watts = "" if row["watts"] is None else f"{row['watts']:.0f}"
            rows.append((name, row["batch"], f"{p50:.2f}", f"{p99:.2f}", device, f"{row['audio_s_per_s']:.0f}", watts))
    return rows
