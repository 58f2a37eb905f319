"""The index of the largest element of each row: every implementation of it.

Each takes `x`, a C-contiguous float32 (rows, n) array with n > 0, and `out`, a C-contiguous int64 (rows,) array.
Of equals the first wins, and a NaN is larger than everything (NumPy's rule), so that a broken model shows.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from kernels.compile import Loop, compile_loop

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]

SIGNATURE = "int64(float32[:, ::1], int64[::1])"


def refuse(x: Float32, out: Int64) -> None:
    """Say what is wrong with arrays that a kernel did not take.

    Raises:
        ValueError: Wrong dtype, shape or layout, rows without elements, a read-only `out`.
    """
    if x.dtype != np.float32 or x.ndim != 2 or not x.flags.c_contiguous:
        raise ValueError(f"x must be contiguous native float32 (rows, n), got {x.dtype.str} {x.shape}")
    if x.shape[1] == 0:
        raise ValueError(f"argmax of rows without elements is not defined, got {x.shape}")
    good = out.dtype == np.int64 and out.flags.c_contiguous and out.flags.writeable
    if not good or out.shape != x.shape[:1]:
        raise ValueError(
            f"out must be contiguous writable native int64 ({x.shape[0]},), got {out.dtype.str} {out.shape}"
        )


def numpy_kernel() -> Loop:
    """`numpy.argmax`."""

    def convert(x: Float32, out: Int64) -> int:
        refuse(x, out)
        x.argmax(axis=1, out=out)
        return 0

    return Loop(convert)


def scalar_kernel() -> Loop:
    """One element at a time."""
    from kernels import simd

    @compile_loop(SIGNATURE)
    def loop(x, out):  # type: ignore[no-untyped-def]
        rows, n = x.shape
        if n == 0 or out.size != rows or not simd.usable(x, False) or not simd.usable(out, True):
            return -1
        for row in range(rows):
            best = x[row, 0]
            where = 0
            for i in range(n):
                value = x[row, i]
                if value > best:
                    best = value
                    where = i
                elif value != value:
                    where = i
                    break
            out[row] = where
        return 0

    return loop


def vector_kernel(lanes: int) -> Loop:
    """See `kernels.simd_argmax`: four rows at a time, what is left one by one."""
    from kernels import simd, simd_argmax

    @compile_loop(SIGNATURE)
    def loop(x, out):  # type: ignore[no-untyped-def]
        simd.target(lanes)
        rows, n = x.shape
        if n == 0 or out.size != rows or not simd.usable(x, False) or not simd.usable(out, True):
            return -1
        simd_argmax.all_rows(x, rows, n, out, lanes)
        return 0

    return loop


CUDA = """
extern "C" __global__ void row_argmax(const float* x, long long n, float* best, long long* label) {
    float value;
    long long index;
    best_of_row(x + blockIdx.x * n, n, false, 0.0f, 0, &value, &index);
    if (threadIdx.x == 0) { best[blockIdx.x] = value; label[blockIdx.x] = index; }
}
"""


def on_device() -> Callable[[Float32], tuple[Int64, Float32]]:
    """A function from `x` to the index and the value of the largest element of each row: one block for each row."""
    from kernels import gpu

    cupy = gpu.cupy()
    kernel = gpu.raw_kernel(gpu.BEST_OF_ROW + CUDA, "row_argmax")

    def find(x: Float32) -> tuple[Int64, Float32]:
        rows, n = x.shape
        best, label = cupy.empty(rows, cupy.float32), cupy.empty(rows, cupy.int64)
        kernel((rows,), (gpu.THREADS,), (cupy.asarray(x), np.int64(n), best, label))
        return label.get(), best.get()

    return find


def cupy_kernel() -> Loop:
    """One block for each row."""
    find = on_device()

    def convert(x: Float32, out: Int64) -> int:
        refuse(x, out)
        if out.size:
            out[:] = find(x)[0]
        return 0

    return Loop(convert)
