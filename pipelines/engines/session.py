"""An engine that is called like a session of ONNX Runtime: arrays of the host are bound, copied, computed, copied back.

Copies go through pinned memory on one stream. Shapes that come again are captured as a CUDA graph, so that a run of
known shapes is two copies and one launch. States of streams are copied as well; that they could stay on the device is
what is left to gain.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.engines.api import Api
from pipelines.errors import AmiraError

MAX_GRAPHS = 32
"""Combinations of shapes that are kept captured."""
_TYPES = {"FLOAT": ("tensor(float)", np.float32), "INT64": ("tensor(int64)", np.int64),
          "INT32": ("tensor(int32)", np.int32), "BOOL": ("tensor(bool)", np.bool_)}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or output, as ONNX Runtime describes one."""

    name: str
    type: str
    shape: list[int | str]


@dataclass(slots=True)
class Binding:
    """Addresses of the host by name, with what is there."""

    inputs: dict[str, tuple[int, tuple[int, ...], np.dtype[Any]]] = field(default_factory=dict)
    outputs: dict[str, tuple[int, tuple[int, ...], np.dtype[Any]]] = field(default_factory=dict)

    def bind_input(self, name: str, device: str, index: int, dtype: Any, shape: Sequence[int], address: int) -> None:
        """See ONNX Runtime's `IOBinding`."""
        self.inputs[name] = (address, tuple(shape), np.dtype(dtype))

    def bind_output(self, name: str, device: str, index: int, dtype: Any, shape: Sequence[int], address: int) -> None:
        """See ONNX Runtime's `IOBinding`."""
        self.outputs[name] = (address, tuple(shape), np.dtype(dtype))


@dataclass(slots=True)
class _Place:
    """A tensor's memory: pinned on the host, and on the device."""

    host: int = 0
    device: int = 0
    size: int = 0


