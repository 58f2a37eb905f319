"""PyTorch behind the methods of ONNX Runtime's sessions: host arrays in and out, a CUDA graph for each shape."""

from __future__ import annotations

import ctypes
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipelines.acoustic.torch_graph import TorchGraph
from pipelines.engines.session import MAX_GRAPHS, Binding, Tensor

_TYPES = {1: ("tensor(float)", torch.float32), 7: ("tensor(int64)", torch.int64), 6: ("tensor(int32)", torch.int32)}


@dataclass(slots=True)
class _Ready:
    """A run of given shapes: where inputs go and outputs lie on the device, pinned twins, and what starts it."""

    inputs: list[torch.Tensor]
    outputs: list[torch.Tensor]
    given: list[torch.Tensor]
    made: list[torch.Tensor]
    start: Any


class TorchSession:
    """Runs a plain graph in PyTorch.

    Args:
        path: The ONNX file.
        device: `cuda`; `cpu` is for tests, where nothing is captured.
        dtype: Of the products.
        compiled: Whether runs are traced and compiled (`torch.compile`) before they are captured.
    """

    def __init__(self, path: Path, device: str, dtype: torch.dtype, *, compiled: bool) -> None:
        import onnx

        graph = onnx.load(path, load_external_data=False).graph
        self._run = TorchGraph(path, device, dtype)
        self._device, self._compiled = device, compiled
        self._inputs, self._outputs = ([_described(each) for each in side] for side in (graph.input, graph.output))
        self._ready: dict[tuple[Any, ...], _Ready] = {}
        self._marks: list[Any] = []

    def get_inputs(self) -> list[Tensor]:
        """What goes in."""
        return self._inputs

    def get_outputs(self) -> list[Tensor]:
        """What comes out."""
        return self._outputs

    def io_binding(self) -> Binding:
        """A new, empty binding."""
        return Binding()

    @torch.inference_mode()
    def run_with_iobinding(self, binding: Binding) -> None:
        """Copy, compute, copy back, and wait."""
        shapes = tuple((name, shape) for name, (_, shape, _) in binding.inputs.items())
        if shapes not in self._ready:
            if len(self._ready) >= MAX_GRAPHS:
                self._ready.clear()
            self._ready[shapes] = self._prepared(binding)
        ready = self._ready[shapes]
        for name, pinned in zip(self._run.inputs, ready.given, strict=True):
            address, shape, dtype = binding.inputs[name]
            ctypes.memmove(pinned.data_ptr(), address, math.prod(shape) * dtype.itemsize)
        ready.start()
        for name, pinned in zip(self._run.outputs, ready.made, strict=True):
            address, shape, dtype = binding.outputs[name]
            if tuple(pinned.shape) != shape:
                raise ValueError(f"output '{name}' is {tuple(pinned.shape)}, the array for it {shape}")
            ctypes.memmove(address, pinned.data_ptr(), math.prod(shape) * dtype.itemsize)

    def device_ms(self) -> float | None:
        """What the last run took on the device, copies included, between CUDA events; `None` on a CPU."""
        return float(self._marks[0].elapsed_time(self._marks[1])) if self._marks else None

    def close(self) -> None:
        """Give the device's memory back."""
        self._ready.clear()

    def _prepared(self, binding: Binding) -> _Ready:
        on_gpu = self._device != "cpu"
        given = [
            torch.zeros(shape, dtype=torch.from_numpy(np.empty(0, dtype)).dtype, pin_memory=on_gpu)
            for _, shape, dtype in (binding.inputs[name] for name in self._run.inputs)
        ]
        inputs = [tensor.to(self._device) for tensor in given]
        call: Any = self._run
        if self._compiled:
            from torch.fx.experimental.proxy_tensor import make_fx

            call = torch.compile(make_fx(self._run)(*inputs), mode="max-autotune-no-cudagraphs", dynamic=False)
        if not on_gpu:
            return self._on_cpu(call, inputs, given)
        side: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        with torch.cuda.stream(side):
            for _ in range(3):
                call(*inputs)
        side.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            outputs = [_contiguous(value) for value in call(*inputs)]
        made = [torch.empty_like(value, device="cpu", pin_memory=True) for value in outputs]

        event: Any = torch.cuda.Event
        marks = [event(enable_timing=True) for _ in range(2)]
        self._marks = marks

        def start() -> None:
            marks[0].record()
            for device, host in zip(inputs, given, strict=True):
                device.copy_(host, non_blocking=True)
            graph.replay()
            for host, device in zip(made, outputs, strict=True):
                host.copy_(device, non_blocking=True)
            marks[1].record()
            torch.cuda.current_stream().synchronize()
            self._marks = marks

        return _Ready(inputs, outputs, given, made, start)

    def _on_cpu(self, call: Any, inputs: list[torch.Tensor], given: list[torch.Tensor]) -> _Ready:
        made = [_contiguous(value) for value in call(*inputs)]

        def start() -> None:
            for own, value in zip(made, call(*given), strict=True):
                own.copy_(value)

        return _Ready(inputs, made, given, made, start)


def _contiguous(value: torch.Tensor) -> torch.Tensor:
    """An output as the caller's array wants it: floats are float32."""
    return (value.float() if value.is_floating_point() else value).contiguous()


def _described(each: Any) -> Tensor:
    kind = each.type.tensor_type
    shape = [size.dim_value if size.HasField("dim_value") else size.dim_param for size in kind.shape.dim]
    return Tensor(each.name, _TYPES[kind.elem_type][0], shape)
