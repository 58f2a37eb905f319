"""A step of a streaming encoder whose streams' keys and values stay where they are, by any set of operations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from torch import Tensor

from pipelines.acoustic.ring_weights import RingPool, RingWeights


@dataclass(frozen=True, slots=True)
class Windows:
    """Rows of a product's left side that overlap: those of one stream begin `stride` numbers apart.

    Attributes:
        x: (streams, numbers).
        each: Rows of a stream.
        stride: Numbers from one row to the next.
    """

    x: Tensor
    each: int
    stride: int


class Turned(NamedTuple):
    """Where a step's frames stand.

    Attributes:
        position: int64 (streams,), of the first frame.
        cos: float32 (streams, frames, pairs); `sin` as well.
    """

    position: Tensor
    cos: Tensor
    sin: Tensor


class RingOps(Protocol):
    """The operations of a step, which allocate their results and write pools in place."""

    def begin(self, weights: RingWeights, pool: RingPool, rows: Tensor, frames: int) -> Turned:
        """Where the frames of a step stand; moves the streams' counters on."""
        ...

    def listen(self, weights: RingWeights, pool: RingPool, rows: Tensor, samples: Tensor) -> Tensor:
        """The first convolution, tanh, scale and offset: (streams, outputs, 416); keeps the last samples."""
        ...

    def product(self, x: Tensor | Windows, matrix: Tensor) -> Tensor:
        """(rows, outputs) in the matrix's type."""
        ...

    def gelu(self, x: Tensor | Windows, matrix: Tensor, bias: Tensor, *, wide: bool = False) -> Tensor:
        """The GELU of a product with its bias, in the matrix's type, or in float32 if `wide`."""
        ...

    def norm(self, x: Tensor, gain: Tensor, epsilon: float, like: Tensor) -> Tensor:
        """LayerNorm of float32 `x`, in the type of `like`."""
        ...

    def added(
        self, x: Tensor, more: Tensor, bias: Tensor | None, gain: Tensor, epsilon: float
    ) -> Tensor:  # fmt: skip
        """Add to `x` in place, then LayerNorm in the type of `more`."""
        ...

    def attend(self, weights: RingWeights, qkv: Tensor, ring: Tensor, rows: Tensor, turned: Turned) -> Tensor:
        """Turn queries and keys, look at the ring and the chunk, and put the chunk into the ring: (frames, 416)."""
        ...

    def said(self, x: Tensor, matrix: Tensor, bias: Tensor) -> Tensor:
        """Log-probabilities, float32 (rows, labels)."""
        ...


def ring_step(ops: RingOps, weights: RingWeights, pool: RingPool, samples: Tensor, rows: Tensor) -> Tensor:
    """Move streams on by a chunk.

    Args:
        ops: How.
        weights: Of the encoder.
        pool: Of the streams; written.
        samples: float32 (streams, samples).
        rows: int64 (streams,), their rows in the pool.

    Returns:
        float32 (streams, frames, labels).
    """
    streams = len(rows)
    heard = ops.listen(weights, pool, rows, samples)
    outputs, width = heard.shape[1:]
    second = (outputs - 7) // 3 + 1
    x = ops.gelu(Windows(heard.view(streams, -1), second, 3 * width), weights.second, weights.second_bias)
    frames = (second - 3) // 2 + 1
    windows = Windows(x.view(streams, -1), frames, 2 * x.shape[1])
    x = ops.gelu(windows, weights.third, weights.third_bias, wide=True)
    turned = ops.begin(weights, pool, rows, frames)
    h = ops.norm(x, weights.layers[0].gain, weights.epsilon, like=weights.head)
    gains = [layer.gain for layer in weights.layers[1:]] + [weights.gain]
    for layer, ring, gain in zip(weights.layers, pool.rings, gains, strict=True):
        attended = ops.attend(weights, ops.product(h, layer.qkv), ring, rows, turned)
        h = ops.added(x, ops.product(attended, layer.dense), None, layer.after_gain, weights.epsilon)
        h = ops.gelu(h, layer.fc1, layer.fc1_bias)
        h = ops.added(x, ops.product(h, layer.fc2), layer.fc2_bias, gain, weights.epsilon)
    return ops.said(h, weights.head, weights.head_bias).view(streams, frames, -1)
