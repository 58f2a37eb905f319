"""The decoder as two graphs of our own: `cross` once per clip, `step` for each group of tokens.

The shipped decoder is one merged graph: an `If` between a first step and a cached step, which takes the encoder's
keys in and hands them out again at every step. Ours has no `If`: a step takes any number of tokens after any
number of cached ones (zero at first), so the first step, a cached step and the parallel check of a whole draft are
one graph. Cross-attention keys and values are computed once per clip and only read afterwards.

Tried and left: the contrib operator `MultiHeadAttention` here too. A step is bound by the bytes of its weights, and
it gained nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import onnx
from onnx import TensorProto

from pipelines.models.graph import BLOCK, GraphWriter, LinearWriter, blockwise, blockwise_linear, tensor
from pipelines.models.layers import Layers
from pipelines.models.moonshine import (
    HEAD_WIDTH,
    HEADS,
    LAYERS,
    VOCABULARY,
    WIDTH,
    Linear,
    Weights,
)

MAX_POSITIONS = 1024
"""Rows of the rotary tables: the longest transcript in tokens."""
_MASKED = np.float32(-1e9)


def cross_graph(weights: Weights, linear: LinearWriter) -> onnx.ModelProto:
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


def step_graph(weights: Weights, linear: LinearWriter, vocabulary: VocabularyWriter) -> onnx.ModelProto:
    """Tokens and cache to logits and a longer cache.

    Inputs: `input_ids` int64 (batch, tokens); per layer `past_key.L`, `past_value.L` float32 (batch, 8, past, 52)
    and the outputs of `cross_graph`.
    Outputs: `logits` float32 (batch, tokens, 32768); per layer `present_key.L`, `present_value.L` float32
    (batch, 8, past + tokens, 52).
    """
    graph = GraphWriter()
    embed, project = vocabulary(graph, weights.embedding())
    layers = Layers(graph, weights, linear, MAX_POSITIONS)
    block = _DecoderLayers(layers)
    x = embed("input_ids")
    for layer in range(LAYERS):
        x = block.self_attention(x, layer)
        x = block.cross_attention(x, layer)
        x = block.feed_forward(x, layer)
    flat = graph.node("Reshape", layers.norm(x, "norm"), graph.constant("rows", np.array([-1, WIDTH], np.int64)))
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

    def embed(ids: str) -> str:
        table = graph.constant("embedding.q", blockwise(embedding))
        blocks = graph.node("Cast", graph.node("Gather", table, ids), to=TensorProto.FLOAT)
        rows = graph.node("Reshape", blocks, graph.constant("joined", np.array([0, 0, WIDTH], np.int64)))
        zero = graph.constant("embedding.offset", np.float32(embedding.zero_point[0] + 128))
        return graph.node("Mul", graph.node("Sub", rows, zero), graph.constant("embedding.step", embedding.scale[0]))

    if WIDTH % BLOCK:
        raise ValueError(f"width {WIDTH} is no multiple of the block {BLOCK}")
    return embed, lambda states: blockwise_linear(graph, states, embedding)


SHORTLIST = 32
"""Tokens whose logits `shortlist_vocabulary` computes exactly."""


def shortlist_vocabulary(graph: GraphWriter, embedding: Linear) -> tuple[Lookup, Lookup]:
    """FP32 where it matters: all logits in INT8, then the best `SHORTLIST` of each row again in FP32.

    The output projection is a third of the bytes that a step reads, and greedy decoding needs its largest value
    only. That value is exact as long as its token is among the best `SHORTLIST` of the INT8 logits, whose error is
    far below the spread of the best 32; the other logits carry that error.
    """
    embed, _ = float_vocabulary(graph, embedding)

    def project(states: str) -> str:
        table = graph.constant("embedding", np.ascontiguousarray(embedding.value.T))
        rough = blockwise_linear(graph, states, embedding)
        count = graph.constant("shortlist", np.array([SHORTLIST], np.int64))
        _, best = graph.nodes("TopK", rough, count, outputs=2, axis=-1, sorted=0)
        column = graph.constant("last_axis", np.array([-1], np.int64))
        products = graph.node("MatMul", graph.node("Gather", table, best), graph.node("Unsqueeze", states, column))
        return graph.node("ScatterElements", rough, best, graph.node("Squeeze", products, column), axis=-1)

    return embed, project


class _DecoderLayers:
    """Writes the three residual parts of a decoder layer."""

    def __init__(self, layers: Layers) -> None:
        self._layers, self._graph = layers, layers.graph
        self._positions, self._mask = _positions_and_mask(layers.graph)

    def self_attention(self, x: str, layer: int) -> str:
        graph, layers = self._graph, self._layers
        normed = layers.norm(x, f"layers.{layer}/input_layernorm")
        parts = layers.queries_keys_values(normed, f"layers.{layer}/self_attn", 1 / math.sqrt(HEAD_WIDTH))
        queries, new_keys, new_values = map(layers.split_heads, parts)
        queries, new_keys = (layers.rotate(part, self._positions) for part in (queries, new_keys))
        keys = graph.node("Concat", f"past_key.{layer}", new_keys, output=f"present_key.{layer}", axis=2)
        values = graph.node("Concat", f"past_value.{layer}", new_values, output=f"present_value.{layer}", axis=2)
        attended = layers.attend(graph.node("Add", layers.scores(queries, keys), self._mask), values)
        return graph.node("Add", x, layers.product(attended, f"layers.{layer}/self_attn/dense"))

    def cross_attention(self, x: str, layer: int) -> str:
        layers, name = self._layers, f"layers.{layer}/encoder_attn"
        matrix = layers.weights.linear(f"{name}/q_proj/MatMul").scaled(1 / math.sqrt(HEAD_WIDTH))
        normed = layers.norm(x, f"layers.{layer}/post_attention_layernorm")
        queries = layers.split_heads(layers.product(normed, matrix))
        attended = layers.attend(self._graph.node("MatMul", queries, f"cross_key.{layer}"), f"cross_value.{layer}")
        return self._graph.node("Add", x, layers.product(attended, f"{name}/dense"))

    def feed_forward(self, x: str, layer: int) -> str:
        """SwiGLU: the second half of the upper projection gates the first."""
        graph, layers, name = self._graph, self._layers, f"layers.{layer}/mlp"
        halves = graph.constant("halves", np.array([4 * WIDTH] * 2, np.int64))
        normed = layers.norm(x, f"layers.{layer}/final_layernorm")
        value, gate = graph.nodes("Split", layers.biased(normed, f"{name}/up_proj"), halves, outputs=2, axis=-1)
        gated = graph.node("Mul", graph.node("Mul", gate, graph.node("Sigmoid", gate)), value)
        return graph.node("Add", x, layers.biased(gated, f"{name}/down_proj"))


def _positions_and_mask(graph: GraphWriter) -> tuple[str, str]:
    """Positions of the new tokens (batch, tokens), and the causal mask (tokens, past + tokens)."""
    zero, one = graph.constant("zero", np.int64(0)), graph.constant("one", np.int64(1))
    first, second = (graph.constant(f"axis{axis}", np.array([axis], np.int64)) for axis in (0, 1))
    past = graph.node("Gather", graph.node("Shape", "past_key.0"), graph.constant("two", np.int64(2)))
    total = graph.node("Add", past, graph.node("Gather", graph.node("Shape", "input_ids"), one))
    new = graph.node("Range", past, total, one)
    positions = graph.node("Expand", graph.node("Unsqueeze", new, first), graph.node("Shape", "input_ids"))
    keys = graph.node("Unsqueeze", graph.node("Range", zero, total, one), first)
    future = graph.node("Greater", keys, graph.node("Unsqueeze", new, second))
    masked, open_ = graph.constant("masked", _MASKED), graph.constant("open", np.float32(0))
    return positions, graph.node("Where", future, masked, open_)
