"""A pool of aligned buffers: size-classed, bounded, thread-safe, leased for the time of a `with` block."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, replace
from threading import RLock
from types import TracebackType
from typing import Any

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
    return max(SMALLEST_CLASS, 1 << (size - 1).bit_length())


@dataclass(slots=True)
class PoolCounters:
    """What a pool did so far; bytes count whole size classes.

    Attributes:
        hits: Leases served from a buffer that was there.
        misses: Leases that had to allocate.
        dropped: Buffers freed on return, since the pool held enough.
        leaked: Leases that were forgotten without being given back; their buffers are lost to the pool.
        in_use: Buffers that are leased now.
        in_use_bytes: Their bytes.
        idle_bytes: Bytes that wait for the next lease.
        high_water_bytes: The most bytes that were ever leased at once.
    """

    hits: int = 0
    misses: int = 0
    dropped: int = 0
    leaked: int = 0
    in_use: int = 0
    in_use_bytes: int = 0
    idle_bytes: int = 0
    high_water_bytes: int = 0


class Lease:
    """A leased array; leaving the `with` block gives its buffer back."""

    __slots__ = ("_array", "_block", "_pool")

    def __init__(self, pool: BufferPool, block: Block, array: npt.NDArray[Any]) -> None:
        self._pool = pool
        self._block: Block | None = block
        self._array = array

    def __enter__(self) -> npt.NDArray[Any]:
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

    def __del__(self) -> None:
        block = self._block
        if block is not None:
            self._pool._count_leak()
            warnings.warn(
                f"a pooled buffer of {block.size} bytes was never given back; lease it in a `with` block",
                ResourceWarning,
                stacklevel=2,
            )


class BufferPool:
    """Keeps returned buffers for the next lease of the same size class, up to `max_idle_bytes` of them.

    As a context manager it checks on leaving that everything was given back. A lease makes a view of a buffer (some
    hundred bytes of Python object), never a new buffer where an idle one of its class is at hand. Views
    are not kept: whoever leased one may have changed its shape or flags.
    """

    def __init__(self, max_idle_bytes: int = 256 << 20) -> None:
        self._max_idle_bytes = max_idle_bytes
        self._idle: dict[int, list[Block]] = {}
        self._lock = RLock()  # a lease may be collected, and counted, while this thread holds it
        self.counters = PoolCounters()

    def __enter__(self) -> BufferPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()

    def close(self) -> None:
        """Free what is idle.

        Raises:
            RuntimeError: Buffers are still leased, or were leaked.
        """
        with self._lock:
            self._idle.clear()
            counters = self.counters
            counters.idle_bytes = 0
            if counters.in_use:
                raise RuntimeError(
                    f"{counters.in_use} pooled buffers of {counters.in_use_bytes} bytes were never given back "
                    f"({counters.leaked} of them leaked); lease them in a `with` block"
                )

    def snapshot(self) -> PoolCounters:
        """A copy of the counters that belong together, for an exporter on another thread."""
        with self._lock:
            return replace(self.counters)

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
            counters.in_use += 1
            counters.in_use_bytes += bucket
            counters.high_water_bytes = max(counters.high_water_bytes, counters.in_use_bytes)
        if block is None:
            block = aligned_block(bucket)
        return Lease(self, block, block[:size].view(kind).reshape(shape))

    def _take_back(self, block: Block) -> None:
        bucket = block.size
        with self._lock:
            counters = self.counters
            counters.in_use -= 1
            counters.in_use_bytes -= bucket
            if counters.idle_bytes + bucket > self._max_idle_bytes:
                counters.dropped += 1
                return
            counters.idle_bytes += bucket
            self._idle.setdefault(bucket, []).append(block)

    def _count_leak(self) -> None:
        with self._lock:
            self.counters.leaked += 1
