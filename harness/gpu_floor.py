"""What a step of a streaming model cannot do without on a GPU, at the rates that the GPU shows itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

STORED_BYTES = 2
"""Of a number of the weights and of the context, as lanes in half precision have them."""


def floor(plain: Path, samples: int) -> Mapping[str, float]:
    """What a step of one stream cannot do without, and what the device does in a second.

    Bytes are what the best step there could be moves in the device's memory, each of them once: the weights in two
    bytes a number, read once for all streams; of each stream the context of every layer (states of four axes: batch,
    layers, frames, width), read in two bytes a number, and the new frames of it, written; its other states, read and
    written as they are; its samples and its log-probabilities in float32. What lies between layers could stay in
    caches and is not counted. Operations are counted by PyTorch on the plain graph. Rates are measured: a copy of
    1 GiB, and an FP16 product of 8,192 squared.

    Args:
        plain: The model's plain form.
        samples: Samples of a chunk.
    """
    import onnx
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from pipelines.acoustic.torch_graph import TorchGraph

    graph = onnx.load(plain).graph
    shapes = [[size.dim_value or 1 for size in each.type.tensor_type.shape.dim] for each in graph.input]
    shapes = [
        [1, samples] if each.name == "samples" else shape for each, shape in zip(graph.input, shapes, strict=True)
    ]
    kinds = {1: torch.float32, 7: torch.int64}
    given = [
        torch.zeros(shape, dtype=kinds[each.type.tensor_type.elem_type], device="cuda")
        for each, shape in zip(graph.input, shapes, strict=True)
    ]
    with torch.no_grad(), FlopCounterMode(display=False) as counted:
        log_probs, *_ = TorchGraph(plain, "cuda", torch.float16)(*given)
    block = torch.empty(1 << 29, dtype=torch.float16, device="cuda")
    twin = torch.empty_like(block)
    square = torch.randn(8_192, 8_192, dtype=torch.float16, device="cuda")
    copy_s = _on_device(lambda: twin.copy_(block))
    product_s = _on_device(lambda: square @ square)
    return {
        "bytes_per_s": 2 * block.nbytes / copy_s,
        "flops_per_s": 2 * 8_192**3 / product_s,
        "weight_bytes": STORED_BYTES * sum(int(np.prod(each.dims)) for each in graph.initializer),
        "state_bytes": given[0].nbytes
        + sum(moved_bytes(tuple(each.shape), each.nbytes, log_probs.shape[1]) for each in given[1:])
        + 4 * log_probs.numel(),
        "flops": counted.get_total_flops(),
    }


def moved_bytes(shape: tuple[int, ...], nbytes: int, frames: int) -> int:
    """Of one state of one stream in a step of so many frames.

    Args:
        shape: Of the state; a context has four axes.
        nbytes: As the model's plain form has it.
        frames: New in the step.
    """
    if len(shape) != 4:
        return 2 * nbytes
    batch, layers, kept, width = shape
    return STORED_BYTES * batch * layers * (kept + min(frames, kept)) * width


def floor_s(floor: Mapping[str, float], streams: int) -> float:
    """Seconds that a step of so many streams takes at least: the larger of moving its bytes and its operations."""
    moved = floor["weight_bytes"] + streams * floor["state_bytes"]
    return max(moved / floor["bytes_per_s"], streams * floor["flops"] / floor["flops_per_s"])


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
