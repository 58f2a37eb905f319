"""(B, C, T) to (B, T, C) and back: every implementation of it.

Each takes `x`, a C-contiguous float32 (B, rows, columns) array, and `out`, a C-contiguous float32 (B, columns, rows)
array that shares no memory with it. NaN payloads and all other bits are copied as they are.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from kernels.compile import Loop, compile_loop

Float32 = npt.NDArray[np.float32]

ROWS, COLUMNS = 256, 32
"""Rows and columns of `x` that are worked on together: 32 KiB read, as much written."""
SIGNATURE = "int64(float32[:, :, ::1], float32[:, :, ::1])"


def refuse(x: Float32, out: Float32) -> None:
    """Say what is wrong with arrays that a kernel did not take.

    Raises:
        ValueError: Wrong dtype, shape or layout, a read-only `out`, or `out` shares memory with `x`.
    """
    if x.dtype != np.float32 or x.ndim != 3 or not x.flags.c_contiguous:
        raise ValueError(f"x must be contiguous native float32 (B, C, T), got {x.dtype.str} {x.shape}")
    wanted = (x.shape[0], x.shape[2], x.shape[1])
    good = out.dtype == np.float32 and out.flags.c_contiguous and out.flags.writeable
    if not good or out.shape != wanted:
        raise ValueError(f"out must be contiguous writable native float32 {wanted}, got {out.dtype.str} {out.shape}")
    if np.may_share_memory(x, out):
        raise ValueError("out must not share memory with x; a transpose in place is not offered")


def numpy_kernel() -> Loop:
    """A copy of the transposed view."""

    def copy(x: Float32, out: Float32) -> int:
        refuse(x, out)
        np.copyto(out, x.transpose(0, 2, 1))
        return 0

    return Loop(copy)


def scalar_kernel() -> Loop:
    """One element at a time, in tiles of one cache line by one."""
    from kernels import simd

    @compile_loop(SIGNATURE)
    def loop(x, out):  # type: ignore[no-untyped-def]
        batch, rows, columns = x.shape
        if out.shape != (batch, columns, rows) or not simd.usable(x, False) or not simd.usable(out, True):
            return -1
        if simd.overlap(x, out):
            return -1
        for b in range(batch):
            for row in range(0, rows, 16):
                for column in range(0, columns, 16):
                    for j in range(column, min(column + 16, columns)):
                        for i in range(row, min(row + 16, rows)):
                            out[b, j, i] = x[b, i, j]
        return 0

    return loop


def vector_kernel(lanes: int) -> Loop:
    """Tiles of `lanes` by `lanes` in registers; edges are done by tiles that overlap their neighbours.

    What counts is that the writes run along the rows of `out`. 512 x 1504 beside memcpy = 1.0 (fresh, aligned arrays):
    this order 0.9 to 0.95; without blocks 0.95 to 1.0; the other way round, reads along the rows of `x`, 1.3 with 16
    lanes and 3.0 with 8; that with 64 x 64 blocks 1.3; reads prefetched 16 to 64 rows ahead 0.95 to 1.0; writes
    prefetched 1.5; non-temporal stores 1.2 in the good order and 2.5 in the other. Rows that do not begin on a cache
    line cost more, up to twice: lease the arrays from the pool.
    """
    from kernels import simd

    @compile_loop(SIGNATURE)
    def loop(x, out):  # type: ignore[no-untyped-def]
        simd.target(lanes)
        batch, rows, columns = x.shape
        if out.shape != (batch, columns, rows) or not simd.usable(x, False) or not simd.usable(out, True):
            return -1
        if simd.overlap(x, out):
            return -1
        size = rows * columns
        if rows < lanes or columns < lanes:
            for b in range(batch):
                for i in range(rows):
                    for j in range(columns):
                        simd.put(out, b * size + j * rows + i, simd.at(x, b * size + i * columns + j))
            return 0
        for b in range(batch):
            for first_column in range(0, columns, COLUMNS):
                for first_row in range(0, rows, ROWS):
                    for j in range(first_column, min(first_column + COLUMNS, columns), lanes):
                        column = min(j, columns - lanes)
                        for i in range(first_row, min(first_row + ROWS, rows), lanes):
                            row = min(i, rows - lanes)
                            source = b * size + row * columns + column
                            simd.transpose_tile(x, source, columns, out, b * size + column * rows + row, rows, lanes)
        return 0

    return loop


CUDA = """
extern "C" __global__ void transpose(const float* x, float* out, long long rows, long long columns) {
    __shared__ float tile[32][33];  // one column more than needed, so that a column lies in 32 banks
    const float* from = x + blockIdx.z * rows * columns;
    float* to = out + blockIdx.z * rows * columns;
    long long column = blockIdx.x * 32LL + threadIdx.x, row = blockIdx.y * 32LL;
    for (int i = threadIdx.y; i < 32; i += 8)
        if (row + i < rows && column < columns) tile[i][threadIdx.x] = from[(row + i) * columns + column];
    __syncthreads();
    column = blockIdx.x * 32LL;
    row = blockIdx.y * 32LL + threadIdx.x;
    for (int i = threadIdx.y; i < 32; i += 8)
        if (column + i < columns && row < rows) to[(column + i) * rows + row] = tile[threadIdx.x][i];
}
"""


def cupy_kernel() -> Loop:
    """Tiles of 32 x 32 through shared memory, so that reads and writes are both in whole cache lines."""
    from kernels import gpu

    cupy = gpu.cupy()
    kernel = gpu.raw_kernel(CUDA, "transpose")

    def copy(x: Float32, out: Float32) -> int:
        refuse(x, out)
        if x.size:
            batch, rows, columns = x.shape
            moved = cupy.empty(out.shape, cupy.float32)
            blocks = (-(-columns // 32), -(-rows // 32), batch)
            kernel(blocks, (32, 8), (cupy.asarray(x), moved, np.int64(rows), np.int64(columns)))
            moved.get(out=out)
        return 0

    return Loop(copy)
