"""The parts that Moonshine's encoder and decoder layers are written from."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from pipelines.models.graph import CONTRIB, GraphWriter, LinearWriter
from pipelines.models.moonshine import (
    HEAD_WIDTH,
    HEADS,
    LAYER_NORM_EPSILON,
    ROTARY_BASE,
    ROTARY_WIDTH,
    WIDTH,
    Linear,
    WeightSource,
    beside,
)

_LITTLE = 400.0
"""What a key that is not real loses before softmax: enough for nothing, and little enough for FP16."""


class Layers:
    """Writes norms, products and attention into one graph.

    Args:
        graph: Gets the nodes.
        weights: Where the weights are looked up.
        linear: How a product with a weight is written.
        max_positions: Rows of the rotary tables.
        plain: Whether attention is written in ONNX's own operators, for any runtime, and not as one of ONNX Runtime's.
    """

    def __init__(
        self,
        graph: GraphWriter,
        weights: WeightSource,
        linear: LinearWriter,
        max_positions: int,
        *,
        plain: bool = False,
    ) -> None:
        self.graph, self.weights, self.plain = graph, weights, plain
        self._linear = linear
        self._biases: dict[str, str] = {}
        self._heads = graph.constant("heads", np.array([0, 0, HEADS, HEAD_WIDTH], np.int64))
        self._flat = graph.constant("flat", np.array([0, 0, WIDTH], np.int64))
        frequencies = ROTARY_BASE ** (-np.arange(0, ROTARY_WIDTH, 2, dtype=np.float64) / ROTARY_WIDTH)
        angles = np.arange(max_positions)[:, None] * frequencies
        self._cos = graph.constant("rotary.cos", np.cos(angles).astype(np.float32))
        self._sin = graph.constant("rotary.sin", np.sin(angles).astype(np.float32))

    def norm(self, x: str, name: str, output: str | None = None) -> str:
        """LayerNorm with a gain and no bias."""
        gain = self.graph.constant(f"{name}.gain", self.weights.vector(f"{name}/Mul"))
        return self.graph.node("LayerNormalization", x, gain, output=output, axis=-1, epsilon=LAYER_NORM_EPSILON)

    def product(self, x: str, matrix: Linear | str) -> str:
        """`x` times a matrix, given itself or by the node that used it."""
        linear = self.weights.linear(f"{matrix}/MatMul") if isinstance(matrix, str) else matrix
        return self._linear(self.graph, x, linear)

    def biased(self, x: str, name: str) -> str:
        """`x` times a matrix plus its bias."""
        bias = self.graph.constant(f"{name}.bias", self.weights.vector(f"{name}/Add"))
        return self.graph.node("Add", self.product(x, name), bias)

    def queries_keys_values(self, x: str, name: str, scale: float = 1.0) -> list[str]:
        """One product for all three, each (batch, tokens, 416); the queries times `scale`."""
        graph = self.graph
        query, key, value = (self.weights.linear(f"{name}/{part}_proj/MatMul") for part in "qkv")
        matrix = beside(f"{name}.qkv", query.scaled(scale), key, value)
        thirds = graph.constant("thirds", np.array([WIDTH] * 3, np.int64))
        return graph.nodes("Split", self.product(x, matrix), thirds, outputs=3, axis=-1)

    def split_heads(self, x: str) -> str:
        """(batch, tokens, 416) to (batch, 8, tokens, 52)."""
        return self.graph.node("Transpose", self.graph.node("Reshape", x, self._heads), perm=[0, 2, 1, 3])

    def rotate(self, x: str, positions: str) -> str:
        """Rotary embedding of (batch, 8, tokens, 52) or (batch, tokens, 416) at `positions` (batch, tokens)."""
        return self.graph.node(
            "RotaryEmbedding",
            x,
            self._cos,
            self._sin,
            positions,
            interleaved=1,
            rotary_embedding_dim=ROTARY_WIDTH,
            num_heads=HEADS,
        )

    def attention(self, queries: str, keys: str, values: str, mask: str = "") -> str:
        """Every head attends: three times (batch, tokens, 416) to (batch, queries, 416).

        `mask` int32 (batch, keys) is 1 for a key that is real; (batch,) counts of real keys do too if not `plain`.
        """
        graph = self.graph
        if not self.plain:
            masks = ["", mask] if mask else []  # the fourth input is a bias of the projections, which it has not
            return graph.node("MultiHeadAttention", queries, keys, values, *masks, domain=CONTRIB, num_heads=HEADS)
        scale = graph.constant("attention.scale", np.float32(HEAD_WIDTH**-0.5))
        scaled = graph.node("Mul", queries, scale)
        scores = self.scores(self.split_heads(scaled), self.split_heads(keys))
        if mask:
            scores = graph.node("Add", scores, self._bias(mask))
        return self.attend(scores, self.split_heads(values))

    def _bias(self, mask: str) -> str:
        """float32 (batch, 1, 1, keys): 0 for a real key, and so little for others that softmax gives them nothing."""
        if mask not in self._biases:
            graph = self.graph
            real = graph.node("Cast", mask, to=TensorProto.FLOAT)
            unreal = graph.node("Sub", real, graph.constant("one.float", np.float32(1)))
            little = graph.node("Mul", unreal, graph.constant("little", np.float32(_LITTLE)))
            self._biases[mask] = graph.node("Unsqueeze", little, graph.constant("axes12", np.array([1, 2], np.int64)))
        return self._biases[mask]

    def attend(self, scores: str, values: str) -> str:
        """Softmax of the scores, the mix of values, heads side by side: (batch, tokens, 416)."""
        mixed = self.graph.node("MatMul", self.graph.node("Softmax", scores, axis=-1), values)
        return self.graph.node("Reshape", self.graph.node("Transpose", mixed, perm=[0, 2, 1, 3]), self._flat)

    def scores(self, queries: str, keys: str) -> str:
        """Products of queries with keys, (batch, 8, queries, keys)."""
        return self.graph.node("MatMul", queries, self.graph.node("Transpose", keys, perm=[0, 1, 3, 2]))
