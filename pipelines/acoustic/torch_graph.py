"""A plain ONNX graph of ours run by PyTorch: the same weights, every operator as a call of torch's.

What depends on shapes alone is NumPy and is known before anything runs on the device, so that a run with given shapes
can be traced, compiled and captured. Products are computed in the precision that is asked for; norms, softmax and the
residual stream stay FP32, as in the FP16 form (`pipelines.models.half`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from pipelines.errors import AmiraError

Value = Any
"""A `Tensor` on the device, or a NumPy array of integers that is known already."""
_KINDS = {1: torch.float32, 6: torch.int32, 7: torch.int64, 9: torch.bool, 10: torch.float16}


class TorchGraph:
    """A graph's nodes in order, its constants on the device.

    Args:
        path: The ONNX file, in the operators that are known here.
        device: Where it runs.
        dtype: Of its products.

    Raises:
        AmiraError: It has an operator that is not known here.
    """

    def __init__(self, path: Path, device: str, dtype: torch.dtype) -> None:
        import onnx
        from onnx import helper, numpy_helper

        graph = onnx.load(path).graph
        self._device, self._dtype = torch.device(device), dtype
        self.inputs = [each.name for each in graph.input]
        self.outputs = [each.name for each in graph.output]
        self._nodes = []
        for node in graph.node:
            if node.op_type not in OPERATORS or node.domain:
                raise AmiraError(
                    f"{path.name} has the operator {node.domain or 'ai.onnx'}.{node.op_type} (node '{node.name}'), "
                    f"which acoustic/torch-cuda does not know; it knows {', '.join(sorted(OPERATORS))}. "
                    "Run the model with acoustic/ort@fp32"
                )
            attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
            self._nodes.append((OPERATORS[node.op_type], list(node.input), list(node.output), attributes))
        epsilons = {each["epsilon"] for _, _, _, each in self._nodes if "epsilon" in each}
        self.epsilon: float = epsilons.pop() if len(epsilons) == 1 else 1e-5
        """Of its norms."""
        products = {node.input[1] for node in graph.node if node.op_type == "MatMul"}
        self._known: dict[tuple[Any, ...], Tensor] = {}
        """What is NumPy, on the device. A run has them there before it is traced or captured: both allow no copies."""
        self.constants: dict[str, Value] = {}
        for tensor in graph.initializer:
            value = numpy_helper.to_array(tensor)
            if value.dtype.kind == "f":
                kept = torch.from_numpy(value.copy()).to(self._device)
                self.constants[tensor.name] = kept.to(dtype) if tensor.name in products else kept
            else:
                self.constants[tensor.name] = value

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The outputs, in order, of inputs in order."""
        values: dict[str, Value] = {**self.constants, **dict(zip(self.inputs, inputs, strict=True)), "": None}
        for operator, taken, given, attributes in self._nodes:
            made = operator(self, [values[name] for name in taken], attributes)
            values.update(zip(given, made if isinstance(made, (tuple, list)) else (made,), strict=True))
        return tuple(values[name] for name in self.outputs)

    def tensor(self, value: Value) -> Tensor:
        """A value on the device."""
        if isinstance(value, Tensor):
            return value
        array = np.asarray(value)
        key = array.dtype.str, array.shape, array.tobytes()
        if key not in self._known:
            with torch.inference_mode(False):
                self._known[key] = torch.from_numpy(array.copy()).to(self._device)
        return self._known[key]

    def product(self, left: Value, right: Value) -> Tensor:
        """A matrix product in the graph's precision."""
        return torch.matmul(self.tensor(left).to(self._dtype), self.tensor(right).to(self._dtype))


Operator = Callable[[TorchGraph, Sequence[Value], Mapping[str, Any]], Any]


def _both(known: Callable[..., Any], computed: Callable[..., Any]) -> Operator:
    """An operator that stays NumPy where all that it takes is known."""

    def run(graph: TorchGraph, values: Sequence[Value], attributes: Mapping[str, Any]) -> Value:
        if any(isinstance(value, Tensor) for value in values):
            return computed(*(graph.tensor(value) for value in values))
        return known(*values)

    return run


def _one(call: Callable[..., Any]) -> Operator:
    def run(graph: TorchGraph, values: Sequence[Value], attributes: Mapping[str, Any]) -> Value:
        return call(*values, **attributes)

    return run


def _axes(values: Any) -> tuple[int, ...]:
    return tuple(np.atleast_1d(values).tolist())


def _unsqueeze(x: Value, axes: Any) -> Value:
    for axis in sorted(_axes(axes)):
        x = x.unsqueeze(axis) if isinstance(x, Tensor) else np.expand_dims(x, axis)
    return x


def _squeeze(x: Value, axes: Any = None) -> Value:
    if not isinstance(x, Tensor):
        return np.squeeze(x, axis=None if axes is None else _axes(axes))
    return x.squeeze() if axes is None else x.squeeze(_axes(axes))


