"""What the CuPy implementations share: building a CUDA kernel, and the parts of its source that several need.

They take and give arrays of the host, as all implementations do: the copies there and back are part of what they cost.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

THREADS = 256
"""Threads of a block that works on one row; a power of two."""

BEST_OF_ROW = """
// Numbers in order as integers: CuPy compiles with -ftz=true, which takes denormal floats for zeros in comparisons.
__device__ int rank(float x) {
    int bits = __float_as_int(x);
    return bits < 0 ? (int)0x80000000 - bits : bits;
}

__device__ bool is_nan(float x) { return (__float_as_int(x) & 0x7fffffff) > 0x7f800000; }

// NaN before all numbers, then falling, equals by rising index
__device__ bool ahead(float a, long long i, float b, long long j) {
    if (is_nan(a) != is_nan(b)) return is_nan(a);
    if (!is_nan(a) && rank(a) != rank(b)) return rank(a) > rank(b);
    return i < j;
}

// The foremost element of a row of n behind (limit, limit_index); all threads of the block look for it together.
__device__ void best_of_row(const float* row, long long n, bool limited, float limit, long long limit_index,
                            float* value, long long* index) {
    __shared__ float values[256];
    __shared__ long long indices[256];
    float best = __int_as_float(0xff800000);
    long long where = n;
    for (long long i = threadIdx.x; i < n; i += blockDim.x) {
        float x = row[i];
        if (limited && !ahead(limit, limit_index, x, i)) continue;
        if (where == n || ahead(x, i, best, where)) { best = x; where = i; }
    }
    values[threadIdx.x] = best;
    indices[threadIdx.x] = where;
    __syncthreads();
    for (int half = blockDim.x / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) {
            long long other = indices[threadIdx.x + half];
            long long mine = indices[threadIdx.x];
            if (other < n && (mine == n || ahead(values[threadIdx.x + half], other, values[threadIdx.x], mine))) {
                values[threadIdx.x] = values[threadIdx.x + half];
                indices[threadIdx.x] = other;
            }
        }
        __syncthreads();
    }
    *value = values[0];
    *index = indices[0];
    __syncthreads();
}
"""


def cupy() -> Any:
    """The CuPy module; it is no dependency of the project's."""
    return import_module("cupy")


def raw_kernel(source: str, name: str) -> Any:
    """Build one CUDA kernel; it is compiled by its first launch and cached on disk by CuPy."""
    return cupy().RawKernel(source, name)
