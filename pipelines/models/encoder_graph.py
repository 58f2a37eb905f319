"""The encoder as a graph of our own, from the folded weights.

Against the exported graph: LayerNorm, Gelu, the rotary embedding and attention are one node each instead of six to
sixteen, queries, keys and values are one product, and the stem's second and third convolution are matrix products over
windows (ONNX Runtime does not prepack a convolution's weights, which shows on short audio).

Tried and left: the stem in INT8, since single channels of its activations reach sixty times the spread of others
(`experiments/001-floor`).
"""

from __future__ import annotations

import numpy as np
import onnx

from pipelines.models.graph import GraphWriter, LinearWriter, float_linear, tensor
from pipelines.models.layers import Layers
from pipelines.models.moonshine import LAYERS, WIDTH, WeightSource

MAX_FRAMES = 4096
"""Rows of the rotary tables: 98 s of audio."""
_LAST = np.iinfo(np.int64).max


def encoder_graph(weights: WeightSource, linear: LinearWriter, *, plain: bool = False) -> onnx.ModelProto:
    """Waveform to hidden states.

    Inputs: `input_values` float32 (batch, samples).
    Outputs: `last_hidden_state` float32 (batch, frames, 416).

    `linear` writes the products of the layers; the stem is FP32 in every precision. `plain` as in `Layers`.
    """
    graph = GraphWriter()
    layers = Layers(graph, weights, linear, MAX_FRAMES, plain=plain)
    x = _stem(graph, weights)
    positions = frame_positions(graph, x)
    for layer in range(LAYERS):
        x = encoder_layer(layers, x, layer, positions)
    layers.norm(x, "layer_norm", output="last_hidden_state")
    inputs = [tensor("input_values", ["batch", "samples"])]
    return graph.model("moonshine_encoder", inputs, [tensor("last_hidden_state", ["batch", "frames", WIDTH])])


def encoder_layer(layers: Layers, x: str, layer: int, positions: str, mask: str = "") -> str:
    """One layer; `mask` says which frames are looked at (`Layers.attention`), all of them without."""
    name = f"layers.{layer}"
    parts = layers.queries_keys_values(layers.norm(x, f"{name}/input_layernorm"), f"{name}/self_attn")
    queries, keys = (layers.rotate(part, positions) for part in parts[:2])
    return after_attention(layers, x, layers.attention(queries, keys, parts[2], mask), layer)


def after_attention(layers: Layers, x: str, attended: str, layer: int) -> str:
    """The rest of a layer: the output projection and the feed-forward part, each beside a residual."""
    graph, name = layers.graph, f"layers.{layer}"
    x = graph.node("Add", x, layers.product(attended, f"{name}/self_attn/dense"))
    wide = layers.biased(layers.norm(x, f"{name}/post_attention_layernorm"), f"{name}/mlp/fc1")
    return graph.node("Add", x, layers.biased(graph.node("Gelu", wide), f"{name}/mlp/fc2"))


def _stem(graph: GraphWriter, weights: WeightSource) -> str:
    """Three convolutions without padding; tanh and a norm over time and channels after the first."""
    return convolutions(graph, weights, _norm_over_time(graph, first_convolution(graph, weights, "input_values")))


def first_convolution(graph: GraphWriter, weights: WeightSource, samples: str) -> str:
    """The stem's first convolution and its tanh: (batch, samples) to (batch, 416, time)."""
    kernel = graph.constant("conv1", weights.kernel("conv1/Conv"))
    wave = graph.node("Unsqueeze", samples, graph.constant("axis1", np.array([1], np.int64)))
    return graph.node("Tanh", graph.node("Conv", wave, kernel, strides=[64]))


def convolutions(
    graph: GraphWriter,
    weights: WeightSource,
    x: str,
    *,
    mean: float = 0.0,
    deviation: float = 1.0,
    linear: LinearWriter = float_linear,
) -> str:
    """What follows the norm in the stem: gain and offset of each channel, and two convolutions.

    Args:
        graph: Gets the nodes.
        weights: Where the weights are looked up.
        x: (batch, 416, time).
        mean: Is taken away from `x` before gain and offset.
        deviation: What is left is divided by it.
        linear: How a convolution's product is written.

    Returns:
        (batch, frames, 416).
    """
    x = graph.node("Transpose", x, perm=[0, 2, 1])
    gain, offset = (weights.vector(f"groupnorm/{part}").reshape(-1) for part in ("Mul", "Add"))
    gain = (gain / deviation).astype(np.float32)
    x = graph.node("Mul", x, graph.constant("groupnorm.gain", gain))
    x = graph.node("Add", x, graph.constant("groupnorm.offset", (offset - mean * gain).astype(np.float32)))
    for name, width, stride in (("conv2", 7, 3), ("conv3", 3, 2)):
        x = _windows(graph, x, width, stride)
        for matrix in weights.convolution(f"{name}/Conv"):
            x = linear(graph, x, matrix)
        bias = graph.constant(f"{name}.bias", weights.vector(f"{name}/Conv"))
        x = graph.node("Gelu", graph.node("Add", x, bias))
    return x


def _norm_over_time(graph: GraphWriter, x: str) -> str:
    """Zero mean and unit variance over channels and time together (a group norm with one group)."""
    flat = graph.node("Reshape", x, graph.constant("one_group", np.array([0, 1, -1], np.int64)))
    one, zero = graph.constant("unit", np.ones(1, np.float32)), graph.constant("nil", np.zeros(1, np.float32))
    normed = graph.node("InstanceNormalization", flat, one, zero, epsilon=1e-5)
    return graph.node("Reshape", normed, graph.node("Shape", x))


def _windows(graph: GraphWriter, x: str, width: int, stride: int) -> str:
    """(batch, time, channels) to (batch, windows, width * channels), one row for each position of the kernel."""
    axis, step = (
        graph.constant("axis1", np.array([1], np.int64)),
        graph.constant(f"step{stride}", np.array([stride], np.int64)),
    )
    parts = []
    for offset in range(width):
        start = graph.constant(f"from{offset}", np.array([offset], np.int64))
        end = offset - (width - 1) or _LAST
        parts.append(graph.node("Slice", x, start, graph.constant(f"to{end}", np.array([end], np.int64)), axis, step))
    return graph.node("Concat", *parts, axis=-1)


def frame_positions(graph: GraphWriter, x: str) -> str:
    """0, 1, 2, ... for every frame: (batch, frames)."""
    shape = graph.node("Shape", x, end=2)
    count = graph.node("Gather", shape, graph.constant("one", np.int64(1)))
    steps = graph.node("Range", graph.constant("zero", np.int64(0)), count, graph.constant("one", np.int64(1)))
    return graph.node("Expand", graph.node("Unsqueeze", steps, graph.constant("axis0", np.array([0], np.int64))), shape)