def _shape(x: Tensor, start: int = 0, end: int | None = None) -> Value:
    return np.array(x.shape[start:end], np.int64)


def _slice(x: Value, starts: Any, ends: Any, axes: Any, steps: Any = None) -> Value:
    places = [slice(None)] * x.ndim
    for start, end, axis, step in zip(
        _axes(starts), _axes(ends), _axes(axes), _axes(1 if steps is None else steps), strict=True
    ):
        places[axis] = slice(start, min(end, x.shape[axis]), step)
    return x[tuple(places)]


def _reshape(x: Tensor, shape: Any) -> Tensor:
    return x.reshape([x.shape[axis] if size == 0 else size for axis, size in enumerate(_axes(shape))])


def _concat(graph: TorchGraph, values: Sequence[Value], attributes: Mapping[str, Any]) -> Value:
    if not any(isinstance(value, Tensor) for value in values):
        return np.concatenate(values, axis=attributes["axis"])
    tensors = [graph.tensor(value) for value in values]
    widest = max((tensor.dtype for tensor in tensors), key=lambda dtype: dtype.itemsize)
    return torch.cat([tensor.to(widest) for tensor in tensors], dim=attributes["axis"])


def _cast(graph: TorchGraph, values: Sequence[Value], attributes: Mapping[str, Any]) -> Value:
    return graph.tensor(values[0]).to(_KINDS[attributes["to"]])


def _gather(x: Value, index: Any, axis: int = 0) -> Value:
    return np.take(x, index, axis=axis) if not isinstance(x, Tensor) else x.select(axis, int(index))


def _rotary(graph: TorchGraph, values: Sequence[Value], attributes: Mapping[str, Any]) -> Tensor:
    x, cos, sin, positions = (graph.tensor(value) for value in values)
    heads, width = attributes["num_heads"], attributes["rotary_embedding_dim"]
    each = x.float().reshape(*x.shape[:-1], heads, -1)
    turned, rest = each[..., :width], each[..., width:]
    first, second = turned[..., 0::2], turned[..., 1::2]
    c, s = cos[positions].unsqueeze(-2), sin[positions].unsqueeze(-2)
    pairs = torch.stack((first * c - second * s, second * c + first * s), dim=-1).flatten(-2)
    return torch.cat((pairs, rest), dim=-1).flatten(-2).to(x.dtype)


def _norm(x: Tensor, gain: Tensor, axis: int, epsilon: float) -> Tensor:
    return functional.layer_norm(x.float(), (x.shape[-1],), gain, None, epsilon)


def _divide(a: Tensor, b: Tensor) -> Tensor:
    return torch.div(a, b, rounding_mode=None if a.is_floating_point() else "trunc")


def _reduce(graph: TorchGraph, values: Sequence[Value], square: bool) -> Tensor:
    x = graph.tensor(values[0]).float()
    return (x.square() if square else x).sum(_axes(values[1]), keepdim=True)


OPERATORS: Mapping[str, Operator] = {
    "MatMul": lambda graph, values, attributes: graph.product(values[0], values[1]),
    "Add": _both(np.add, torch.add),
    "Sub": _both(np.subtract, torch.sub),
    "Mul": _both(np.multiply, torch.mul),
    "Div": _both(np.floor_divide, _divide),
    "Max": _both(np.maximum, torch.maximum),
    "Min": _both(np.minimum, torch.minimum),
    "Less": _both(np.less, torch.lt),
    "GreaterOrEqual": _both(np.greater_equal, torch.ge),
    "Transpose": _one(lambda x, perm: x.permute(*perm)),
    "Reshape": _one(_reshape),
    "Slice": _one(_slice),
    "Unsqueeze": _one(_unsqueeze),
    "Squeeze": _one(_squeeze),
    "Shape": _one(_shape),
    "Gather": _one(_gather),
    "Range": _one(lambda start, end, step: np.arange(int(start), int(end), int(step), dtype=np.int64)),
    "Expand": _both(lambda x, shape: np.broadcast_to(x, _axes(shape)), lambda x, shape: x.expand(*shape.tolist())),
    "Split": _one(lambda x, sizes, axis=0: torch.split(x, list(_axes(sizes)), dim=axis)),
    "Concat": _concat,
    "Cast": _cast,
    "Conv": _one(lambda x, kernel, strides: functional.conv1d(x, kernel, stride=strides[0])),
    "Tanh": _one(torch.tanh),
    "Sqrt": _one(torch.sqrt),
    "Gelu": _one(functional.gelu),
    "Softmax": _one(lambda x, axis: torch.softmax(x.float(), dim=axis)),
    "LogSoftmax": _one(lambda x, axis: torch.log_softmax(x.float(), dim=axis)),
    "LayerNormalization": _one(_norm),
    "RotaryEmbedding": _rotary,
    "ReduceSum": lambda graph, values, attributes: _reduce(graph, values, square=False),
    "ReduceSumSquare": lambda graph, values, attributes: _reduce(graph, values, square=True),
}
