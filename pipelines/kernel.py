"""The `kernel` axis: which implementation of the hot loops runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from kernels import dispatch
from pipelines.contracts import Kernels
from pipelines.registry import Context, Unavailable, Variant


class _Kernel(Variant):
    """One implementation of every operation; opening it compiles what is not in the cache yet."""

    implementation: ClassVar[dispatch.Implementation]

    @classmethod
    def available(cls) -> Unavailable | None:
        """The CPU features or the GPU that it lacks here; nothing is imported or compiled."""
        problem = dispatch.problem(cls.implementation)
        return None if problem is None else Unavailable(problem.reason, problem.remedy)

    @classmethod
    @contextmanager
    def _open_impl(cls, context: Context, options: Any) -> Iterator[Kernels]:
        from kernels.kernel_set import KernelSet

        yield KernelSet(cls.implementation)


class NumpyKernel(_Kernel):
    """`kernel/numpy`."""

    id = "kernel/numpy"
    summary = "NumPy ufuncs"
    implementation = "numpy"


class ScalarKernel(_Kernel):
    """`kernel/scalar`."""

    id = "kernel/scalar"
    summary = "numba loops with vectorisation off: one element at a time"
    implementation = "scalar"


class Avx2Kernel(_Kernel):
    """`kernel/avx2`."""

    id = "kernel/avx2"
    summary = "numba loops of explicit 256-bit vectors, 8 float32 at a time"
    implementation = "avx2"


class Avx512Kernel(_Kernel):
    """`kernel/avx512`."""

    id = "kernel/avx512"
    summary = "numba loops of explicit 512-bit vectors, 16 float32 at a time"
    implementation = "avx512"


class CupyKernel(_Kernel):
    """`kernel/cupy`."""

    id = "kernel/cupy"
    summary = "CUDA kernels through CuPy, copies to the GPU and back included"
    implementation = "cupy"
