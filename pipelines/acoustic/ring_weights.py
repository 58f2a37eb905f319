"""What a streaming encoder is made of, and what its streams remember on the device when steps work in place.

A stream owns one row of every tensor of a pool. Keys and values of the frames before a chunk lie in rings: the frame at
position p of a stream is at place p modulo the ring's length, its key already turned to p. Only differences of
positions count in a rotary embedding, so that keys stay as they are for good.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipelines.acoustic.torch_graph import TorchGraph

STATES = ("state_samples", "state_key", "state_value", "state_frames")
STRIDE = 64
"""Samples from one output of the first convolution to the next."""
PLACES_STEP = 16
"""Rings are a multiple of so many places long, so that each head's begins at a whole sector of memory."""


@dataclass(frozen=True, slots=True)
class RingLayer:
    """The weights of a layer; matrices (inputs, outputs) in the products' type, all else float32."""

    gain: Tensor
    qkv: Tensor
    dense: Tensor
    after_gain: Tensor
    fc1: Tensor
    fc1_bias: Tensor
    fc2: Tensor
    fc2_bias: Tensor


@dataclass(frozen=True, slots=True)
class RingWeights:
    """A streaming encoder with a CTC head.

    Attributes:
        first: float32 (127, 416), the first convolution's kernel.
        scale: float32 (416,), of its tanh; `offset` is added.
        second: (7 x 416, 832), stride 3, with `second_bias`.
        third: (3 x 832, 416), stride 2, with `third_bias`.
        layers: From the bottom.
        gain: float32 (416,), of the last norm.
        head: (416, labels), with `head_bias`.
        turns: float64 (turned / 2,), turns of each pair of a head's dimensions from one frame to the next.
        heads: Of attention.
        left: Frames before its chunk that a frame attends to.
        carry: Samples before its own that a step hears.
        epsilon: Of the norms.
    """

    first: Tensor
    scale: Tensor
    offset: Tensor
    second: Tensor
    second_bias: Tensor
    third: Tensor
    third_bias: Tensor
    layers: tuple[RingLayer, ...]
    gain: Tensor
    head: Tensor
    head_bias: Tensor
    turns: Tensor
    heads: int
    left: int
    carry: int
    epsilon: float

    @property
    def width(self) -> int:
        """Of the residual stream."""
        return int(self.gain.shape[0])


@dataclass(frozen=True, slots=True)
class RingPool:
    """What the streams of all rows remember.

    Attributes:
        samples: float32 (rows, carry), the last samples.
        frames: int64 (rows,), how many frames a stream has had.
        rings: (layers, rows, 2, heads, places, head's width) in the products' type: turned keys, then values.
    """

    samples: Tensor
    frames: Tensor
    rings: Tensor

    @classmethod
    def empty(cls, weights: RingWeights, rows: int, chunk_frames: int) -> RingPool:
        """A pool for chunks of so many frames at most."""
        places = math.ceil((weights.left + chunk_frames) / PLACES_STEP) * PLACES_STEP
        shape = (len(weights.layers), rows, 2, weights.heads, places, weights.width // weights.heads)
        device = weights.gain.device
        return cls(
            torch.zeros(rows, weights.carry, device=device),
            torch.zeros(rows, dtype=torch.int64, device=device),
            torch.zeros(shape, dtype=weights.head.dtype, device=device),
        )

    def take(self, other: RingPool) -> None:
        """Have the rows of a smaller pool."""
        rows = len(other.frames)
        self.samples[:rows].copy_(other.samples)
        self.frames[:rows].copy_(other.frames)
        self.rings[:, :rows].copy_(other.rings)

    def forget(self, row: int) -> None:
        """A stream begins; what is in its rings is not looked at."""
        self.samples[row].zero_()
        self.frames[row].zero_()


def ring_weights(graph: TorchGraph, states: Mapping[str, tuple[int, ...]]) -> RingWeights | None:
    """The weights of a graph that `pipelines.models.stream_graph` wrote; `None` for any other.

    Args:
        graph: With its constants on the device.
        states: The shape of one stream's states by the names that they go in by.
    """
    known: Mapping[str, Any] = graph.constants
    if set(states) != set(STATES) or len(states["state_key"]) != 4:
        return None
    _, count, left, _ = states["state_key"]
    try:
        kernel, cos, sin = known["conv1"], known["rotary.cos"], known["rotary.sin"]
        angle = torch.atan2(sin[1].double(), cos[1].double())
        return RingWeights(
            kernel[:, 0].T.contiguous(), known["groupnorm.gain"], known["groupnorm.offset"],
            known["conv2"], known["conv2.bias"], known["conv3"], known["conv3.bias"],
            tuple(_layer(known, f"layers.{at}") for at in range(count)),
            known["layer_norm.gain"], known["head"], known["head.bias"],
            angle / (2 * math.pi), int(np.asarray(known["heads"])[2]), left, states["state_samples"][1],
            graph.epsilon,
        )  # fmt: skip
    except KeyError:
        return None


def _layer(known: Mapping[str, Any], name: str) -> RingLayer:
    return RingLayer(
        known[f"{name}/input_layernorm.gain"], known[f"{name}/self_attn.qkv"], known[f"{name}.self_attn.dense.MatMul"],
        known[f"{name}/post_attention_layernorm.gain"],
        known[f"{name}.mlp.fc1.MatMul"], known[f"{name}/mlp/fc1.bias"],
        known[f"{name}.mlp.fc2.MatMul"], known[f"{name}/mlp/fc2.bias"],
    )  # fmt: skip
