"""The decoder as two graphs of our own: `cross` once per clip, `step` for each group of tokens.

The shipped decoder is one merged graph: an `If` between a first step and a cached step, which takes the encoder's
keys in and hands them out again at every step. Ours has no `If`: a step takes any number of tokens after any
number of cached ones (zero at first), so the first step, a cached step and the parallel check of a whole draft are
one graph. Cross-attention keys and values are computed once per clip and only read afterwards.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import onnx
from onnx import TensorProto

from pipelines.models.graph import BLOCK, GraphWriter, LinearWriter, blockwise, tensor
from pipelines.models.moonshine import (
    HEAD_WIDTH,
    HEADS,
    LAYER_NORM_EPSILON,
    LAYERS,
    ROTARY_BASE,
    ROTARY_WIDTH,
    VOCABULARY,
    WIDTH,
    DecoderWeights,
    Linear,
    beside,
)

MAX_POSITIONS = 1024
"""Rows of the rotary tables: the longest transcript in tokens."""
_MASKED = np.float32(-1e9)


def cross_graph(weights: DecoderWeights, linear: LinearWriter) -> onnx.ModelProto:
    """Encoder output to the cross-attention keys and values of every layer.

    Inputs: `hidden` float32 (batch, frames, 416).
    Outputs, per layer: `cross_key.L` float32 (batch, 8, 52, frames), already transposed for the product with the
    queries, and `cross_value.L` float32 (batch, 8, frames, 52).
    """
    graph = GraphWriter()
    heads = graph.constant("heads", np.array([0, 0, HEADS, HEAD_WIDTH], np.int64))
    outputs = []
    for layer in range(LAYERS):
        for kind, order in (("key", [0, 2, 3, 1]), ("value", [0, 2, 1, 3])):
            matrix = weights.linear(f"layers.{layer}/encoder_attn/{kind[0]}_proj/MatMul")
            split = graph.node("Reshape", linear(graph, "hidden", matrix), heads)
            graph.node("Transpose", split, output=f"cross_{kind}.{layer}", perm=order)
            outputs.append(tensor(f"cross_{kind}.{layer}", _cross_shape(kind)))
    return graph.model("moonshine_cross", [tensor("hidden", ["batch", "frames", WIDTH])], outputs)


def step_graph(weights: DecoderWeights, linear: LinearWriter, vocabulary: VocabularyWriter) -> onnx.ModelProto:
    """Tokens and cache to logits and a longer cache.

    Inputs: `input_ids` int64 (batch, tokens); per layer `past_key.L`, `past_value.L` float32 (batch, 8, past, 52)
    and the outputs of `cross_graph`.
    Outputs: `logits` float32 (batch, tokens, 32768); per layer `present_key.L`, `present_value.L` float32
    (batch, 8, past + tokens, 52).
    """
    graph = GraphWriter()
    embed, project = vocabulary(graph, weights.embedding())
    block = _Block(graph, weights, linear)
    x = embed("input_ids")
    for layer in range(LAYERS):
        x = block.self_attention(x, layer)
        x = block.cross_attention(x, layer)
        x = block.feed_forward(x, layer)
    flat = graph.node("Reshape", block.norm(x, "norm"), graph.constant("rows", np.array([-1, WIDTH], np.int64)))
    shape = graph.node(
        "Concat",
        graph.node("Shape", "input_ids"),
        graph.constant("vocabulary", np.array([VOCABULARY])),
        axis=0,
    )
    graph.node("Reshape", project(flat), shape, output="logits")
    inputs = [tensor("input_ids", ["batch", "tokens"], TensorProto.INT64)]
    outputs = [tensor("logits", ["batch", "tokens", VOCABULARY])]
    for layer in range(LAYERS):
        for kind in ("key", "value"):
            inputs.append(tensor(f"past_{kind}.{layer}", ["batch", HEADS, "past", HEAD_WIDTH]))
            inputs.append(tensor(f"cross_{kind}.{layer}", _cross_shape(kind)))
            outputs.append(tensor(f"present_{kind}.{layer}", ["batch", HEADS, "total", HEAD_WIDTH]))
    return graph.model("moonshine_decoder_step", inputs, outputs)


def _cross_shape(kind: str) -> list[int | str]:
    return ["batch", HEADS, HEAD_WIDTH, "frames"] if kind == "key" else ["batch", HEADS, "frames", HEAD_WIDTH]


Lookup = Callable[[str], str]
VocabularyWriter = Callable[[GraphWriter, Linear], tuple[Lookup, Lookup]]
"""Writes the token table once and returns its two uses: ids to embeddings, and final states to logits."""


def float_vocabulary(graph: GraphWriter, embedding: Linear) -> tuple[Lookup, Lookup]:
    """FP32: one table (vocabulary, width), looked up by Gather and multiplied by as the transposed matrix of a Gemm."""
    table = graph.constant("embedding", np.ascontiguousarray(embedding.value.T))
    return (
        lambda ids: graph.node("Gather", table, ids),
        lambda states: graph.node("Gemm", states, table, transB=1),
    )


def blockwise_vocabulary(graph: GraphWriter, embedding: Linear) -> tuple[Lookup, Lookup]:
    """INT8: one table in `MatMulNBits`'s layout; a looked-up row is dequantised exactly."""
    from pipelines.models.graph import blockwise_linear

    def embed(ids: str) -> str:
        table = graph.constant("embedding.q", blockwise(embedding))
        blocks = graph.node("Cast", graph.node("Gather", table, ids), to=TensorProto.FLOAT)
        rows = graph.node("Reshape", blocks, graph.constant("joined", np.array([0, 0, WIDTH], np.int64)))
        zero = graph.constant("embedding.offset", np.float32(embedding.zero_point[0] + 128))
        return graph.node("Mul", graph.node("Sub", rows, zero), graph.constant("embedding.step", embedding.scale[0]))

    if WIDTH % BLOCK:
        raise ValueError(f"width {WIDTH} is no multiple of the block {BLOCK}")
    return embed, lambda states: blockwise_linear(graph, states, embedding)


