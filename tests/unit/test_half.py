"""The FP16 form of a graph: the same interface, half the weights, nearly the same numbers."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from pipelines.models.half import half_model

RNG = np.random.default_rng(0)
WEIGHT = RNG.standard_normal((8, 6)).astype(np.float32)
BIAS = RNG.standard_normal(6).astype(np.float32)


def model(weight: np.ndarray = WEIGHT) -> onnx.ModelProto:
    nodes = [
        helper.make_node("Abs", ["x"], ["positive"]),
        helper.make_node("MatMul", ["positive", "weight"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["biased"]),
        helper.make_node("Gelu", ["biased"], ["wide"]),
        helper.make_node("Add", ["wide", "biased"], ["sum"]),
        helper.make_node("LogSoftmax", ["sum"], ["y"], axis=-1),
    ]
    constants = [numpy_helper.from_array(weight, "weight"), numpy_helper.from_array(BIAS, "bias")]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 8])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 6])]
    graph = helper.make_graph(nodes, "g", inputs, outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def run(made: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


def test_numbers_and_types() -> None:
    x = RNG.standard_normal((5, 8)).astype(np.float32)
    original = model()
    half = half_model(original)
    found = run(half, x)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, run(original, x), atol=0.01)
    assert {tensor.data_type for tensor in half.graph.initializer} == {TensorProto.FLOAT16}
    assert {tensor.data_type for tensor in original.graph.initializer} == {TensorProto.FLOAT}


def test_casts_stand_only_where_the_two_meet() -> None:
    casts = [node for node in half_model(model()).graph.node if node.op_type == "Cast"]
    assert [(cast.input[0], cast.attribute[0].i) for cast in casts] == [
        ("positive", TensorProto.FLOAT16),
        ("sum", TensorProto.FLOAT),
    ]


def test_a_weight_that_does_not_fit() -> None:
    with pytest.raises(ValueError, match="'weight' reaches 70000, too large for FP16"):
        half_model(model(np.full((8, 6), 70_000, np.float32)))