class EngineSession:
    """Runs one engine on one stream; one call at a time.

    Raises:
        AmiraError: The driver is too old, the GPU has no room, or the engine was built for another GPU or version.
    """

    def __init__(self, path: Path, api: Api) -> None:
        from cuda.bindings import runtime

        self._cuda = runtime
        self._check(*runtime.cudaFree(0))  # makes the context, and finds out whether driver and GPU are usable
        trt = api.module
        self._logger = api.logger()
        self._runtime = trt.Runtime(self._logger)
        self._engine = self._runtime.deserialize_cuda_engine(path.read_bytes())
        if self._engine is None:
            raise AmiraError(
                f"{path.name} was built for another GPU or another version than {api.kind} {api.version}. "
                f"Delete {path} and it is built anew"
            )
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise AmiraError(f"the GPU has no room to run {path.name}. Free its memory, or use acoustic/ort@fp32")
        self._stream = self._check(*runtime.cudaStreamCreate())
        self._places: dict[str, _Place] = {}
        self._graphs: dict[tuple[Any, ...], Any] = {}
        self._marks = [self._check(*runtime.cudaEventCreate()) for _ in range(2)]
        self._tensors = {
            mode: [self._described(name, trt) for name in self._names() if self._engine.get_tensor_mode(name) == mode]
            for mode in (trt.TensorIOMode.INPUT, trt.TensorIOMode.OUTPUT)
        }
        self._modes = (trt.TensorIOMode.INPUT, trt.TensorIOMode.OUTPUT)

    def get_inputs(self) -> list[Tensor]:
        """What goes in."""
        return self._tensors[self._modes[0]]

    def get_outputs(self) -> list[Tensor]:
        """What comes out."""
        return self._tensors[self._modes[1]]

    def io_binding(self) -> Binding:
        """A new, empty binding."""
        return Binding()

    def run_with_iobinding(self, binding: Binding) -> None:
        """Copy, compute, copy back, and wait."""
        bound = [*binding.inputs.items(), *binding.outputs.items()]
        shapes = tuple((name, shape) for name, (_, shape, _) in bound)
        moved = sum(self._room(name, shape, dtype) for name, (_, shape, dtype) in bound)  # every one of them
        if moved:
            self._forget_graphs()  # they hold the old addresses
        for name, (address, shape, dtype) in binding.inputs.items():
            _copy(self._places[name].host, address, math.prod(shape) * dtype.itemsize)
        if shapes not in self._graphs:
            if len(self._graphs) >= MAX_GRAPHS:
                self._forget_graphs()
            self._launch(binding)  # once outside a graph: TensorRT sets up what depends on shapes
            self._check(*self._cuda.cudaStreamSynchronize(self._stream))
            self._graphs[shapes] = self._captured(binding)
        start, end = self._marks
        self._check(*self._cuda.cudaEventRecord(start, self._stream))
        self._check(*self._cuda.cudaGraphLaunch(self._graphs[shapes], self._stream))
        self._check(*self._cuda.cudaEventRecord(end, self._stream))
        self._check(*self._cuda.cudaStreamSynchronize(self._stream))
        for name, (address, shape, dtype) in binding.outputs.items():
            _copy(address, self._places[name].host, math.prod(shape) * dtype.itemsize)

    def device_ms(self) -> float:
        """What the last run took on the device, copies included, between CUDA events."""
        return float(self._check(*self._cuda.cudaEventElapsedTime(*self._marks)))

    def close(self) -> None:
        """Give the GPU's memory back."""
        self._forget_graphs()
        for place in self._places.values():
            self._cuda.cudaFree(place.device)
            self._cuda.cudaFreeHost(place.host)
        self._places = {}
        for mark in self._marks:
            self._cuda.cudaEventDestroy(mark)
        self._cuda.cudaStreamDestroy(self._stream)

    def _captured(self, binding: Binding) -> Any:
        mode = self._cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._check(*self._cuda.cudaStreamBeginCapture(self._stream, mode))
        self._launch(binding)
        graph = self._check(*self._cuda.cudaStreamEndCapture(self._stream))
        ready = self._check(*self._cuda.cudaGraphInstantiate(graph, 0))
        self._check(*self._cuda.cudaGraphDestroy(graph))
        return ready

    def _launch(self, binding: Binding) -> None:
        kinds = self._cuda.cudaMemcpyKind
        for name, (_, shape, dtype) in binding.inputs.items():
            place, size = self._places[name], math.prod(shape) * dtype.itemsize
            self._copy_async(place.device, place.host, size, kinds.cudaMemcpyHostToDevice)
            if not self._context.set_input_shape(name, shape):
                raise ValueError(f"input '{name}' of {shape} is outside the engine's profile")
            self._context.set_tensor_address(name, place.device)
        for name in binding.outputs:
            self._context.set_tensor_address(name, self._places[name].device)
        if not self._context.execute_async_v3(int(self._stream)):
            raise RuntimeError("TensorRT could not start the engine; what it says is above")
        for name, (_, shape, dtype) in binding.outputs.items():
            place, size = self._places[name], math.prod(shape) * dtype.itemsize
            self._copy_async(place.host, place.device, size, kinds.cudaMemcpyDeviceToHost)

    def _copy_async(self, to: int, start: int, size: int, kind: Any) -> None:
        if size:
            self._check(*self._cuda.cudaMemcpyAsync(to, start, size, kind, self._stream))

    def _room(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> bool:
        """See that a tensor has memory; whether it moved."""
        place, size = self._places.setdefault(name, _Place()), max(math.prod(shape) * dtype.itemsize, 1)
        if place.size >= size:
            return False
        if place.size:
            self._check(*self._cuda.cudaFree(place.device))
            self._check(*self._cuda.cudaFreeHost(place.host))
        place.device = int(self._check(*self._cuda.cudaMalloc(size)))
        place.host = int(self._check(*self._cuda.cudaMallocHost(size)))
        place.size = size
        return True

    def _forget_graphs(self) -> None:
        for graph in self._graphs.values():
            self._cuda.cudaGraphExecDestroy(graph)
        self._graphs = {}

    def _names(self) -> list[str]:
        return [self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors)]

    def _described(self, name: str, trt: Any) -> Tensor:
        kind = str(self._engine.get_tensor_dtype(name)).rpartition(".")[2]
        shape = [size if size >= 0 else "?" for size in self._engine.get_tensor_shape(name)]
        return Tensor(name, _TYPES[kind][0], shape)

    def _check(self, status: Any, *values: Any) -> Any:
        if int(status) == 0:
            return values[0] if values else None
        _, told = self._cuda.cudaGetErrorString(status)
        remedies = {
            2: "The GPU has no room: free its memory or use a smaller batch",
            35: "The driver is too old for this CUDA: update it",
            46: "Another process has the GPU for itself: wait for it",
        }
        remedy = remedies.get(int(status), "Use acoustic/ort@fp32 meanwhile")
        raise AmiraError(f"CUDA says: {told.decode()} ({int(status)}). {remedy}")


def _copy(to: int, start: int, size: int) -> None:
    import ctypes

    ctypes.memmove(to, start, size)