class _Block:
    """Writes the three residual parts of a decoder layer."""

    def __init__(self, graph: GraphWriter, weights: DecoderWeights, linear: LinearWriter) -> None:
        self._graph, self._weights, self._linear = graph, weights, linear
        self._heads = graph.constant("heads", np.array([0, 0, HEADS, HEAD_WIDTH], np.int64))
        self._flat = graph.constant("flat", np.array([0, 0, WIDTH], np.int64))
        self._positions_and_mask()
        frequencies = ROTARY_BASE ** (-np.arange(0, ROTARY_WIDTH, 2, dtype=np.float64) / ROTARY_WIDTH)
        angles = np.arange(MAX_POSITIONS)[:, None] * frequencies
        self._cos = graph.constant("rotary.cos", np.cos(angles).astype(np.float32))
        self._sin = graph.constant("rotary.sin", np.sin(angles).astype(np.float32))

    def norm(self, x: str, name: str) -> str:
        gain = self._graph.constant(f"{name}.gain", self._weights.vector(f"{name}/Mul"))
        return self._graph.node("LayerNormalization", x, gain, axis=-1, epsilon=LAYER_NORM_EPSILON)

    def self_attention(self, x: str, layer: int) -> str:
        graph, name = self._graph, f"layers.{layer}"
        query, key, value = (self._weights.linear(f"{name}/self_attn/{part}_proj/MatMul") for part in "qkv")
        matrix = beside(f"{name}.qkv", query.scaled(1 / math.sqrt(HEAD_WIDTH)), key, value)
        thirds = graph.constant("thirds", np.array([WIDTH] * 3, np.int64))
        joined = self._linear(graph, self.norm(x, f"{name}/input_layernorm"), matrix)
        q, k, v = map(self._split_heads, graph.nodes("Split", joined, thirds, outputs=3, axis=-1))
        keys = graph.node("Concat", f"past_key.{layer}", self._rotate(k), output=f"present_key.{layer}", axis=2)
        values = graph.node("Concat", f"past_value.{layer}", v, output=f"present_value.{layer}", axis=2)
        scores = graph.node("MatMul", self._rotate(q), graph.node("Transpose", keys, perm=[0, 1, 3, 2]))
        attended = self._attend(graph.node("Add", scores, self._mask), values)
        return graph.node(
            "Add", x, self._linear(graph, attended, self._weights.linear(f"{name}/self_attn/dense/MatMul"))
        )

    def cross_attention(self, x: str, layer: int) -> str:
        graph, name = self._graph, f"layers.{layer}/encoder_attn"
        matrix = self._weights.linear(f"{name}/q_proj/MatMul").scaled(1 / math.sqrt(HEAD_WIDTH))
        normed = self.norm(x, f"layers.{layer}/post_attention_layernorm")
        query = self._split_heads(self._linear(graph, normed, matrix))
        attended = self._attend(graph.node("MatMul", query, f"cross_key.{layer}"), f"cross_value.{layer}")
        return graph.node("Add", x, self._linear(graph, attended, self._weights.linear(f"{name}/dense/MatMul")))

    def feed_forward(self, x: str, layer: int) -> str:
        """SwiGLU: the second half of the upper projection gates the first."""
        graph, name = self._graph, f"layers.{layer}/mlp"
        halves = graph.constant("halves", np.array([4 * WIDTH] * 2, np.int64))
        normed = self.norm(x, f"layers.{layer}/final_layernorm")
        value, gate = graph.nodes("Split", self._biased(normed, f"{name}/up_proj"), halves, outputs=2, axis=-1)
        gated = graph.node("Mul", graph.node("Mul", gate, graph.node("Sigmoid", gate)), value)
        return graph.node("Add", x, self._biased(gated, f"{name}/down_proj"))

    def _biased(self, x: str, name: str) -> str:
        bias = self._graph.constant(f"{name}.bias", self._weights.vector(f"{name}/Add"))
        return self._graph.node("Add", self._linear(self._graph, x, self._weights.linear(f"{name}/MatMul")), bias)

    def _split_heads(self, x: str) -> str:
        return self._graph.node("Transpose", self._graph.node("Reshape", x, self._heads), perm=[0, 2, 1, 3])

    def _attend(self, scores: str, values: str) -> str:
        mixed = self._graph.node("MatMul", self._graph.node("Softmax", scores, axis=-1), values)
        return self._graph.node("Reshape", self._graph.node("Transpose", mixed, perm=[0, 2, 1, 3]), self._flat)

    def _rotate(self, x: str) -> str:
        return self._graph.node(
            "RotaryEmbedding",
            x,
            self._cos,
            self._sin,
            self._positions,
            interleaved=1,
            rotary_embedding_dim=ROTARY_WIDTH,
            num_heads=HEADS,
        )

    def _positions_and_mask(self) -> None:
        """Positions of the new tokens (batch, tokens), and the causal mask (tokens, past + tokens)."""
        graph = self._graph
        zero, one = graph.constant("zero", np.int64(0)), graph.constant("one", np.int64(1))
        first, second = (
            graph.constant("axis0", np.array([0], np.int64)),
            graph.constant("axis1", np.array([1], np.int64)),
        )
        past = graph.node("Gather", graph.node("Shape", "past_key.0"), graph.constant("two", np.int64(2)))
        total = graph.node("Add", past, graph.node("Gather", graph.node("Shape", "input_ids"), one))
        positions = graph.node("Unsqueeze", graph.node("Range", past, total, one), first)
        self._positions = graph.node("Expand", positions, graph.node("Shape", "input_ids"))
        keys = graph.node("Unsqueeze", graph.node("Range", zero, total, one), first)
        queries = graph.node("Unsqueeze", graph.node("Range", past, total, one), second)
        future = graph.node("Greater", keys, queries)
        self._mask = graph.node(
            "Where", future, graph.constant("masked", _MASKED), graph.constant("open", np.float32(0))
        )
