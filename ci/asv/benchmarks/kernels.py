"""The kernels over the history of the project: `asv run --config ci/asv/asv.conf.json`, needs `pip install asv`.

Every operation and size is timed with each implementation that can run on the machine; the others are skipped by asv.
Compiling is not part of a timing (it happens in `setup`) and is tracked by itself.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kernels.buffers import BufferPool, aligned_block
from kernels.compile_time import measure
from kernels.dispatch import IMPLEMENTATIONS, OPERATIONS, TABLE, Implementation, Operation, problem
from kernels.workloads import SIZES, workload


class Kernel:
    """One call of one kernel from Python."""

    params = (list(OPERATIONS), list(IMPLEMENTATIONS), list(SIZES))
    param_names = ("operation", "implementation", "size")

    def setup(self, operation: Operation, implementation: Implementation, size: str) -> None:
        """Compile the kernel and make its arguments."""
        if problem(implementation) is not None:
            raise NotImplementedError  # asv's way to skip a case
        self._arguments: tuple[Any, ...] = workload(operation, SIZES[size]).arguments
        self._call = TABLE[operation].load(implementation).call
        self._call(*self._arguments)

    def time_call(self, operation: Operation, implementation: Implementation, size: str) -> None:
        """Seconds of one call."""
        self._call(*self._arguments)


class Memcpy:
    """A copy that moves as many bytes as each operation: what the machine could do that day."""

    params = (list(OPERATIONS), list(SIZES))
    param_names = ("operation", "size")

    def setup(self, operation: Operation, size: str) -> None:
        """Make source and target."""
        count = workload(operation, SIZES[size]).memcpy_bytes
        self._source, self._target = (aligned_block(count) for _ in range(2))
        self._source[:] = self._target[:] = 1

    def time_copy(self, operation: Operation, size: str) -> None:
        """Seconds of one copy."""
        np.copyto(self._target, self._source)


class Compile:
    """What making an implementation ready costs."""

    params = (["scalar", "avx2", "avx512"],)
    param_names = ("implementation",)
    timeout = 300
    unit = "seconds"

    def setup(self, implementation: Implementation) -> None:
        """Skip what cannot run here."""
        if problem(implementation) is not None:
            raise NotImplementedError

    def track_cold_s(self, implementation: Implementation) -> float:
        """Seconds to compile every operation in a fresh process."""
        return sum(time.cold_ns for time in measure(implementation)) / 1e9

    def track_cached_s(self, implementation: Implementation) -> float:
        """Seconds to load every operation from the cache in a fresh process."""
        return sum(time.cached_ns for time in measure(implementation)) / 1e9


class Pool:
    """A lease from the pool beside a fresh array of the same size."""

    params = ([2_560, 262_144],)
    param_names = ("elements",)

    def setup(self, elements: int) -> None:
        """Warm the pool."""
        self._pool = BufferPool()
        self.time_lease(elements)

    def time_lease(self, elements: int) -> None:
        """Seconds to lease an array, touch it and give it back."""
        with self._pool.lease((elements,), np.float32) as array:
            array[0] = 1

    def time_fresh(self, elements: int) -> None:
        """Seconds to allocate an array, touch it and free it."""
        np.empty(elements, np.float32)[0] = 1
