"""INT8 weights that no CPU saturates, and rows that keep their own scale."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from pipelines.acoustic.sessions import SessionOptions, open_session
from pipelines.models.dynamic import PAIR, dynamic_linear, limited, pair_limited
from pipelines.models.graph import GraphWriter, tensor
from pipelines.models.trained import quantized

RNG = np.random.default_rng(0)
WEIGHTS = RNG.standard_normal((65, 9)).astype(np.float32)


def written(weights: np.ndarray, **ways: tuple[str, ...]) -> onnx.ModelProto:
    graph = GraphWriter()
    graph.node("Identity", dynamic_linear(**ways)(graph, "x", quantized("w", weights)), output="y")
    inputs, outputs = weights.shape
    return graph.model("small", [tensor("x", ["rows", inputs])], [tensor("y", ["rows", outputs])])


def run(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    return onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})[0]


def pair_sums(q: np.ndarray) -> np.ndarray:
    sizes = np.abs(q.astype(int))
    return np.concatenate([sizes, np.zeros((len(q) % 2, q.shape[1]), int)]).reshape(-1, 2, q.shape[1]).sum(axis=1)


@given(arrays.arrays(np.int8, st.tuples(st.integers(1, 9), st.integers(1, 4)), elements=st.integers(-127, 127)))
def test_pairs_are_limited_and_nothing_else_is_touched(q: np.ndarray) -> None:
    found = limited(q)
    assert pair_sums(found).max() <= PAIR
    assert (np.sign(found) * np.sign(q) >= 0).all()
    whole = np.repeat(pair_sums(q) <= PAIR, 2, axis=0)[: len(q)]
    np.testing.assert_array_equal(found[whole], q[whole])
    assert (pair_sums(found)[pair_sums(q) > PAIR] == PAIR).all()


@pytest.mark.parametrize("weights", [WEIGHTS, np.ones((6, 2), np.float32), np.zeros((4, 3), np.float32)])
def test_limited_weights_are_nearer_than_seven_bits(weights: np.ndarray) -> None:
    q, scales = pair_limited(weights)
    assert pair_sums(q).max() <= PAIR
    seven = np.maximum(np.abs(weights).max(axis=0), 1e-9) / 63
    error = np.square(q * scales - weights).sum()
    assert error <= 0.8 * np.square(np.rint(weights / seven) * seven - weights).sum() + 1e-9


def test_quick_products_are_exact_on_every_cpu(tmp_path: Path) -> None:
    weights = np.full((64, 7), 1.0, np.float32)
    weights[::2, ::2] = 0.01
    onnx.save(written(weights), tmp_path / "model.onnx")
    q, scales = pair_limited(weights)
    x = np.full((5, 64), 255, np.float32)  # 255 times 64, twice, is what 16 bits just hold
    x[:, 0] = 0
    [found] = open_session(tmp_path / "model.onnx", 1, SessionOptions(exact_int8=False)).run(None, {"x": x})
    np.testing.assert_allclose(found, x @ (q * scales), rtol=1e-5)


def test_a_quiet_row_keeps_its_levels_beside_a_loud_one() -> None:
    x = RNG.standard_normal((2, 65)).astype(np.float32)
    x[1] *= 1e-4
    q, scales = pair_limited(WEIGHTS)
    expected = x @ (q * scales)

    def error(**ways: tuple[str, ...]) -> float:
        found = run(written(WEIGHTS, **ways), x)
        return float(np.linalg.norm(found[1] - expected[1]) / np.linalg.norm(expected[1]))

    assert error(by_row=("w",)) < 0.02 < 0.9 < error()
    assert np.isfinite(run(written(WEIGHTS, by_row=("w",)), np.zeros((2, 65), np.float32))).all()


def test_what_stays_fp32_is_a_plain_product() -> None:
    x = RNG.standard_normal((3, 65)).astype(np.float32)
    np.testing.assert_allclose(run(written(WEIGHTS, float32=("w",)), x), x @ WEIGHTS, rtol=1e-4, atol=1e-5)
