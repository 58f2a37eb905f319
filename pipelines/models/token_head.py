"""The head that writes the tokens of the package's decoder: what `training.head --tokens` learns, as a graph.

It reads a mix of the outputs of some of the encoder's layers: a convolution module (Gulati et al., Conformer, 2020), a
feed-forward, the mean of each two frames, and a product with the rows of the decoder's own table.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pipelines.models.dynamic import dynamic_linear
from pipelines.models.graph import GraphWriter, block_scaled_linear, float_linear
from pipelines.models.layers import Layers
from pipelines.models.moonshine import LAYER_NORM_EPSILON, WIDTH, Float32, Linear
from pipelines.models.trained import quantized

READS = (4, 6, 8)
"""After which of the encoder's layers it looks in."""
TOKENS, SCALE, BIAS = "head.tokens", "head.scale", "head.bias"
STRIDE = 2
"""Frames of the encoder to one of its own."""


def rows(table: Float32) -> Float32:
    """The rows of the decoder's table, (tokens, 416), as a head multiplies by them: centred, of length 1 on average."""
    centred: Float32 = table - table.mean(axis=0)
    centred /= np.linalg.norm(centred, axis=1).mean(dtype=np.float32)
    return centred


def with_units(tensors: Mapping[str, Float32], embedding: Float32) -> dict[str, Float32]:
    """A head's tensors with its last product written out: `head.weight` (labels, 416), the blank first, `head.bias`.

    The weight is rounded to half precision, which all other trained weights have: loops that read halves can take it.

    Args:
        tensors: As training leaves them. `head.tokens` says which token each label but the blank is.
        embedding: The decoder's table, (tokens, 416).
    """
    found = dict(tensors)
    kept = found.pop(TOKENS).astype(np.int64)
    table = rows(embedding[kept]) * np.exp(found.pop(SCALE))
    weight, bias = found.pop("head.units.weight"), found.pop("head.units.bias")
    whole = np.concatenate((found.pop("head.blank.weight"), table @ weight))
    found["head.weight"] = whole.astype(np.float16).astype(np.float32)
    found[BIAS] = np.concatenate((found.pop("head.blank.bias"), table @ bias + found[BIAS]))
    return found


def token_head(layers: Layers, outputs: Mapping[int, str], real: str) -> str:
    """The states that the units are read from, (batch, half of the frames, 416).

    Args:
        layers: Where the graph and the weights are.
        outputs: Number of one of the encoder's layers to its output, (batch, frames, 416).
        real: float32 (batch, frames, 1): 1 for a frame of the clip, 0 for one behind its end.
    """
    graph, own = layers.graph, layers.weights.own
    shares = np.exp(own("head.mix") - own("head.mix").max())
    shares = (shares / shares.sum()).astype(np.float32)
    mixed = [
        _norm(graph, outputs[layer], f"head.read{layer}", np.full(WIDTH, share, np.float32))
        for layer, share in zip(READS, shares, strict=True)
    ]
    x = _product(layers, graph.node("Add", graph.node("Add", *mixed[:2]), mixed[2]), "head.enter")
    x = graph.node("Add", x, _convolution(layers, x, real))
    wide = _silu(graph, _product(layers, _own_norm(layers, x, 1), "head.wide"))
    x = graph.node("Add", x, _product(layers, wide, "head.narrow"))
    return _own_norm(layers, _halved(graph, x, real), 2)


def small_linear(graph: GraphWriter, x: str, matrix: Linear) -> str:
    """INT8 of the encoder's products with one scale for each row of their input, and of the labels' by blocks.

    The head's own products, small beside both, stay FP32: with one scale for the whole input of each, fewer words were
    right.
    """
    if matrix.name == "head":
        return block_scaled_linear(graph, x, matrix)
    if matrix.name.startswith("head."):
        return float_linear(graph, x, matrix)
    return dynamic_linear(by_row=[matrix.name])(graph, x, matrix)


def _convolution(layers: Layers, x: str, real: str) -> str:
    """The convolution module: a gate, a convolution of each channel by itself, a product."""
    graph = layers.graph
    doubled = _product(layers, _own_norm(layers, x, 0), "head.gate")
    halves = graph.constant("head.halves", np.array([WIDTH] * 2, np.int64))
    value, gate = graph.nodes("Split", doubled, halves, outputs=2, axis=-1)
    inner = graph.node("Mul", graph.node("Mul", value, graph.node("Sigmoid", gate)), real)
    kernel = layers.weights.own("head.across.weight")
    around = kernel.shape[2] // 2
    inner = graph.node(
        "Conv",
        graph.node("Transpose", inner, perm=[0, 2, 1]),
        graph.constant("head.across.weight", kernel),
        graph.constant("head.across.bias", layers.weights.own("head.across.bias")),
        group=WIDTH,
        pads=[around, around],
        strides=[1],
    )
    return _product(layers, _silu(graph, graph.node("Transpose", inner, perm=[0, 2, 1])), "head.after")


def _halved(graph: GraphWriter, x: str, real: str) -> str:
    """The mean of each two frames, of what is real in them."""
    frames = _pairs(graph, graph.node("Mul", x, real))
    return graph.node("Div", frames, graph.node("Max", _pairs(graph, real), graph.constant("one.float", np.float32(1))))


def _pairs(graph: GraphWriter, x: str) -> str:
    """The sum of each two frames; a last one without a second stands alone."""
    axis, step = (graph.constant(*each) for each in (("axis1", np.array([1], np.int64)), ("step2", np.array([2]))))
    first = graph.node("Slice", x, *_ends(graph, 0, _LAST), axis, step)
    one = graph.node("Slice", x, *_ends(graph, 0, 1), axis)
    nothing = graph.node("Mul", one, graph.constant("zero.float", np.float32(0)))
    second = graph.node("Slice", graph.node("Concat", x, nothing, axis=1), *_ends(graph, 1, _LAST), axis, step)
    return graph.node("Add", first, second)


_LAST = np.iinfo(np.int64).max


def _ends(graph: GraphWriter, first: int, last: int) -> tuple[str, str]:
    return (
        graph.constant(f"from{first}", np.array([first], np.int64)),
        graph.constant(f"to{last}", np.array([last], np.int64)),
    )


def _product(layers: Layers, x: str, name: str) -> str:
    matrix = quantized(name, np.ascontiguousarray(layers.weights.own(f"{name}.weight").T))
    bias = layers.graph.constant(f"{name}.bias", layers.weights.own(f"{name}.bias"))
    return layers.graph.node("Add", layers.product(x, matrix), bias)


def _own_norm(layers: Layers, x: str, index: int) -> str:
    name = f"head.norms.{index}"
    normed = _norm(layers.graph, x, name, layers.weights.own(f"{name}.weight"))
    return layers.graph.node("Add", normed, layers.graph.constant(f"{name}.bias", layers.weights.own(f"{name}.bias")))


def _norm(graph: GraphWriter, x: str, name: str, gain: Float32) -> str:
    return graph.node(
        "LayerNormalization", x, graph.constant(f"{name}.gain", gain), axis=-1, epsilon=LAYER_NORM_EPSILON
    )


def _silu(graph: GraphWriter, x: str) -> str:
    return graph.node("Mul", x, graph.node("Sigmoid", x))
