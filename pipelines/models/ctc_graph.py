"""`moonshine-ctc` and its kin as one graph: waveform to log-probabilities, in batches of clips of different lengths.

A row's padding changes nothing in its real frames: the norm over time counts only the row's own frames, no window of a
real frame reaches beyond the row's samples, and attention looks at real frames only.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto

from pipelines.models.encoder_graph import MAX_FRAMES, convolutions, encoder_layer, first_convolution, frame_positions
from pipelines.models.graph import GraphWriter, LinearWriter, tensor
from pipelines.models.layers import Layers
from pipelines.models.moonshine import LAYERS, WIDTH, WeightSource
from pipelines.models.token_head import token_head
from pipelines.models.trained import quantized

WINDOW_SAMPLES = 895
"""Samples that one frame of the stem sees: 127 + 64 * (7 - 1) + 192 * (3 - 1)."""
_NORM_EPSILON = 1e-5


def ctc_graph(weights: WeightSource, linear: LinearWriter, *, plain: bool = False) -> onnx.ModelProto:
    """Waveform to log-probabilities; `linear` and `plain` as in `Layers`.

    Inputs: `samples` float32 (batch, samples), at least 895; `lengths` int64 (batch,), how many of each row are real.
    Outputs: `log_probs` float32 (batch, frames, labels); `frames` int64 (batch,), how many of each row are real, 0 for
    a row shorter than 895 samples.
    """
    layers = Layers(GraphWriter(), weights, linear, MAX_FRAMES, plain=plain)
    outputs, _ = _encoder(layers, "frames")
    return _labelled(layers, layers.norm(outputs[LAYERS], "layer_norm"))


def token_graph(weights: WeightSource, linear: LinearWriter, *, plain: bool = False) -> onnx.ModelProto:
    """The same with the head that writes tokens (`token_head`): half as many frames."""
    layers = Layers(GraphWriter(), weights, linear, MAX_FRAMES, plain=plain)
    graph = layers.graph
    outputs, real = _encoder(layers, "encoder.frames")
    real = graph.node("Cast", real, to=TensorProto.FLOAT)
    real = graph.node("Unsqueeze", real, graph.constant("axis2", np.array([2], np.int64)))
    more = graph.node("Add", "encoder.frames", graph.constant("one", np.int64(1)))
    graph.node("Div", more, graph.constant("stride2", np.int64(2)), output="frames")
    return _labelled(layers, token_head(layers, outputs, real))


def _encoder(layers: Layers, frames: str) -> tuple[dict[int, str], str]:
    """The output of each layer by its number, from 1; and which frames are real, bool (batch, frames).

    `frames` is the name of their count.
    """
    graph, weights = layers.graph, layers.weights
    first = _lengths(graph, frames)
    x = convolutions(graph, weights, _norm_over_time(graph, first_convolution(graph, weights, "samples"), first))
    positions = frame_positions(graph, x)
    ends = graph.node("Unsqueeze", frames, graph.constant("axis1", np.array([1], np.int64)))
    real = graph.node("Less", positions, ends)
    mask = graph.node("Cast", real if layers.plain else frames, to=TensorProto.INT32)
    outputs = {}
    for layer in range(LAYERS):
        x = outputs[layer + 1] = encoder_layer(layers, x, layer, positions, mask)
    return outputs, real


def _labelled(layers: Layers, x: str) -> onnx.ModelProto:
    """The whole graph, from the states that the labels are read from."""
    graph, head = layers.graph, layers.weights.own("head.weight")
    logits = layers.product(x, quantized("head", head.T))
    logits = graph.node("Add", logits, graph.constant("head.bias", layers.weights.own("head.bias")))
    graph.node("LogSoftmax", logits, output="log_probs", axis=-1)
    inputs = [tensor("samples", ["batch", "samples"]), tensor("lengths", ["batch"], TensorProto.INT64)]
    outputs = [
        tensor("log_probs", ["batch", "time", head.shape[0]]),
        tensor("frames", ["batch"], TensorProto.INT64),
    ]
    return graph.model("moonshine_ctc", inputs, outputs)


def _lengths(graph: GraphWriter, frames: str) -> str:
    """Real steps of each row after the first convolution; after the last one they are called `frames`.

    A convolution of width w and stride s gives (n - w) // s + 1 steps; ONNX divides towards zero, so below w it is
    max(n - w + s, 0) // s.
    """
    counts = []
    x = "lengths"
    for index, (width, stride) in enumerate(((127, 64), (7, 3), (3, 2))):
        more = graph.node("Add", x, graph.constant(f"offset{index}", np.int64(stride - width)))
        more = graph.node("Max", more, graph.constant("zero", np.int64(0)))
        last = {"output": frames} if index == 2 else {}
        x = graph.node("Div", more, graph.constant(f"stride{index}", np.int64(stride)), **last)
        counts.append(x)
    return counts[0]


def _norm_over_time(graph: GraphWriter, x: str, counts: str) -> str:
    """Zero mean and unit variance over the channels and the first `counts` (batch,) steps of `x` (batch, 416, time)."""
    axis0 = graph.constant("axis0", np.array([0], np.int64))
    axes12 = graph.constant("axes12", np.array([1, 2], np.int64))
    last = graph.constant("axis2", np.array([2], np.int64))
    time = graph.node("Squeeze", graph.node("Gather", graph.node("Shape", x), last), axis0)
    steps = graph.node("Range", graph.constant("zero", np.int64(0)), time, graph.constant("one", np.int64(1)))
    ends = graph.node("Unsqueeze", counts, axes12)
    real = graph.node("Cast", graph.node("Less", steps, ends), to=TensorProto.FLOAT)  # (batch, 1, time)
    values = graph.node("Mul", graph.node("Cast", ends, to=TensorProto.FLOAT), graph.constant("w", np.float32(WIDTH)))
    values = graph.node("Max", values, graph.constant("some", np.float32(1)))
    mean = graph.node("Div", graph.node("ReduceSum", graph.node("Mul", x, real), axes12), values)
    centred = graph.node("Mul", graph.node("Sub", x, mean), real)
    variance = graph.node("Div", graph.node("ReduceSumSquare", centred, axes12), values)
    deviation = graph.node("Sqrt", graph.node("Add", variance, graph.constant("epsilon", np.float32(_NORM_EPSILON))))
    return graph.node("Div", centred, deviation)
