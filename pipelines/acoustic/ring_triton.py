"""The operations of a ring step on a GPU: Triton's kernels, and cuBLAS where a product is nothing but one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from pipelines.acoustic import ring_kernels as kernels
from pipelines.acoustic.ring_step import Turned, Windows
from pipelines.acoustic.ring_weights import STRIDE, RingPool, RingWeights


class Tile(NamedTuple):
    """What one program of a product makes, and by how many warps and stages of its pipeline."""

    rows: int
    columns: int
    depth: int
    warps: int
    stages: int


Tiles = tuple[tuple[int, Tile | None], ...]


@dataclass(frozen=True, slots=True)
class Tuning:
    """How kernels are laid out.

    Attributes:
        tiles: Of Triton's products by how many rows they have at least, the most first.
        products: The same for single products, by the matrix's shape, ahead of `tiles`; `None` for cuBLAS's, of which
            there are only those with nothing behind them and no windows.
        plain_by_cublas: Whether products that cuBLAS has, and `products` has not, are its.
        listen: Rows, columns and warps of the first convolution's tiles.
        norm: Rows and warps of a program of the norm.
        attend_warps: Of a stream's head, at least: long chunks have more.
    """

    tiles: Tiles = (
        (1_024, Tile(128, 128, 64, 8, 3)),
        (256, Tile(64, 64, 64, 4, 4)),
        (0, Tile(16, 32, 64, 4, 5)),
    )
    products: Mapping[tuple[int, int], Tiles] = field(default_factory=dict)
    plain_by_cublas: bool = True
    listen: tuple[int, int, int] = (64, 128, 4)
    norm: tuple[int, int] = (1, 1)
    attend_warps: int = 2

    def tile(self, rows: int, matrix: tuple[int, ...], *, cublas: bool = False) -> Tile | None:
        """For a product of so many rows; `cublas` if it has it."""
        own = self.products.get((matrix[0], matrix[1]))
        if own is None and cublas and self.plain_by_cublas:
            return None
        found = next(tile for least, tile in own or self.tiles if rows >= least)
        return found or (None if cublas else next(tile for least, tile in self.tiles if rows >= least))


@dataclass(frozen=True, slots=True)
class TritonOps:
    """Implements `pipelines.acoustic.ring_step.RingOps`."""

    tuning: Tuning = field(default_factory=Tuning)

    def begin(self, weights: RingWeights, pool: RingPool, rows: Tensor, frames: int) -> Turned:
        """Where the frames of a step stand; moves the streams' counters on."""
        pairs = len(weights.turns)
        position = torch.empty_like(rows)
        cos, sin = (torch.empty(len(rows), frames, pairs, device=rows.device) for _ in range(2))
        kernels.begin[(len(rows),)](
            pool.frames, rows, weights.turns, position, cos, sin, frames, pairs, _power(frames), num_warps=1
        )
        return Turned(position, cos, sin)

    def listen(self, weights: RingWeights, pool: RingPool, rows: Tensor, samples: Tensor) -> Tensor:
        """The first convolution, tanh, scale and offset."""
        streams, count = samples.shape
        taps, width = weights.first.shape
        each = (weights.carry + count - taps) // STRIDE + 1
        out = torch.empty(streams, each, width, dtype=weights.head.dtype, device=samples.device)
        down, across, warps = self.tuning.listen
        kernels.listen[(_blocks(streams * each, down), _blocks(width, across))](
            pool.samples, samples, rows, weights.first, weights.scale, weights.offset, out, streams * each,
            weights.carry, count, each, taps, STRIDE, width, down, across, _power(taps),
            _precision(weights.head, "tf32"), num_warps=warps,
        )  # fmt: skip
        kernels.carry[(streams,)](pool.samples, samples, rows, weights.carry, count, _power(weights.carry), num_warps=4)
        return out

    def product(self, x: Tensor | Windows, matrix: Tensor) -> Tensor:
        """A product in the matrix's type."""
        tile = None
        if isinstance(x, Tensor):
            tile = self.tuning.tile(len(x), matrix.shape, cublas=True)
            if tile is None:
                return torch.mm(x, matrix)
        return self._product(x, matrix, None, matrix.dtype, tile=tile)

    def gelu(self, x: Tensor | Windows, matrix: Tensor, bias: Tensor, *, wide: bool = False) -> Tensor:
        """The GELU of a product with its bias."""
        return self._product(x, matrix, bias, torch.float32 if wide else matrix.dtype, gelu=True)

    def said(self, x: Tensor, matrix: Tensor, bias: Tensor) -> Tensor:
        """Log-probabilities; a program has all labels."""
        columns = _power(matrix.shape[1])
        if columns > 256:
            return torch.log_softmax((x @ matrix).float() + bias, dim=-1)
        tile = Tile(16 if len(x) < 4_096 else 64, columns, 32, 4, 4)
        return self._product(x, matrix, bias, torch.float32, tile=tile, log_softmax=True)

    def norm(self, x: Tensor, gain: Tensor, epsilon: float, like: Tensor) -> Tensor:
        """LayerNorm."""
        return self._norm(x, None, None, gain, epsilon, like.dtype)

    def added(self, x: Tensor, more: Tensor, bias: Tensor | None, gain: Tensor, epsilon: float) -> Tensor:
        """Add to `x` in place, then LayerNorm."""
        return self._norm(x, more, bias, gain, epsilon, more.dtype)

    def attend(self, weights: RingWeights, qkv: Tensor, ring: Tensor, rows: Tensor, turned: Turned) -> Tensor:
        """One kernel turns, remembers and attends."""
        streams, frames, pairs = turned.cos.shape
        _, _, heads, places, width = ring.shape
        out = torch.empty(streams * frames, heads * width, dtype=qkv.dtype, device=qkv.device)
        kernels.attend[(streams, heads)](
            qkv, ring, rows, turned.position, turned.cos, turned.sin, out, ring.stride(0), width**-0.5,
            frames, weights.left, places, heads, width, pairs, _power(frames), _power(weights.left), _power(width),
            _precision(qkv, "ieee"), num_warps=max(self.tuning.attend_warps, _power(frames) // 16),
        )  # fmt: skip
        return out

    def _product(
        self, x: Tensor | Windows, matrix: Tensor, bias: Tensor | None, dtype: torch.dtype, *,
        gelu: bool = False, log_softmax: bool = False, tile: Tile | None = None,
    ) -> Tensor:  # fmt: skip
        depth, width = matrix.shape
        windows = x if isinstance(x, Windows) else Windows(x.view(1, -1), len(x), depth)
        count = len(windows.x) * windows.each
        each, apart = (windows.each, windows.x.shape[1]) if len(windows.x) > 1 else (1, windows.stride)
        tile = tile or self.tuning.tile(count, matrix.shape)
        assert tile is not None
        out = torch.empty(count, width, dtype=dtype, device=matrix.device)
        kernels.product[(_blocks(count, tile.rows) * _blocks(width, tile.columns),)](
            windows.x, matrix, bias, out, count, each, apart, windows.stride, width, depth,
            bias is not None, gelu, log_softmax, tile.rows, tile.columns, tile.depth, 8, _precision(matrix, "ieee"),
            num_warps=tile.warps, num_stages=tile.stages,
        )  # fmt: skip
        return out

    def _norm(
        self, x: Tensor, more: Tensor | None, bias: Tensor | None, gain: Tensor, epsilon: float, dtype: torch.dtype
    ) -> Tensor:
        rows, warps = self.tuning.norm
        out = torch.empty_like(x, dtype=dtype)
        kernels.norm[(_blocks(len(x), rows),)](
            x, more, bias, gain, out, len(x), epsilon, more is not None, bias is not None, x.shape[1], rows,
            _power(x.shape[1]), num_warps=warps,
        )  # fmt: skip
        return out


def _blocks(count: int, size: int) -> int:
    return -(-count // size)


def _power(size: int) -> int:
    """A power of two that is no less, and enough for a tensor core."""
    return max(16, 1 << (size - 1).bit_length())


def _precision(like: Tensor, wanted: str) -> str:
    """FP32 weights, which tests have, are multiplied as such."""
    return "ieee" if like.dtype == torch.float32 else wanted
