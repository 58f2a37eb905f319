"""The arrays and the loops of the hot path."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from pipelines.contracts.data import Float32, Int64

if TYPE_CHECKING:
    from kernels.stream_calls import GreedyReader, RingWriter


class Buffers(Protocol):
    """Where the arrays of the hot path come from (the `memory` axis)."""

    def lease(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> AbstractContextManager[npt.NDArray[np.generic]]:
        """An uninitialised C-contiguous array for the time of a `with` block."""
        ...


@runtime_checkable
class Kernels(Protocol):
    """The hot loops of a pipeline (the `kernel` axis).

    Arrays are C-contiguous, native, and of exactly the type that is written here; outputs are the caller's and are
    writable. Everything else is a ValueError that names the argument, the same from every implementation. Ties go to
    the smaller index, and a NaN counts as larger than every number.
    """

    def pcm16_to_float32(self, pcm: bytes | memoryview, out: Float32) -> None:
        """Convert PCM16 little-endian `pcm` (2 * n bytes) to float32 `out` (n,), scaled by 1 / 32,768."""
        ...

    def pcm16_into_ring(self, pcm: bytes | memoryview, ring: Float32, position: int) -> int:
        """The same into a ring buffer from `position` on, around its end; returns the position after it."""
        ...

    def mulaw_to_float32(self, codes: bytes | memoryview, out: Float32) -> None:
        """Convert 8-bit G.711 mu-law `codes` (n bytes) to float32 `out` (n,)."""
        ...

    def alaw_to_float32(self, codes: bytes | memoryview, out: Float32) -> None:
        """Convert 8-bit G.711 A-law `codes` (n bytes) to float32 `out` (n,)."""
        ...

    def argmax(self, x: Float32, out: Int64) -> None:
        """The index of the largest element of each row of `x` (rows, n) into `out` (rows,)."""
        ...

    def ctc_greedy(
        self, log_probs: Float32, blank: int, carry: Int64, tokens: Int64, confidences: Float32, frames: Int64
    ) -> int:
        """Best path of `log_probs` (T, V), repeats collapsed and blanks dropped; returns how many tokens it has.

        Args:
            log_probs: float32 (T, V).
            blank: The id of the blank.
            carry: int64 (1,), in and out: the label of the frame before; the blank at the start of a stream.
            tokens: int64 (>= T,): the tokens.
            confidences: float32 (>= T,): the probability of each token in its best frame.
            frames: int64 (>= T, 2): first and last frame of each token.
        """
        ...

    def ring_writer(self, ring: Float32) -> RingWriter:
        """`pcm16_into_ring` bound to a stream's ring: the chunk is the only argument of a call."""
        ...

    def greedy_reader(self, blank: int, capacity: int) -> GreedyReader:
        """`ctc_greedy` bound to a stream's carry and to outputs for chunks of up to `capacity` frames."""
        ...

    def mel_writer(
        self, weights: Float32, starts: Int64, ends: Int64, guard: float, floor: float
    ) -> Callable[[Float32, Float32], int]:
        """`log_mel` bound to a filter bank: a function of `power` and `out` that returns the number of frames."""
        ...

    def transpose(self, x: Float32, out: Float32) -> None:
        """Copy `x` (B, C, T) to `out` (B, T, C)."""
        ...

    def log_softmax(self, x: Float32, out: Float32) -> None:
        """Log-probabilities of each row of logits `x` (rows, n) into `out` (rows, n), which may be `x`."""
        ...

    def top_k(self, x: Float32, values: Float32, indices: Int64) -> None:
        """The k largest elements of each row of `x` (rows, n), falling, into `values` and `indices` (rows, k)."""
        ...

    def log_mel(
        self, power: Float32, weights: Float32, starts: Int64, ends: Int64, guard: float, floor: float, out: Float32
    ) -> None:
        """Log-mel energies `out` (frames, mels) of power spectra `power` (frames, bins).

        Args:
            power: float32 (frames, bins).
            weights: float32 (total,): the mel triangles without their zeros, one behind the other.
            starts: int64 (mels,): the first bin of each triangle.
            ends: int64 (mels,): the bin behind its last.
            guard: Added to each energy.
            floor: What an energy counts as at least.
            out: float32 (frames, mels).
        """
        ...
