"""The head of tokens as a graph, beside the same in loops of NumPy."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="onnx is not installed")

from onnx.reference import ReferenceEvaluator  # noqa: E402

from pipelines.models.graph import GraphWriter, float_linear, tensor  # noqa: E402
from pipelines.models.layers import Layers  # noqa: E402
from pipelines.models.moonshine import WIDTH, Float32  # noqa: E402
from pipelines.models.token_head import READS, rows, token_head, with_units  # noqa: E402
from tests.trained_weights import token_head as random_head  # noqa: E402


def _norm(x: Float32, gain: Any = 1, bias: Any = 0) -> Float32:
    spread = np.sqrt(x.var(axis=-1, keepdims=True) + 1e-5)
    return (x - x.mean(axis=-1, keepdims=True)) / spread * gain + bias


def _sigmoid(x: Float32) -> Float32:
    return 1 / (1 + np.exp(-x))


def expected(own: dict[str, Float32], outputs: list[Float32]) -> Float32:
    """States of one clip, whose frames are all real."""

    def product(x: Float32, name: str) -> Float32:
        return x @ own[f"head.{name}.weight"].T + own[f"head.{name}.bias"]

    def own_norm(x: Float32, index: int) -> Float32:
        return _norm(x, own[f"head.norms.{index}.weight"], own[f"head.norms.{index}.bias"])

    shares = np.exp(own["head.mix"]) / np.exp(own["head.mix"]).sum()
    x = product(sum(share * _norm(each) for share, each in zip(shares, outputs, strict=True)), "enter")
    doubled = product(own_norm(x, 0), "gate")
    gated = doubled[:, :WIDTH] * _sigmoid(doubled[:, WIDTH:])
    around = np.pad(gated, ((5, 5), (0, 0)))
    across = np.zeros_like(gated)
    for frame in range(len(gated)):
        for step in range(11):
            across[frame] += around[frame + step] * own["head.across.weight"][:, 0, step]
    across += own["head.across.bias"]
    x = x + product(across * _sigmoid(across), "after")
    wide = product(own_norm(x, 1), "wide")
    x = x + product(wide * _sigmoid(wide), "narrow")
    halves = np.stack([x[start : start + 2].mean(axis=0) for start in range(0, len(x), 2)])
    return own_norm(halves, 2)


def test_the_graph_says_what_the_formulas_say_for_odd_even_and_padded_clips() -> None:
    own = {name: np.asarray(value, np.float32) for name, value in random_head().items()}
    graph = GraphWriter()
    layers = Layers(graph, SimpleNamespace(own=own.__getitem__), float_linear, 8)  # type: ignore[arg-type]
    names = {layer: f"layer{layer}" for layer in READS}
    states = token_head(layers, names, "real")
    shape: list[int | str] = ["batch", "frames", WIDTH]
    inputs = [*(tensor(name, shape) for name in names.values()), tensor("real", ["batch", "frames", 1])]
    model = ReferenceEvaluator(graph.model("head", inputs, [tensor(states, ["batch", "half", WIDTH])]))
    rng, counts = np.random.default_rng(1), [13, 8, 1]
    clips = [[rng.standard_normal((count, WIDTH)).astype(np.float32) for _ in READS] for count in counts]
    feeds = {name: rng.standard_normal((3, 13, WIDTH)).astype(np.float32) for name in names.values()}
    for row, clip in enumerate(clips):
        for name, output in zip(names.values(), clip, strict=True):
            feeds[name][row, : counts[row]] = output
    feeds["real"] = (np.arange(13)[None] < np.array(counts)[:, None]).astype(np.float32)[..., None]
    [found] = model.run(None, feeds)
    assert found.shape == (3, 7, WIDTH)
    for row, clip in enumerate(clips):
        wanted = expected(own, clip)
        np.testing.assert_allclose(found[row, : len(wanted)], wanted, rtol=1e-4, atol=1e-4)


def test_a_label_is_the_product_of_a_state_with_its_row() -> None:
    own = {name: np.asarray(value, np.float32) for name, value in random_head(range(2, 9)).items()}
    embedding = np.random.default_rng(2).standard_normal((20, WIDTH)).astype(np.float32)
    made = with_units(own, embedding)
    state = np.random.default_rng(3).standard_normal(WIDTH).astype(np.float32)
    logits = made["head.weight"] @ state + made["head.bias"]
    assert logits.shape == (8,)
    assert np.array_equal(made["head.weight"], made["head.weight"].astype(np.float16))
    assert logits[0] == pytest.approx(
        own["head.blank.weight"][0] @ state + own["head.blank.bias"][0], rel=1e-3, abs=1e-3
    )
    said = own["head.units.weight"] @ state + own["head.units.bias"]
    for label, token in enumerate(range(2, 9), 1):
        row = rows(embedding[2:9])[token - 2]
        assert logits[label] == pytest.approx(
            np.exp(own["head.scale"]) * (row @ said) + own["head.bias"][label - 1], rel=1e-3, abs=1e-3
        )
    assert rows(embedding).mean(axis=0) == pytest.approx(np.zeros(WIDTH), abs=1e-6)
    assert np.linalg.norm(rows(embedding), axis=1).mean() == pytest.approx(1, rel=1e-5)
