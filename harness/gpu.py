"""What a GPU is worth beside this machine's cores: steps of a streaming model by lane and batch, and what follows.

A lane is an acoustic variant. For each of them the batch doubles until the audio heard in a second hardly grows; each
step is timed from call to result and, on a GPU, on the device between CUDA events. From the steps come streams within
a latency (`harness.capacity`); the floor is what the device takes to read the weights and to multiply by them at the
rates that it shows itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from harness.capacity import Rounds, streams_within
from pipelines import registry
from pipelines.contracts import SAMPLE_RATE, AudioBatch
from pipelines.errors import AmiraError
from pipelines.registry import Context

CPU_LANES = ("ort@fp32", "ort@int8-qdq")
GPU_LANES = ("tensorrt@fp16", "tensorrt@int8", "torch-cuda@fp16", "torch-cuda@bf16")
MAX_BATCH = 64
GROWTH = 1.05
"""A batch twice as large that hears less than so many times the audio is the last."""
GOAL_S = 0.05
Progress = Callable[[str], None]


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
        opened: Any = stack.enter_context(registry.get(f"acoustic/{name}").open(context))
        opened.warm_up()
        period_s = opened.chunk_samples / SAMPLE_RATE
        rows: list[dict[str, Any]] = []
        batch, before = 1, 0.0
        while batch <= MAX_BATCH:
            row = _steps(opened, batch, steps)
            row["audio_s_per_s"] = batch * period_s / float(np.mean(row["times_s"]))
            rows.append(row)
            if row["audio_s_per_s"] < GROWTH * before:
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
    told = getattr(model.session, "device_ms", None)
    times, device = [], []
    joules, began = energy_j(), perf_counter()
    for _ in range(steps):
        started = perf_counter()
        model.infer_chunk(states, chunk)
        times.append(perf_counter() - started)
        if told is not None and (took := told()) is not None:
            device.append(took / 1e3)
    after, spent = energy_j(), perf_counter() - began
    watts = None if joules is None or after is None else (after - joules) / spent
    return {"batch": batch, "times_s": times, "device_s": device or None, "watts": watts}


def energy_j() -> float | None:
    """Joules that the first GPU has used since its driver was loaded; `None` where nobody tells."""
    from importlib.util import find_spec

    if find_spec("pynvml") is None:
        return None
    import pynvml

    try:
        pynvml.nvmlInit()
        return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(pynvml.nvmlDeviceGetHandleByIndex(0))) / 1e3
    except pynvml.NVMLError:
        return None


def floor(weights_file: Path, frames: int) -> Mapping[str, float]:
    """Seconds that a chunk of one stream takes at least: reading FP16 weights, and multiplying by them.

    Rates are measured on the device with PyTorch: a copy of 1 GiB, and a product of 4,096 squared in FP16.
    """
    import onnx
    import torch
    from onnx import numpy_helper

    graph = onnx.load(weights_file).graph
    sizes = {tensor.name: numpy_helper.to_array(tensor).size for tensor in graph.initializer}
    weights = sum(sizes[node.input[1]] for node in graph.node if node.op_type == "MatMul" and node.input[1] in sizes)
    block = torch.empty(1 << 29, dtype=torch.float16, device="cuda")
    twin = torch.empty_like(block)
    square = torch.randn(4_096, 4_096, dtype=torch.float16, device="cuda")
    copy_s = _on_device(lambda: twin.copy_(block))
    product_s = _on_device(lambda: square @ square)
    bytes_s, flops_s = 2 * block.nbytes / copy_s, 2 * 4_096**3 / product_s
    return {
        "bytes_per_s": bytes_s,
        "flops_per_s": flops_s,
        "bytes_floor_s": 2 * weights / bytes_s,
        "flops_floor_s": 2 * weights * frames / flops_s,
    }


def _on_device(call: Callable[[], Any]) -> float:
    import torch

    times = []
    for _ in range(20):
        event: Any = torch.cuda.Event
        start, end = event(enable_timing=True), event(enable_timing=True)
        start.record()
        call()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) / 1e3)
    return float(np.median(times[5:]))
