"""A pool of aligned buffers: size-classed, bounded, thread-safe, leased for the time of a `with` block."""

from __future__ import annotations

import math
from dataclasses import dataclass
from threading import Lock
from types import TracebackType

import numpy as np
import numpy.typing as npt

ALIGNMENT = 64
"""Bytes: a cache line, and the widest vector."""
SMALLEST_CLASS = 256
"""Bytes; size classes are this times a power of two."""

Block = npt.NDArray[np.uint8]


def aligned_block(size: int) -> Block:
    """An uninitialised uint8 (size,) array whose first byte is aligned to `ALIGNMENT`."""
    raw = np.empty(size + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + size]


def size_class(size: int) -> int:
    """The smallest size class that holds `size` bytes."""
    return SMALLEST_CLASS << max(0, math.ceil(math.log2(max(size, 1) / SMALLEST_CLASS)))


@dataclass(slots=True)
class PoolCounters:
    """What a pool did so far; bytes count whole size classes."""

    hits: int = 0
    misses: int = 0
    dropped: int = 0
    in_use_bytes: int = 0
    idle_bytes: int = 0
    high_water_bytes: int = 0


class Lease:
    """A leased array; leaving the `with` block gives its buffer back."""

    __slots__ = ("_array", "_block", "_pool")

    def __init__(self, pool: BufferPool, block: Block, array: npt.NDArray[np.generic]) -> None:
        self._pool = pool
        self._block: Block | None = block
        self._array = array

    def __enter__(self) -> npt.NDArray[np.generic]:
        if self._block is None:
            raise RuntimeError("this lease was given back already; take a new one from the pool")
        return self._array

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()

    def release(self) -> None:
        """Give the buffer back.

        Raises:
            RuntimeError: It was given back before.
        """
        block, self._block = self._block, None
        if block is None:
            raise RuntimeError("double release of a pooled buffer")
        self._pool._take_back(block)


class BufferPool:
    """Keeps returned buffers for the next lease of the same size class, up to `max_idle_bytes` of them."""

    def __init__(self, max_idle_bytes: int = 256 << 20) -> None:
        self._max_idle_bytes = max_idle_bytes
        self._idle: dict[int, list[Block]] = {}
        self._lock = Lock()
        self.counters = PoolCounters()

    def lease(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Lease:
        """An uninitialised C-contiguous array of `shape` and `dtype`, aligned to `ALIGNMENT` bytes."""
        kind = np.dtype(dtype)
        size = math.prod(shape) * kind.itemsize
        bucket = size_class(size)
        with self._lock:
            stack = self._idle.get(bucket)
            block = stack.pop() if stack else None
            counters = self.counters
            if block is None:
                counters.misses += 1
            else:
                counters.hits += 1
                counters.idle_bytes -= bucket
            counters.in_use_bytes += bucket
            counters.high_water_bytes = max(counters.high_water_bytes, counters.in_use_bytes)
        if block is None:
            block = aligned_block(bucket)
        return Lease(self, block, block[:size].view(kind).reshape(shape))

    def _take_back(self, block: Block) -> None:
        bucket = block.size
        with self._lock:
            counters = self.counters
            counters.in_use_bytes -= bucket
            if counters.idle_bytes + bucket > self._max_idle_bytes:
                counters.dropped += 1
                return
            counters.idle_bytes += bucket
            self._idle.setdefault(bucket, []).append(block)
