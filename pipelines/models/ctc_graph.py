"""`moonshine-ctc` as one graph: waveform to log-probabilities, in batches of clips of different lengths.

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
    graph = GraphWriter()
    layers = Layers(graph, weights, linear, MAX_FRAMES, plain=plain)
    head = weights.own("head.weight")
    first, frames = _lengths(graph)
    x = convolutions(graph, weights, _norm_over_time(graph, first_convolution(graph, weights, "samples"), first))
    positions = frame_positions(graph, x)
    ends = graph.node("Unsqueeze", frames, graph.constant("axis1", np.array([1], np.int64)))
    real = graph.node("Less", positions, ends)
    mask = graph.node("Cast", real if plain else frames, to=TensorProto.INT32)
    for layer in range(LAYERS):
        x = encoder_layer(layers, x, layer, positions, mask)
    logits = layers.product(layers.norm(x, "layer_norm"), quantized("head", head.T))
    logits = graph.node("Add", logits, graph.constant("head.bias", weights.own("head.bias")))
    graph.node("LogSoftmax", logits, output="log_probs", axis=-1)
    inputs = [tensor("samples", ["batch", "samples"]), tensor("lengths", ["batch"], TensorProto.INT64)]
    outputs = [
        tensor("log_probs", ["batch", "time", head.shape[0]]),
        tensor("frames", ["batch"], TensorProto.INT64),
    ]
    return graph.model("moonshine_ctc", inputs, outputs)


def _lengths(graph: GraphWriter) -> tuple[str, str]:
    """Real steps of each row after the first and after the last convolution.

    A convolution of width w and stride s gives (n - w) // s + 1 steps; ONNX divides towards zero, so below w it is
    max(n - w + s, 0) // s.
    """
    counts = []
    x = "lengths"
    for index, (width, stride) in enumerate(((127, 64), (7, 3), (3, 2))):
        more = graph.node("Add", x, graph.constant(f"offset{index}", np.int64(stride - width)))
        more = graph.node("Max", more, graph.constant("zero", np.int64(0)))
        last = {"output": "frames"} if index == 2 else {}
        x = graph.node("Div", more, graph.constant(f"stride{index}", np.int64(stride)), **last)
        counts.append(x)
    return counts[0], counts[2]


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
