"""A graph's FP16 form: products, rotations, attention and activations in half precision, the rest as it is.

What sums over many values or decides between close ones stays FP32: norms, softmax, the residual stream, the first
convolution on raw samples, and everything on lengths. Tensors are cast where the two meet. Inputs and outputs keep
their types, so that a caller sees no difference.

On a CPU, ONNX Runtime computes most FP16 operators in FP32 between casts: this form is half the size on disk, and its
speed is a GPU's.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

COMPUTE = {
    "MatMul": (0, 1),
    "Gelu": (0,),
    "RotaryEmbedding": (0, 1, 2),
    "MultiHeadAttention": (0, 1, 2, 3, 5),
    "QuantizeLinear": (0, 1),
    "DequantizeLinear": (1,),
}
"""Operators that are computed in FP16, with the positions of their inputs that are floats."""
FOLLOW = {
    "Add": None, "Mul": None, "Concat": None,
    "Split": (0,), "Slice": (0,), "Reshape": (0,), "Transpose": (0,),
}  # fmt: skip
"""Operators that are FP16 where all the floats that they take are FP16 already or constants; `None` for all inputs."""
_LARGEST = float(np.finfo(np.float16).max)


def half_model(model: onnx.ModelProto) -> onnx.ModelProto:
    """The FP16 form of a checked FP32 model; the model itself is not changed.

    Raises:
        ValueError: A weight that would be FP16 is too large for it.
    """
    made = onnx.ModelProto()
    made.CopyFrom(model)
    _Converter(made.graph).convert()
    onnx.checker.check_model(made)
    return made


class _Converter:
    def __init__(self, graph: onnx.GraphProto) -> None:
        self._graph = graph
        self._constants = {tensor.name: tensor for tensor in graph.initializer}
        self._outputs = {output.name for output in graph.output}
        self._half: set[str] = set()
        """Tensors that are FP16."""
        self._casts: set[str] = set()
        self._nodes: list[onnx.NodeProto] = []

    def convert(self) -> None:
        for node in list(self._graph.node):
            floats = self._floats(node)
            for index, name in enumerate(node.input):
                if name and index in floats and name not in self._half:
                    node.input[index] = self._as_half(name)
                elif index not in floats and name in self._half:
                    node.input[index] = self._cast(name, TensorProto.FLOAT, f"{name}.fp32")
            if floats and node.op_type != "QuantizeLinear":  # which gives integers
                self._half.update(node.output)
            self._nodes.append(node)
        used = {name for node in self._nodes for name in node.input}
        constants = [tensor for tensor in self._constants.values() if tensor.name in used]
        for field, values in ((self._graph.node, self._nodes), (self._graph.initializer, constants)):
            del field[:]
            field.extend(values)

    def _floats(self, node: onnx.NodeProto) -> tuple[int, ...]:
        """Positions of the inputs that become FP16; none where the node stays as it is."""
        if self._outputs & set(node.output):
            return ()
        if node.op_type in COMPUTE:
            return COMPUTE[node.op_type]
        if node.op_type not in FOLLOW:
            return ()
        floats = FOLLOW[node.op_type] or tuple(range(len(node.input)))
        names = [node.input[index] for index in floats]
        follows = any(name in self._half for name in names)
        return floats if follows and all(name in self._half or name in self._constants for name in names) else ()

    def _as_half(self, name: str) -> str:
        half = f"{name}.fp16"
        if name not in self._constants:
            return self._cast(name, TensorProto.FLOAT16, half)
        if half not in self._constants:
            value = numpy_helper.to_array(self._constants[name])
            largest = np.abs(value).max(initial=0)
            if largest > _LARGEST:
                raise ValueError(f"weight '{name}' reaches {largest:.0f}, too large for FP16")
            self._constants[half] = numpy_helper.from_array(value.astype(np.float16), half)
        return half

    def _cast(self, name: str, to: int, target: str) -> str:
        if target not in self._casts:
            self._nodes.append(helper.make_node("Cast", [name], [target], name=f"node.{target}", to=to))
            self._casts.add(target)
        return target
