"""PyTorch behind the methods of ONNX Runtime's sessions: host arrays in and out, a CUDA graph for each shape."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipelines.acoustic.torch_capture import Ready, captured, on_cpu
from pipelines.acoustic.torch_graph import TorchGraph
from pipelines.engines.session import MAX_GRAPHS, Binding, Tensor

_TYPES = {1: ("tensor(float)", torch.float32), 7: ("tensor(int64)", torch.int64), 6: ("tensor(int32)", torch.int32)}


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
        self.graph = TorchGraph(path, device, dtype)
        self.device = device
        self._compiles = compiled
        self._inputs, self._outputs = ([_described(each) for each in side] for side in (graph.input, graph.output))
        self._ready: dict[tuple[Any, ...], Ready] = {}
        self._device_ms: Callable[[], float] | None = None

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
            bound = (binding.inputs[name] for name in self.graph.inputs)
            inputs = [torch.from_numpy(np.zeros(shape, dtype)) for _, shape, dtype in bound]
            self._ready[shapes] = self.prepared(self.compiled(self.graph, self.placed(inputs)), inputs)
        ready = self._ready[shapes]
        for name, pinned in zip(self.graph.inputs, ready.given, strict=True):
            address, shape, dtype = binding.inputs[name]
            ctypes.memmove(pinned.data_ptr(), address, math.prod(shape) * dtype.itemsize)
        ready.start()
        for name, pinned in zip(self.graph.outputs, ready.made, strict=True):
            address, shape, dtype = binding.outputs[name]
            if tuple(pinned.shape) != shape:
                raise ValueError(f"output '{name}' is {tuple(pinned.shape)}, the array for it {shape}")
            ctypes.memmove(address, pinned.data_ptr(), math.prod(shape) * dtype.itemsize)

    def device_ms(self) -> float | None:
        """What the last run took on the device, copies included, between CUDA events; `None` on a CPU."""
        return self._device_ms() if self._device_ms else None

    def close(self) -> None:
        """Give the device's memory back."""
        self._ready.clear()

    def placed(self, tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Copies on the device."""
        return [tensor.to(self.device, copy=True) for tensor in tensors]

    def compiled(self, call: Callable[..., Any], inputs: Sequence[torch.Tensor]) -> Callable[..., Any]:
        """A call for inputs of the same shapes, compiled if this session compiles."""
        if not self._compiles:
            return call
        from torch.fx.experimental.proxy_tensor import make_fx

        call(*inputs)  # what it makes of shapes alone is on the device from now on
        compiled: Callable[..., Any] = torch.compile(make_fx(call)(*inputs), dynamic=False)
        return compiled

    def prepared(self, call: Callable[..., Any], inputs: Sequence[torch.Tensor], parts: int = 1) -> Ready:
        """A call of tensors on the device, ready to be run on those of the host; see `captured`."""
        if self.device == "cpu":
            return on_cpu(call, inputs)
        return captured(call, inputs, parts, self._took)

    def _took(self, device_ms: Callable[[], float]) -> None:
        self._device_ms = device_ms


def _described(each: Any) -> Tensor:
    kind = each.type.tensor_type
    shape = [size.dim_value if size.HasField("dim_value") else size.dim_param for size in kind.shape.dim]
    return Tensor(each.name, _TYPES[kind.elem_type][0], shape)
