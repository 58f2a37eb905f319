"""The operations of a ring step in plain PyTorch: for a CPU, for a GPU without Triton, and what kernels are held to."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from pipelines.acoustic.ring_step import Turned, Windows
from pipelines.acoustic.ring_weights import STRIDE, RingPool, RingWeights


class PlainOps:
    """Implements `pipelines.acoustic.ring_step.RingOps`."""

    def begin(self, weights: RingWeights, pool: RingPool, rows: Tensor, frames: int) -> Turned:
        """Where the frames of a step stand; moves the streams' counters on."""
        position = pool.frames[rows]
        steps = position[:, None] + torch.arange(frames, device=rows.device)
        turns = steps[..., None] * weights.turns
        angle = ((turns - turns.floor()) * (2 * math.pi)).float()
        pool.frames[rows] = position + frames
        return Turned(position, angle.cos(), angle.sin())

    def listen(self, weights: RingWeights, pool: RingPool, rows: Tensor, samples: Tensor) -> Tensor:
        """The first convolution, tanh, scale and offset."""
        wave = torch.cat((pool.samples[rows], samples), dim=1)
        windows = wave.unfold(1, len(weights.first), STRIDE)
        pool.samples[rows] = wave[:, -weights.carry :]
        return (torch.tanh(windows @ weights.first) * weights.scale + weights.offset).to(weights.head.dtype)

    def product(self, x: Tensor | Windows, matrix: Tensor) -> Tensor:
        """A product in the matrix's type."""
        return _rows(x, len(matrix)) @ matrix

    def gelu(self, x: Tensor | Windows, matrix: Tensor, bias: Tensor, *, wide: bool = False) -> Tensor:
        """The GELU of a product with its bias."""
        made = functional.gelu(self.product(x, matrix).float() + bias)
        return made if wide else made.to(matrix.dtype)

    def norm(self, x: Tensor, gain: Tensor, epsilon: float, like: Tensor) -> Tensor:
        """LayerNorm."""
        return functional.layer_norm(x, (x.shape[-1],), gain, None, epsilon).to(like.dtype)

    def added(self, x: Tensor, more: Tensor, bias: Tensor | None, gain: Tensor, epsilon: float) -> Tensor:
        """Add to `x` in place, then LayerNorm."""
        x += more if bias is None else more.float() + bias
        return self.norm(x, gain, epsilon, like=more)

    def attend(self, weights: RingWeights, qkv: Tensor, ring: Tensor, rows: Tensor, turned: Turned) -> Tensor:
        """Turn queries and keys, put the chunk into the ring, and look at what is in sight."""
        streams, frames, pairs = turned.cos.shape
        heads, places = ring.shape[2:4]
        parts = qkv.view(streams, frames, 3, heads, -1).permute(2, 0, 3, 1, 4).float()
        query, key = (_turned(part, turned.cos, turned.sin, pairs).to(qkv.dtype) for part in parts[:2])
        own = turned.position[:, None] + torch.arange(frames, device=rows.device)
        for kind, new in enumerate((key, parts[2])):
            ring[rows[:, None], kind, :, own % places] = new.transpose(1, 2).to(ring.dtype)
        sight = turned.position[:, None] + torch.arange(-weights.left, frames, device=rows.device)
        keys, values = (
            ring[rows[:, None], kind, :, sight % places].transpose(1, 2).float() for kind in (0, 1)
        )  # (streams, heads, left + frames, width of a head)
        scores = query.float() @ keys.transpose(-1, -2) * keys.shape[-1] ** -0.5
        real = (sight >= 0)[:, None, None]
        values = values.masked_fill(~real.transpose(-1, -2), 0)
        mixed = torch.softmax(scores.masked_fill(~real, -math.inf), -1) @ values
        return mixed.transpose(1, 2).reshape(streams * frames, -1).to(qkv.dtype)

    def said(self, x: Tensor, matrix: Tensor, bias: Tensor) -> Tensor:
        """Log-probabilities."""
        return torch.log_softmax((x @ matrix).float() + bias, dim=-1)


def _rows(x: Tensor | Windows, width: int) -> Tensor:
    if isinstance(x, Tensor):
        return x
    return x.x.unfold(1, width, x.stride)[:, : x.each].reshape(-1, width)


def _turned(x: Tensor, cos: Tensor, sin: Tensor, pairs: int) -> Tensor:
    first, second = x[..., 0 : 2 * pairs : 2], x[..., 1 : 2 * pairs : 2]
    c, s = cos[:, None], sin[:, None]
    both = torch.stack((first * c - second * s, second * c + first * s), dim=-1).flatten(-2)
    return torch.cat((both, x[..., 2 * pairs :]), dim=-1)
