"""The k largest elements of each row and where they are: every implementation of it.

Each takes `x`, a C-contiguous float32 (rows, n) array, and `values` and `indices`, C-contiguous float32 and int64
(rows, k) arrays with 0 < k <= n, and fills them in falling order. Of equals the smaller index comes first; a NaN is
larger than everything (`k = 1` is `kernels.argmax`).

The compiled ones keep the k best so far sorted and insert what beats the last of them: for the k of a beam search
(4 to 64) few elements ever do. A heap was not tried; at k = n a sort is the better tool.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from kernels.compile import Loop, compile_loop

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]

SIGNATURE = "int64(float32[:, ::1], float32[:, ::1], int64[:, ::1])"


def refuse(x: Float32, values: Float32, indices: Int64) -> None:
    """Say what is wrong with arrays that a kernel did not take.

    Raises:
        ValueError: Wrong dtype, shape or layout, k not in [1, n], a read-only output.
    """
    if x.dtype != np.float32 or x.ndim != 2 or not x.flags.c_contiguous:
        raise ValueError(f"x must be contiguous native float32 (rows, n), got {x.dtype.str} {x.shape}")
    for name, array, dtype in (("values", values, np.float32), ("indices", indices, np.int64)):
        good = array.dtype == dtype and array.flags.c_contiguous and array.flags.writeable
        if not good or array.ndim != 2 or array.shape[0] != x.shape[0]:
            raise ValueError(
                f"{name} must be contiguous writable native {np.dtype(dtype).name} ({x.shape[0]}, k), "
                f"got {array.dtype.str} {array.shape}"
            )
    if values.shape != indices.shape:
        raise ValueError(f"values and indices must have one shape, got {values.shape} and {indices.shape}")
    if not 0 < values.shape[1] <= x.shape[1]:
        raise ValueError(f"k must be in [1, {x.shape[1]}], got {values.shape[1]}")


def numpy_kernel() -> Loop:
    """A partition to find the k-th, then a stable sort of what is not below it."""

    def convert(x: Float32, values: Float32, indices: Int64) -> int:
        refuse(x, values, indices)
        k = values.shape[1]
        for row, best, where in zip(x, values, indices, strict=True):
            if np.isnan(row).any():
                numbers = np.where(np.isnan(row), np.float32(0), row)
                where[:] = np.lexsort((-numbers, ~np.isnan(row)))[:k]
            else:
                candidates = np.flatnonzero(row >= np.partition(row, row.size - k)[row.size - k])
                where[:] = candidates[np.argsort(-row[candidates], kind="stable")[:k]]
            best[:] = row[where]
        return 0

    return Loop(convert)


def scalar_kernel() -> Loop:
    """One element at a time."""
    from kernels import simd

    @compile_loop(SIGNATURE)
    def loop(x, values, indices):  # type: ignore[no-untyped-def]
        rows, n = x.shape
        k = values.shape[1]
        if k < 1 or k > n or values.shape[0] != rows or indices.shape != values.shape:
            return -1
        if not (simd.usable(x, False) and simd.usable(values, True) and simd.usable(indices, True)):
            return -1
        for row in range(rows):
            for i in range(n):
                value = x[row, i]
                j = min(i, k)
                if j == k:
                    last = values[row, k - 1]
                    if not (value > last or (value != value and last == last)):
                        continue
                    j = k - 1
                while j > 0:
                    before = values[row, j - 1]
                    if not (value > before or (value != value and before == before)):
                        break
                    values[row, j] = before
                    indices[row, j] = indices[row, j - 1]
                    j -= 1
                values[row, j] = value
                indices[row, j] = i
        return 0

    return loop


def vector_kernel(lanes: int) -> Loop:
    """Four vectors at a time are compared with the k-th best so far; only what beats it is looked at alone."""
    from kernels import simd, simd_rows

    @compile_loop(SIGNATURE)
    def loop(x, values, indices):  # type: ignore[no-untyped-def]
        simd.target(lanes)
        rows, n = x.shape
        k = values.shape[1]
        if k < 1 or k > n or values.shape[0] != rows or indices.shape != values.shape:
            return -1
        if not (simd.usable(x, False) and simd.usable(values, True) and simd.usable(indices, True)):
            return -1
        for row in range(rows):
            base = row * n
            to = row * k
            for i in range(k):
                simd_rows.insert(values, indices, to, i, simd.at(x, base + i), i)
            i = k
            while i < n:
                last = simd.at(values, to + k - 1)
                if last != last:
                    break
                threshold = simd.splat(last, lanes)
                some = min(n - i, 4 * lanes)
                if some == 4 * lanes:
                    m0 = simd.greater_or_nan(simd.load(x, base + i, lanes), threshold)
                    m1 = simd.greater_or_nan(simd.load(x, base + i + lanes, lanes), threshold)
                    m2 = simd.greater_or_nan(simd.load(x, base + i + 2 * lanes, lanes), threshold)
                    m3 = simd.greater_or_nan(simd.load(x, base + i + 3 * lanes, lanes), threshold)
                    found = (
                        simd.bits(m0) | simd.bits(m1) << lanes | simd.bits(m2) << 2 * lanes | simd.bits(m3) << 3 * lanes
                    )
                else:
                    some = min(some, lanes)
                    found = simd.bits(simd.greater_or_nan(simd.load_part(x, base + i, some, threshold), threshold))
                while found != 0:
                    where = i + simd.lowest_bit(found)
                    found &= found - 1
                    value = simd.at(x, base + where)
                    last = simd.at(values, to + k - 1)
                    if value > last or (value != value and last == last):
                        simd_rows.insert(values, indices, to, k - 1, value, where)
                i += some
        return 0

    return loop


CUDA = """
extern "C" __global__ void top_k(const float* x, long long n, long long k, float* values, long long* indices) {
    float value = 0.0f;
    long long index = 0;
    for (long long j = 0; j < k; ++j) {
        best_of_row(x + blockIdx.x * n, n, j > 0, value, index, &value, &index);
        if (threadIdx.x == 0) { values[blockIdx.x * k + j] = value; indices[blockIdx.x * k + j] = index; }
    }
}
"""


def cupy_kernel() -> Loop:
    """One block for each row, which goes over it k times: the best one behind the one before."""
    from kernels import gpu

    cupy = gpu.cupy()
    kernel = gpu.raw_kernel(gpu.BEST_OF_ROW + CUDA, "top_k")

    def convert(x: Float32, values: Float32, indices: Int64) -> int:
        refuse(x, values, indices)
        if values.size:
            best, where = cupy.empty(values.shape, cupy.float32), cupy.empty(values.shape, cupy.int64)
            sizes = (np.int64(x.shape[1]), np.int64(values.shape[1]))
            kernel((x.shape[0],), (gpu.THREADS,), (cupy.asarray(x), *sizes, best, where))
            best.get(out=values)
            where.get(out=indices)
        return 0

    return Loop(convert)
