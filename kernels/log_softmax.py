"""Logits to log-probabilities, row by row: every implementation of it.

Each takes `x`, a C-contiguous float32 (rows, n) array with n > 0, and `out`, one of the same shape, which may be `x`
itself, and writes `x - max - log(sum(exp(x - max)))`. Results agree with float64 to 1e-6 of the row's largest
magnitude. A row that holds a NaN or +infinity, or nothing but -infinity, becomes NaN throughout: it has no
distribution. A -infinity among finite numbers stays -infinity.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from kernels.compile import Loop, compile_loop

Float32 = npt.NDArray[np.float32]

SIGNATURE = "int64(float32[:, ::1], float32[:, ::1])"


def refuse(x: Float32, out: Float32) -> None:
    """Say what is wrong with arrays that a kernel did not take.

    Raises:
        ValueError: Wrong dtype, shape or layout, rows without elements, a read-only `out`.
    """
    if x.dtype != np.float32 or x.ndim != 2 or not x.flags.c_contiguous:
        raise ValueError(f"x must be contiguous native float32 (rows, n), got {x.dtype.str} {x.shape}")
    if x.shape[1] == 0:
        raise ValueError(f"log-softmax of rows without elements is not defined, got {x.shape}")
    good = out.dtype == np.float32 and out.flags.c_contiguous and out.flags.writeable
    if not good or out.shape != x.shape:
        raise ValueError(f"out must be contiguous writable native float32 {x.shape}, got {out.dtype.str} {out.shape}")


def numpy_kernel() -> Loop:
    """The formula in array operations."""

    def convert(x: Float32, out: Float32) -> int:
        refuse(x, out)
        with np.errstate(invalid="ignore"):
            np.subtract(x, x.max(axis=1, keepdims=True), out=out)
            out -= np.log(np.exp(out).sum(axis=1, keepdims=True))
        return 0

    return Loop(convert)


def scalar_kernel() -> Loop:
    """One element at a time."""
    from kernels import simd

    @compile_loop(SIGNATURE)
    def loop(x, out):  # type: ignore[no-untyped-def]
        rows, n = x.shape
        if n == 0 or out.shape != x.shape or not simd.usable(x, False) or not simd.usable(out, True):
            return -1
        for row in range(rows):
            best = x[row, 0]
            for i in range(n):
                if x[row, i] > best:
                    best = x[row, i]
            total = 0.0  # float64: added one by one in float32, a vocabulary of 32,768 loses 6e-5
            for i in range(n):
                total += math.exp(x[row, i] - best)
            shift = np.float32(math.log(total))
            for i in range(n):
                out[row, i] = (x[row, i] - best) - shift
        return 0

    return loop


def vector_kernel(lanes: int) -> Loop:
    """Three passes over a row that stays in L1: maximum, sum of exponentials, difference."""
    from kernels import simd, simd_math, simd_rows

    @compile_loop(SIGNATURE)
    def loop(x, out):  # type: ignore[no-untyped-def]
        simd.target(lanes)
        rows, n = x.shape
        if n == 0 or out.shape != x.shape or not simd.usable(x, False) or not simd.usable(out, True):
            return -1
        nothing = simd.splat(np.float32(-np.inf), lanes)
        for row in range(rows):
            base = row * n
            end = base + n
            best, bad = simd_rows.block_max(x, base, end, lanes)
            if bad:
                best = np.float32(np.nan)
            peak = simd.splat(best, lanes)
            sums = simd.splat(np.float32(0), lanes)
            more = sums
            i = base
            while i + 2 * lanes <= end:
                sums = simd.add(sums, simd_math.exp(simd.sub(simd.load(x, i, lanes), peak), lanes))
                more = simd.add(more, simd_math.exp(simd.sub(simd.load(x, i + lanes, lanes), peak), lanes))
                i += 2 * lanes
            while i < end:
                some = simd.load_part(x, i, min(end - i, lanes), nothing)
                sums = simd.add(sums, simd_math.exp(simd.sub(some, peak), lanes))
                i += lanes
            shift = simd.splat(np.float32(math.log(simd.total(simd.add(sums, more)))), lanes)
            i = base
            while i + lanes <= end:
                simd.store(out, i, simd.sub(simd.sub(simd.load(x, i, lanes), peak), shift))
                i += lanes
            if i < end:
                some = simd.load_part(x, i, end - i, nothing)
                simd.store_part(out, i, end - i, simd.sub(simd.sub(some, peak), shift))
        return 0

    return loop


CUDA = """
__device__ float reduced(float mine, bool sum) {
    __shared__ float parts[256];
    parts[threadIdx.x] = mine;
    __syncthreads();
    for (int half = blockDim.x / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) {
            float other = parts[threadIdx.x + half], own = parts[threadIdx.x];
            parts[threadIdx.x] = sum ? own + other : (other > own || other != other ? other : own);
        }
        __syncthreads();
    }
    float result = parts[0];
    __syncthreads();
    return result;
}

extern "C" __global__ void log_softmax(const float* x, long long n, float* out) {
    const float* row = x + blockIdx.x * n;
    float highest = __int_as_float(0xff800000), sum = 0.0f;
    for (long long i = threadIdx.x; i < n; i += blockDim.x)
        if (row[i] > highest || row[i] != row[i]) highest = row[i];
    highest = reduced(highest, false);
    for (long long i = threadIdx.x; i < n; i += blockDim.x) sum += expf(row[i] - highest);
    float shift = logf(reduced(sum, true));
    for (long long i = threadIdx.x; i < n; i += blockDim.x) out[blockIdx.x * n + i] = (row[i] - highest) - shift;
}
"""


def cupy_kernel() -> Loop:
    """One block for each row."""
    from kernels import gpu

    cupy = gpu.cupy()
    kernel = gpu.raw_kernel(CUDA, "log_softmax")

    def convert(x: Float32, out: Float32) -> int:
        refuse(x, out)
        if x.size:
            result = cupy.empty(x.shape, cupy.float32)
            kernel((x.shape[0],), (gpu.THREADS,), (cupy.asarray(x), np.int64(x.shape[1]), result))
            result.get(out=out)
        return 0

    return Loop(convert)
