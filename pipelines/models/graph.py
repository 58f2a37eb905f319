"""A small ONNX graph writer, and the two ways in which a matrix product is written."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from pipelines.models.moonshine import Linear

OPSET = 23
"""The first opset with `RotaryEmbedding`."""
CONTRIB = "com.microsoft"


class GraphWriter:
    """Collects nodes and constants; every method returns the name of the tensor that it makes."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}

    def constant(self, name: str, value: npt.ArrayLike) -> str:
        """A named constant; asking again for the same name gives the first."""
        if name not in self._constants:
            self._constants[name] = numpy_helper.from_array(np.asarray(value), name)
        return name

    def node(self, op: str, *inputs: str, output: str | None = None, domain: str = "", **attributes: Any) -> str:
        """A node with one output."""
        target = output or f"{op}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(op, inputs, [target], name=f"node.{target}", domain=domain, **attributes))
        return target

    def nodes(self, op: str, *inputs: str, outputs: int, **attributes: Any) -> list[str]:
        """A node with several outputs."""
        targets = [f"{op}_{len(self._nodes)}_{index}" for index in range(outputs)]
        self._nodes.append(helper.make_node(op, inputs, targets, name=f"node.{targets[0]}", **attributes))
        return targets

    def model(
        self, name: str, inputs: list[onnx.ValueInfoProto], outputs: list[onnx.ValueInfoProto]
    ) -> onnx.ModelProto:
        """The checked model; constants that no node uses are left out."""
        used = {name for node in self._nodes for name in node.input}
        constants = [constant for constant in self._constants.values() if constant.name in used]
        graph = helper.make_graph(self._nodes, name, inputs, outputs, constants)
        domains = {"": OPSET} | ({CONTRIB: 1} if any(node.domain == CONTRIB for node in self._nodes) else {})
        opsets = [helper.make_opsetid(domain, version) for domain, version in domains.items()]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=11, producer_name="amira-asr")
        onnx.checker.check_model(model)
        return model


def tensor(name: str, shape: list[int | str], kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    """A graph input or output."""
    return helper.make_tensor_value_info(name, kind, shape)


class LinearWriter(Protocol):
    """Writes `x @ matrix` in one precision."""

    def __call__(self, graph: GraphWriter, x: str, matrix: Linear) -> str:
        """Add the product's nodes to `graph` and return its output."""
        ...


def float_linear(graph: GraphWriter, x: str, matrix: Linear) -> str:
    """FP32: a plain MatMul."""
    return graph.node("MatMul", x, graph.constant(matrix.name, np.ascontiguousarray(matrix.value)))


def mixed_linear(linear: LinearWriter, float32: Collection[str]) -> LinearWriter:
    """`linear`, but FP32 for the matrices of those names."""

    def write(graph: GraphWriter, x: str, matrix: Linear) -> str:
        chosen = float_linear if matrix.name in float32 else linear
        return chosen(graph, x, matrix)

    return write


BLOCK = 32
"""Inputs that share one activation scale in `blockwise_linear`; it divides 416 and 1,664."""


def blockwise_linear(graph: GraphWriter, x: str, matrix: Linear) -> str:
    """INT8 for few rows: `MatMulNBits` with the shipped int8 weights, activations rounded to int8 per row and block.

    The weights are read once, at a quarter of FP32's bytes. Exact in the weights: every block carries the scale
    and zero point that the tensor was shipped with.
    """
    inputs, outputs = matrix.q.shape
    blocks = inputs // BLOCK
    packed = blockwise(matrix)
    scales = np.repeat(matrix.scale[:, None], blocks, axis=1)
    zero_points = np.repeat((matrix.zero_point + 128).astype(np.uint8)[:, None], blocks, axis=1)
    return graph.node(
        "MatMulNBits",
        x,
        graph.constant(f"{matrix.name}.q", packed),
        graph.constant(f"{matrix.name}.scale", scales),
        graph.constant(f"{matrix.name}.zero_point", zero_points),
        domain=CONTRIB,
        K=inputs,
        N=outputs,
        bits=8,
        block_size=BLOCK,
        accuracy_level=4,
    )


def blockwise(matrix: Linear) -> npt.NDArray[np.uint8]:
    """`MatMulNBits`'s layout of a matrix: uint8 (outputs, blocks, block)."""
    shifted = (matrix.q.T.astype(np.int16) + 128).astype(np.uint8)
    return np.ascontiguousarray(shifted).reshape(shifted.shape[0], -1, BLOCK)


def block_scaled_linear(graph: GraphWriter, x: str, matrix: Linear) -> str:
    """INT8 for few rows, from float weights: as `blockwise_linear`, with a scale for each block of each output.

    A weight that is large against its neighbours then costs the 32 of its own block their accuracy, and no others. The
    file holds scales in half precision, a twentieth of a small model; they become FP32 when the graph is loaded.
    """
    inputs, outputs = matrix.value.shape
    padded = np.zeros((-(-inputs // BLOCK) * BLOCK, outputs), np.float32)
    padded[:inputs] = matrix.value
    blocks = padded.T.reshape(outputs, -1, BLOCK)
    largest = np.abs(blocks).max(axis=2) / np.float32(127)
    scales = np.maximum(largest, np.finfo(np.float16).tiny).astype(np.float16)
    rounded = np.clip(np.rint(blocks / scales[:, :, None].astype(np.float32)), -127, 127)
    packed = (rounded + 128).astype(np.uint8)  # 128 stands for 0 where nothing else is said
    half = graph.constant(f"{matrix.name}.scale", scales)
    return graph.node(
        "MatMulNBits",
        x,
        graph.constant(f"{matrix.name}.q", packed),
        graph.node("Cast", half, to=TensorProto.FLOAT),
        domain=CONTRIB,
        K=inputs,
        N=outputs,
        bits=8,
        block_size=BLOCK,
        accuracy_level=4,
    )


def integer_linear(graph: GraphWriter, x: str, matrix: Linear) -> str:
    """INT8 for many rows: activations rounded to uint8 with one scale for the tensor, integer product, rescaled.

    ONNX Runtime fuses these nodes into one.
    """
    rounded, scale, offset = quantized(graph, x)
    q = graph.constant(f"{matrix.name}.q", np.ascontiguousarray(matrix.q))
    zero_points = graph.constant(f"{matrix.name}.zero_point", _one_if_equal(matrix.zero_point.astype(np.int8)))
    product = graph.node("MatMulInteger", rounded, q, offset, zero_points)
    gain = graph.node("Mul", scale, graph.constant(f"{matrix.name}.scale", matrix.scale))
    return graph.node("Mul", graph.node("Cast", product, to=TensorProto.FLOAT), gain)


def quantized(graph: GraphWriter, x: str) -> list[str]:
    """uint8 values, scale and zero point of `x`."""
    return graph.nodes("DynamicQuantizeLinear", x, outputs=3)


def _one_if_equal(values: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
    return values[0] if (values == values[0]).all() else values
