"""The `memory` axis: where the arrays of the hot path come from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import numpy.typing as npt

from kernels.buffers import BufferPool
from pipelines.contracts import Buffers
from pipelines.registry import Context, Variant


class _Fresh:
    """A new allocation for every lease; the garbage collector takes it back."""

    def lease(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> AbstractContextManager[npt.NDArray[np.generic]]:
        return nullcontext(np.empty(shape, dtype))


class FreshMemory(Variant):
    """`memory/fresh`."""

    id = "memory/fresh"
    summary = "allocates every array anew"

    @classmethod
    @contextmanager
    def _open_impl(cls, context: Context, options: Any) -> Iterator[Buffers]:
        yield _Fresh()


class PooledMemory(Variant):
    """`memory/pooled`."""

    id = "memory/pooled"
    summary = "leases 64-byte-aligned arrays from a bounded pool"

    @classmethod
    @contextmanager
    def _open_impl(cls, context: Context, options: Any) -> Iterator[Buffers]:
        pool = BufferPool()
        yield pool
        if pool.counters.in_use_bytes:
            raise RuntimeError(f"{pool.counters.in_use_bytes} bytes of pooled buffers were never given back")
