"""`stream-ctc` as a step: a chunk of samples and what is remembered, to log-probabilities and what to remember.

Frame t hears samples [384 t - 511, 384 t + 384), as if 511 zeros came before the stream: the stem's receptive field
ends where the frame does, so nothing waits for audio behind the chunk. The norm over time of the encoder is replaced
by fixed numbers. A frame attends to its whole chunk and to the L frames before the chunk.

Keys are remembered as they come from their product and rotated anew at every step, at positions 0 ... L + C - 1 of
the window: only differences of positions count in a rotary embedding, so a stream may be endless.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto

from pipelines.models.encoder_graph import after_attention, convolutions, first_convolution
from pipelines.models.graph import GraphWriter, LinearWriter, tensor
from pipelines.models.layers import Layers
from pipelines.models.moonshine import WIDTH, WeightSource
from pipelines.models.trained import quantized

CARRY_SAMPLES = 511
"""Samples before its own 384 that a frame hears."""
MAX_CHUNK_FRAMES = 128
_LAST = np.iinfo(np.int64).max
_KINDS = ("key", "value")


@dataclass(frozen=True, slots=True)
class StreamShape:
    """What the weights alone do not tell.

    Attributes:
        layers: Layers from the bottom.
        left_frames: L, frames before its chunk that a frame attends to.
        stem_mean: Taken away from the stem's first output.
        stem_std: What is left is divided by it.
    """

    layers: int
    left_frames: int
    stem_mean: float
    stem_std: float


def stream_graph(
    weights: WeightSource, linear: LinearWriter, shape: StreamShape, *, plain: bool = False
) -> onnx.ModelProto:
    """One step of C frames, C being whatever the samples say; `linear` and `plain` as in `Layers`.

    Inputs: `samples` float32 (batch, 384 C); `state_samples` float32 (batch, 511), the samples before them;
    `state_key` and `state_value` float32 (batch, layers, L, 416), of the frames before them, the latest last;
    `state_frames` int64 (batch, 1), how many of those L are real.
    Outputs: `log_probs` float32 (batch, C, labels), and `next_samples`, `next_key`, `next_value`, `next_frames` for
    the step after this one. All states are zero at the start of a stream.
    """
    graph = GraphWriter()
    left = shape.left_frames
    layers = Layers(graph, weights, linear, left + MAX_CHUNK_FRAMES, plain=plain)
    wave = graph.node("Concat", "state_samples", "samples", axis=1)
    _last(graph, wave, CARRY_SAMPLES, 1, "next_samples")
    x = first_convolution(graph, weights, wave)
    x = convolutions(graph, weights, x, mean=shape.stem_mean, deviation=shape.stem_std, linear=linear)
    window = _Window(graph, x, left)
    past = [_by_layer(graph, f"state_{kind}", shape.layers) for kind in _KINDS]
    remembered: tuple[list[str], list[str]] = ([], [])
    for layer in range(shape.layers):
        x, key, value = _layer(layers, x, layer, (past[0][layer], past[1][layer]), window)
        for names, name in zip(remembered, (key, value), strict=True):
            names.append(_last(graph, name, left, 1))
    axis1 = graph.constant("axis1", np.array([1], np.int64))
    for kind, names in zip(_KINDS, remembered, strict=True):
        stacked = [graph.node("Unsqueeze", name, axis1) for name in names]
        graph.node("Concat", *stacked, output=f"next_{kind}", axis=1)
    head = weights.own("head.weight")
    logits = layers.product(layers.norm(x, "layer_norm"), quantized("head", head.T))
    logits = graph.node("Add", logits, graph.constant("head.bias", weights.own("head.bias")))
    graph.node("LogSoftmax", logits, output="log_probs", axis=-1)
    return graph.model("stream_ctc_step", *_interface(shape, head.shape[0]))


def _interface(shape: StreamShape, labels: int) -> tuple[list[onnx.ValueInfoProto], list[onnx.ValueInfoProto]]:
    cache: list[int | str] = ["batch", shape.layers, shape.left_frames, WIDTH]

    def states(prefix: str) -> list[onnx.ValueInfoProto]:
        return [
            tensor(f"{prefix}_samples", ["batch", CARRY_SAMPLES]),
            *(tensor(f"{prefix}_{kind}", cache) for kind in _KINDS),
            tensor(f"{prefix}_frames", ["batch", 1], TensorProto.INT64),  # Triton keeps no scalars
        ]

    inputs = [tensor("samples", ["batch", "samples"]), *states("state")]
    return inputs, [tensor("log_probs", ["batch", "frames", labels]), *states("next")]


class _Window:
    """What all layers of a step share: where queries and keys stand, and which keys are real."""

    def __init__(self, graph: GraphWriter, x: str, left: int) -> None:
        one, zero = graph.constant("one", np.int64(1)), graph.constant("zero", np.int64(0))
        most = graph.constant("left", np.int64(left))
        batch, count = (graph.node("Squeeze", graph.node("Shape", x, start=axis, end=axis + 1)) for axis in (0, 1))
        total = graph.node("Add", count, most)
        steps = graph.node("Range", zero, total, one)
        axis0, axis1 = (graph.constant(f"axis{axis}", np.array([axis], np.int64)) for axis in (0, 1))
        shape = graph.node("Concat", *(graph.node("Unsqueeze", size, axis0) for size in (batch, total)), axis=0)
        self.keys = graph.node("Expand", graph.node("Unsqueeze", steps, axis0), shape)
        """int64 (batch, L + C): positions of the keys."""
        end = graph.constant("end", np.array([_LAST], np.int64))
        self.queries = graph.node("Slice", self.keys, graph.constant("from_left", np.array([left])), end, axis1)
        """int64 (batch, C): positions of the queries."""
        unreal = graph.node("Sub", most, "state_frames")
        real = graph.node("GreaterOrEqual", self.keys, unreal)
        self.mask = graph.node("Cast", real, to=TensorProto.INT32)
        """int32 (batch, L + C): 1 for a key that is real."""
        more = graph.node("Add", "state_frames", count)
        graph.node("Min", more, most, output="next_frames")


def _layer(layers: Layers, x: str, layer: int, past: tuple[str, str], window: _Window) -> tuple[str, str, str]:
    """One layer; returns its output and all its keys and values, (batch, L + C, 416), as they are before rotation."""
    graph, name = layers.graph, f"layers.{layer}"
    query, key, value = layers.queries_keys_values(layers.norm(x, f"{name}/input_layernorm"), f"{name}/self_attn")
    keys, values = (graph.node("Concat", *pair, axis=1) for pair in zip(past, (key, value), strict=True))
    attended = layers.attention(
        layers.rotate(query, window.queries), layers.rotate(keys, window.keys), values, window.mask
    )
    return after_attention(layers, x, attended, layer), keys, values


def _by_layer(graph: GraphWriter, state: str, layers: int) -> list[str]:
    """(batch, layers, L, 416) as one (batch, L, 416) for each layer."""
    axis1 = graph.constant("axis1", np.array([1], np.int64))
    parts = graph.nodes("Split", state, graph.constant("each", np.ones(layers, np.int64)), outputs=layers, axis=1)
    return [graph.node("Squeeze", part, axis1) for part in parts]


def _last(graph: GraphWriter, x: str, count: int, axis: int, output: str | None = None) -> str:
    """The last `count` of an axis."""
    start = graph.constant(f"last{count}", np.array([-count], np.int64))
    end = graph.constant("end", np.array([_LAST], np.int64))
    return graph.node("Slice", x, start, end, graph.constant(f"axis{axis}", np.array([axis], np.int64)), output=output)
