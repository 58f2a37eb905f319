"""Ranges for eight bits, products that are left out, and Q/DQ that says nearly what FP32 says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from pipelines.errors import AmiraError
from pipelines.models import calibration, native
from pipelines.models.calibration import Distance, calibrate, sensitive, worthwhile
from pipelines.models.forms import Forms, ctc_forms
from pipelines.models.graph import GraphWriter, float_linear, tensor
from pipelines.models.ladder import precisions, writers
from pipelines.models.layers import Layers
from pipelines.models.qdq import SmoothedWeights, balance, qdq_linear
from pipelines.models.ranges import Magnitudes
from pipelines.models.trained import quantized
from tests.trained_weights import stream_weights, write_weights

RNG = np.random.default_rng(0)
WIDTH = 416


class Weights:
    """A norm and two products behind each other."""

    def vector(self, node: str) -> np.ndarray:
        return np.linspace(0.5, 2, WIDTH, dtype=np.float32)

    def linear(self, node: str):
        rows = np.random.default_rng(1).standard_normal((WIDTH, WIDTH)).astype(np.float32) / 20
        return quantized(node.replace("/", "."), rows)


def write(weights, linear, *, plain: bool = False):
    graph = GraphWriter()
    layers = Layers(graph, weights, linear, 4, plain=plain)
    wave = graph.node("Reshape", "input_values", graph.constant("rows", np.array([1, -1, WIDTH])))
    wide = layers.product(layers.norm(wave, "layers.0/post_attention_layernorm"), "layers.0/mlp/fc1")
    layers.graph.node("Tanh", layers.product(wide, "layers.0/mlp/fc2"), output="last_hidden_state")
    inputs = [tensor("input_values", ["batch", "samples"])]
    return graph.model("small", inputs, [tensor("last_hidden_state", [1, "frames", WIDTH])])


FORMS = Forms("small", Weights(), write, float_linear, "last_hidden_state", None, {"weights": "1"})
CLIPS = [RNG.standard_normal(WIDTH * 6).astype(np.float32) for _ in range(8)]


def run(model, clip: np.ndarray) -> np.ndarray:
    return onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"input_values": clip[None]})[0]


def test_a_convolution_in_two_factors_is_calibrated_like_a_whole_one(tmp_path: Path) -> None:
    """Its first factor stands behind the stem's norm; its second reads other channels, fewer than the model's."""
    weights = write_weights(
        tmp_path / "stream-ctc-draft", stream_weights(1, (24, 16)),
        streaming=True, layers=1, left_frames=8, stem_rank=[24, 16], stem_mean=0.02, stem_std=0.3,
    )  # fmt: skip
    forms = ctc_forms(weights)
    seen = calibration._observe(forms, forms.weights, [RNG.standard_normal(8_000).astype(np.float32) / 10])
    assert {"conv2.down", "conv2.up"} <= set(seen)
    factors = calibration._factors(forms.products(), seen)["groupnorm"]
    assert factors.shape == (WIDTH,) and factors.std() > 0


def test_a_histogram_that_grows_counts_as_one_that_does_not() -> None:
    x = RNG.standard_normal((500, 8)).astype(np.float32)
    grown = Magnitudes()
    for part in np.array_split(x * np.linspace(0.1, 9, 500, dtype=np.float32)[:, None], 10):
        grown.add(part)
    every = np.abs(x * np.linspace(0.1, 9, 500, dtype=np.float32)[:, None])
    assert grown.counts.sum() == every.size
    assert grown.largest == every.max()
    np.testing.assert_array_equal(grown.channels, every.max(axis=0))
    assert grown.percentile(90) == pytest.approx(np.percentile(every, 90), abs=2 * grown.limit / 2048)


def test_entropy_clips_a_lonely_outlier_and_keeps_what_is_spread_evenly() -> None:
    lonely, even = Magnitudes(), Magnitudes()
    x = RNG.standard_normal((2_000, 4)).astype(np.float32)
    x[0, 0] = 100
    lonely.add(x)
    even.add(RNG.uniform(-1, 1, (4_000, 4)).astype(np.float32))
    assert lonely.entropy() < 50
    assert even.entropy() > 0.9


def test_balance_changes_no_fp32_result() -> None:
    factors = {"layers.0/post_attention_layernorm": balance(*RNG.uniform(0.1, 5, (2, WIDTH)).astype(np.float32))}
    smooth = write(SmoothedWeights(Weights(), factors), float_linear)
    np.testing.assert_allclose(run(smooth, CLIPS[0]), run(write(Weights(), float_linear), CLIPS[0]), atol=1e-5)


def test_calibrated_int8_is_near_fp32_and_is_stored_for_its_weights_alone(tmp_path: Path) -> None:
    found = calibrate(FORMS, "noise", CLIPS, lambda text: None)
    assert set(found.rules) == {"layers.0.mlp.fc1.MatMul", "layers.0.mlp.fc2.MatMul"}
    assert set(found.dynamic.ways) == set(found.rules)
    assert found.dynamic.together["chosen"].divergence <= found.dynamic.together["all"].divergence < 0.05
    assert found.together["chosen"].divergence <= found.together["all"].divergence < 0.05
    path = tmp_path / calibration.FILE
    path.write_text(found.model_dump_json(), "utf-8")
    assert calibration.read(path, FORMS) == found
    assert calibration.read(path, replace(FORMS, sources={"weights": "2"})) is None
    expected = run(write(Weights(), float_linear), CLIPS[0])
    made = writers(FORMS, ("fp32", "fp16", "int8", "int8-ort"), path, lambda text: None)
    for form in ("plain", "fp16", "int8-qdq", "int8-balanced", "int8-dynamic", "int8-static"):
        model = made[form]()
        assert form in ("int8-dynamic", "int8-static", "int8-balanced") or {
            node.domain for node in model.graph.node
        } == {""}
        assert np.abs(run(model, CLIPS[0]) - expected).mean() < 0.05, form
    path.write_text("{}", "utf-8")
    with pytest.raises(AmiraError, match="amira models calibrate small"):
        calibration.read(path, FORMS)


def test_without_a_calibration_int8_is_left_out_and_a_rival_refused(tmp_path: Path) -> None:
    said: list[str] = []
    made = writers(FORMS, ("fp32", "int8"), tmp_path / "none.json", said.append)
    assert not {"int8-qdq", "int8-balanced"} & set(made)
    assert "amira models calibrate small" in said[0]
    with pytest.raises(AmiraError, match="int8-static cannot be built"):
        writers(FORMS, ("int8-ort",), tmp_path / "none.json", said.append)
    with pytest.raises(AmiraError, match="fp8"):
        precisions("fp32,fp8")
    assert precisions("int8") == ("fp32", "int8")


def test_what_cannot_be_told_from_one_clip() -> None:
    with pytest.raises(AmiraError, match="1 clip cannot tell"):
        calibrate(FORMS, "one.wav", CLIPS[:1], lambda text: None)


def test_products_that_make_much_of_the_whole_are_left_out_until_it_is_little() -> None:
    alone = {"a": 0.05, "b": 0.002, "c": 0.0001}
    assert sensitive(alone, (), Distance(divergence=0.06, flipped=0)) == ("a",)
    assert sensitive(alone, ("a",), Distance(divergence=0.003, flipped=0)) == ("b",)
    assert sensitive(alone, ("a", "b"), Distance(divergence=1e-4, flipped=0)) == ()


def test_what_costs_least_for_what_it_brings_is_changed_first() -> None:
    products = {
        "small": quantized("small", np.ones((400, 10), np.float32)),
        "large": quantized("large", np.ones((400, 4_000), np.float32)),
    }
    alone = {"tensor": {"small": 0.01, "large": 1.0}, "row": {"small": 0.01, "large": 0.2}}
    assert worthwhile(products, alone, {"small": "tensor", "large": "tensor"}) == ("large", "row")
    assert worthwhile(products, alone, {"small": "tensor", "large": "row"}) == ("small", "float32")
    assert worthwhile(products, alone, {"small": "float32", "large": "row"}) == ("large", "float32")
    assert worthwhile(products, alone, {"small": "float32", "large": "float32"}) is None


def test_a_product_without_a_range_stays_as_it_is() -> None:
    model = write(Weights(), qdq_linear({"layers.0.mlp.fc1.MatMul": 3.0}))
    assert sum(node.op_type == "QuantizeLinear" for node in model.graph.node) == 1
    ranges = native.static_ranges(FORMS, CLIPS[:2])
    assert all(low < high and least < most for low, high, least, most in ranges.values())
