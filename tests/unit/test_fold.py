"""Folding and the graph writer, on small graphs that the tests make."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from pipelines.acoustic.sessions import EXACT_INT8, open_session
from pipelines.errors import AmiraError
from pipelines.models import graph as graphs
from pipelines.models.fold import fold, read_ort
from pipelines.models.moonshine import Linear, beside


def shipped(q: np.ndarray, scale: float, steps: int) -> onnx.ModelProto:
    """A product with a weight that is dequantised at every call, as the shipped files have it."""
    constants = [
        numpy_helper.from_array(q, "w_quantized"),
        numpy_helper.from_array(np.array([scale], np.float32), "w_scale"),
        numpy_helper.from_array(np.array([-scale * steps], np.float32), "w_zero_point"),
    ]
    nodes = [
        helper.make_node("Cast", ["w_quantized"], ["w_cast_tensor"], name="w_cast_node", to=TensorProto.FLOAT),
        helper.make_node("Mul", ["w_cast_tensor", "w_scale"], ["w_mul_tensor"], name="w_mul_node"),
        helper.make_node("Add", ["w_mul_tensor", "w_zero_point"], ["w_add_tensor"], name="w_add_node"),
        helper.make_node("MatMul", ["x", "w_add_tensor"], ["y"], name="product"),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", q.shape[0]])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", q.shape[1]])]
    return helper.make_model(
        helper.make_graph(nodes, "main", inputs, outputs, constants),
        opset_imports=[helper.make_opsetid("", 14), helper.make_opsetid("com.microsoft", 1)],
        ir_version=8,
    )


def run(model: onnx.ModelProto, **feeds: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry(EXACT_INT8, "1")
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    [result] = session.run(None, feeds)
    return result


def weights(inputs: int = 64, outputs: int = 7) -> np.ndarray:
    return np.random.default_rng(0).integers(-128, 128, (inputs, outputs), np.int8)


def rows(inputs: int = 64) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((5, inputs)).astype(np.float32)


def linear(name: str, q: np.ndarray, scale: float, zero_point: int) -> Linear:
    scales = np.full(q.shape[1], scale, np.float32)
    zeros = np.full(q.shape[1], zero_point, np.int32)
    return Linear(name, (scales * (q.astype(np.float32) - zero_point)).astype(np.float32), q, scales, zeros)


def written(writer: graphs.LinearWriter, matrix: Linear) -> onnx.ModelProto:
    graph = graphs.GraphWriter()
    product = writer(graph, "x", matrix)
    graph.node("Identity", product, output="y")
    inputs, outputs = matrix.q.shape
    return graph.model("test", [graphs.tensor("x", ["n", inputs])], [graphs.tensor("y", ["n", outputs])])


def test_fold_keeps_the_output_and_removes_the_chain() -> None:
    before = shipped(weights(), 0.01, 3)
    expected = run(before, x=rows())
    folded = fold(before)
    assert [node.op_type for node in folded.model.graph.node] == ["MatMul"]
    assert [entry.domain for entry in folded.model.opset_import] == [""]
    np.testing.assert_array_equal(run(folded.model, x=rows()), expected)


def test_fold_keeps_the_shipped_integers() -> None:
    folded = fold(shipped(weights(), 0.01, 3))
    weight = folded.affine["w_add_tensor"]
    np.testing.assert_array_equal(weight.q, weights())
    assert weight.zero_point == 3
    np.testing.assert_allclose(weight.scale * (weight.q.astype(np.float32) - 3), weight.value, atol=1e-6)


def test_fold_refuses_an_offset_that_is_no_whole_step() -> None:
    model = shipped(weights(), 0.01, 3)
    model.graph.initializer[2].CopyFrom(numpy_helper.from_array(np.array([0.015], np.float32), "w_zero_point"))
    with pytest.raises(AmiraError, match="not a whole number"):
        fold(model)


def test_fold_refuses_a_model_without_chains() -> None:
    folded = fold(shipped(weights(), 0.01, 3))
    with pytest.raises(AmiraError, match="no dequantisation chains"):
        fold(folded.model)


def test_read_ort_refuses_what_is_no_model(tmp_path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "model.ort"
    path.write_bytes(b"nonsense")
    with pytest.raises(AmiraError, match=r"model\.ort is not an ORT model"):
        read_ort(path)


def test_integer_products_round_activations_only() -> None:
    matrix = linear("w", weights(), 0.02, -5)
    # Rows that 8 bits hold exactly come out exactly: the weights are not rounded again.
    exact = np.round(rows() * 20).clip(-127, 128).astype(np.float32)
    exact[0, :2] = (-127, 128)
    found = run(written(graphs.integer_linear, matrix), x=exact)
    np.testing.assert_allclose(found, exact @ matrix.value, rtol=1e-5, atol=1e-3)


def test_sessions_multiply_integers_exactly_on_every_cpu(tmp_path: Path) -> None:
    matrix = linear("w", np.full((64, 7), 127, np.int8), 1.0, 0)
    onnx.save(written(graphs.integer_linear, matrix), tmp_path / "model.onnx")
    x = np.full((5, 64), 255, np.float32)
    x[:, 0] = 0  # 255 times 127, twice, is more than 16 bits hold
    [found] = open_session(tmp_path / "model.onnx", 1).run(None, {"x": x})
    np.testing.assert_allclose(found, x @ matrix.value, rtol=1e-5)


@pytest.mark.parametrize("writer", [graphs.float_linear, graphs.blockwise_linear, graphs.integer_linear])
def test_linear_writers_multiply(writer: graphs.LinearWriter) -> None:
    matrix = linear("w", weights(), 0.02, -5)
    expected = rows() @ matrix.value
    error = np.linalg.norm(run(written(writer, matrix), x=rows()) - expected) / np.linalg.norm(expected)
    assert error < (1e-6 if writer is graphs.float_linear else 0.01)


def test_blockwise_weights_are_exact() -> None:
    matrix = linear("w", weights(), 0.02, -5)
    identity = np.eye(64, dtype=np.float32) * 127  # each row and block holds one value: rounding keeps it
    np.testing.assert_allclose(
        run(written(graphs.blockwise_linear, matrix), x=identity) / 127, matrix.value, rtol=1e-5, atol=1e-6
    )


def test_matrices_beside_each_other_keep_their_own_scale() -> None:
    first, second = linear("a", weights(), 0.02, -5), linear("b", weights(), 0.5, 9)
    joined = beside("ab", first.scaled(0.25), second)
    expected = np.concatenate([rows() @ first.value * 0.25, rows() @ second.value], axis=1)
    for writer in (graphs.float_linear, graphs.blockwise_linear, graphs.integer_linear):
        found = run(written(writer, joined), x=rows())
        for part in (slice(0, 7), slice(7, 14)):
            assert np.linalg.norm(found[:, part] - expected[:, part]) < 0.01 * np.linalg.norm(expected[:, part])
