"""What a GPU is worth beside this machine's cores: steps of a streaming model by lane and batch, and what follows.

A lane is an acoustic variant. For each of them the batch doubles until the audio heard in a second hardly grows; each
step is timed from call to result and, on a GPU, on the device between CUDA events. From the steps come streams within
a latency (`harness.capacity`); what no lane can go below is `harness.gpu_floor`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from harness.capacity import Rounds, streams_within
from harness.fingerprint import fingerprint
from harness.gpu_floor import floor
from pipelines import registry
from pipelines.contracts import SAMPLE_RATE, AudioBatch
from pipelines.errors import AmiraError, NothingMeasuredError
from pipelines.models.locate import model_folder
from pipelines.models.model_card import ctc_card, file_of
from pipelines.registry import Context

CPU_LANES = ("ort@fp32", "ort@int8-qdq", "simd-stream@fp32", "simd-stream@int8")
GPU_LANES = ("tensorrt@fp16", "tensorrt@int8", "torch-cuda@fp16", "torch-cuda@bf16")
MAX_BATCH = 1_024
GROWTH = 1.05
"""A batch twice as large that hears less than so many times the audio is the last."""
GOAL_S = 0.05
POWER_S = 1.0
"""A GPU goes on with steps for so long: its energy is counted every tenth of a second."""
Progress = Callable[[str], None]


def measured(models_dir: Path, model: str, steps: int, progress: Progress) -> dict[str, Any]:
    """All lanes, the floor, and what they ran on, as one document.

    Raises:
        NothingMeasuredError: No GPU lane runs; it says why.
    """
    folder = model_folder(models_dir, model)
    card = ctc_card(folder)
    found = lanes(models_dir, model, (*GPU_LANES, *CPU_LANES), steps, progress)
    if all(found[name]["status"] != "ok" for name in GPU_LANES):
        reasons = "; ".join(f"{name}: {found[name]['reason']}" for name in GPU_LANES)
        raise NothingMeasuredError(f"nothing measured: no GPU lane runs. {reasons}")
    chunk = card.streaming.chunk_frames * card.output.shift_samples if card.streaming else SAMPLE_RATE
    known = find_spec("torch") is not None
    return {
        "schema_version": 2,
        "fingerprint": fingerprint(models_dir, [model]),
        "gpu": about(),
        "model": card.name,
        "lanes": found,
        "floor": floor(file_of(card, folder, "plain"), chunk) if known else "not measured: PyTorch is not there",
    }


def about() -> Mapping[str, Any]:
    """The first GPU and its driver; empty where nobody tells."""
    if find_spec("pynvml") is None:
        return {}
    import pynvml

    try:
        pynvml.nvmlInit()
        card = pynvml.nvmlDeviceGetHandleByIndex(0)
        return {
            "name": pynvml.nvmlDeviceGetName(card),
            "memory_bytes": int(pynvml.nvmlDeviceGetMemoryInfo(card).total),
            "driver": pynvml.nvmlSystemGetDriverVersion(),
            "power_limit_w": pynvml.nvmlDeviceGetPowerManagementLimit(card) / 1e3,
        }
    except pynvml.NVMLError as error:
        return {"problem": str(error)}


def lanes(models_dir: Path, model: str, names: Sequence[str], steps: int, progress: Progress) -> dict[str, Any]:
    """Every lane's numbers, or the reason why there are none."""
    found: dict[str, Any] = {}
    for name in names:
        problem = registry.get(f"acoustic/{name}").available()
        if problem is not None:
            found[name] = {"status": "unavailable", "reason": f"{problem.reason}. {problem.remedy}"}
            continue
        progress(f"{name}: measuring")
        try:
            found[name] = {"status": "ok", **_lane(models_dir, model, name, steps)}
        except AmiraError as error:
            found[name] = {"status": "failed", "reason": str(error)}
    return found


def _lane(models_dir: Path, model: str, name: str, steps: int) -> dict[str, Any]:
    with ExitStack() as stack:
        context = Context(models_dir, model, 1, {})
        for axis, part in (("memory", "pooled"), ("kernel", "numpy")):
            context.parts[axis] = stack.enter_context(registry.get(f"{axis}/{part}").open(context))
        variant = registry.get(f"acoustic/{name}")
        options = {"most_streams": MAX_BATCH} if "most_streams" in variant.options.model_fields else {}
        opened: Any = stack.enter_context(variant.open(context, **options))
        opened.warm_up()
        period_s = opened.chunk_samples / SAMPLE_RATE
        rows: list[dict[str, Any]] = []
        batch, before = 1, 0.0
        while batch <= MAX_BATCH:
            row = _steps(opened, batch, steps)
            row["audio_s_per_s"] = batch * period_s / float(np.mean(row["times_s"]))
            rows.append(row)
            if row["audio_s_per_s"] < GROWTH * before or float(np.mean(row["times_s"])) > period_s / 2:
                break
            batch, before = 2 * batch, row["audio_s_per_s"]
        rounds = Rounds.fitted([row["batch"] for row in rows], [row["times_s"] for row in rows])
    return {
        "period_s": period_s,
        "rows": rows,
        "audio_s_per_s": max(row["audio_s_per_s"] for row in rows),
        "streams_p99": {"goal_s": GOAL_S, "streams": streams_within(rounds, period_s, GOAL_S)},
    }


def _steps(model: Any, batch: int, steps: int) -> dict[str, Any]:
    """Times of steps of one batch size, and the energy that they took where the driver tells it."""
    rng = np.random.default_rng(0)
    states = [model.open() for _ in range(batch)]
    samples = (0.1 * rng.standard_normal((batch, model.chunk_samples))).astype(np.float32)
    chunk = AudioBatch(samples, np.full(batch, model.chunk_samples))
    for _ in range(5):
        model.infer_chunk(states, chunk)
    told = getattr(getattr(model, "session", None), "device_ms", None)
    times, device = [], []
    joules, began = energy_j(), perf_counter()
    for _ in range(steps):
        started = perf_counter()
        model.infer_chunk(states, chunk)
        times.append(perf_counter() - started)
        if told is not None and (took := told()) is not None:
            device.append(took / 1e3)
    while joules is not None and told is not None and perf_counter() - began < POWER_S:
        model.infer_chunk(states, chunk)
    after, spent = energy_j(), perf_counter() - began
    watts = None if joules is None or after is None else (after - joules) / spent
    return {"batch": batch, "times_s": times, "device_s": device or None, "watts": watts}


def energy_j() -> float | None:
    """Joules that the first GPU has used since its driver was loaded; `None` where nobody tells."""
    if find_spec("pynvml") is None:
        return None
    import pynvml

    try:
        pynvml.nvmlInit()
        return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(pynvml.nvmlDeviceGetHandleByIndex(0))) / 1e3
    except pynvml.NVMLError:
        return None
