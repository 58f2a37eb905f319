"""The `kernel` axis: which implementation of the hot loops runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kernels import pcm as pcm_kernels
from pipelines.contracts import Float32, Kernels
from pipelines.registry import Context, Variant


class _Kernels:
    """The implementations of one name, behind the checks that all of them share."""

    def __init__(self, convert: pcm_kernels.PcmKernel) -> None:
        self._convert = convert

    def pcm16_to_float32(self, pcm: bytes | memoryview, out: Float32) -> None:
        """See `pipelines.contracts.Kernels`."""
        samples = pcm_kernels.as_int16(pcm)
        pcm_kernels.check(samples, out)
        self._convert(samples, out)


class NumpyKernel(Variant):
    """`kernel/numpy`."""

    id = "kernel/numpy"
    summary = "NumPy ufuncs"

    @classmethod
    @contextmanager
    def _open_impl(cls, context: Context, options: Any) -> Iterator[Kernels]:
        yield _Kernels(pcm_kernels.numpy_kernel())


class ScalarKernel(Variant):
    """`kernel/scalar`."""

    id = "kernel/scalar"
    summary = "numba loops with vectorisation off: one element at a time"

    @classmethod
    @contextmanager
    def _open_impl(cls, context: Context, options: Any) -> Iterator[Kernels]:
        yield _Kernels(pcm_kernels.scalar_kernel())
