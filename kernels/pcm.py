"""PCM16 little-endian bytes to float32 in [-1, 1): every implementation of it.

Each takes `data`, 2 * n bytes (a `bytes` or a contiguous uint8 (2 * n,) array, at any address), and `out`, a
C-contiguous float32 (n,) array, and writes `out[i] = int16[i] / 32768`, which is exact in float32.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from kernels.compile import Loop, compile_loop

if TYPE_CHECKING:
    from typing_extensions import Buffer

Bytes = bytes | npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]

SCALE = 1.0 / 32768.0
INT16 = np.dtype("<i2")
SIGNATURE = "int64(Bytes(uint8, 1, 'C', readonly=True), float32[::1])"


def as_bytes(data: Buffer) -> Bytes:
    """Any contiguous buffer as what the kernels take, without a copy.

    Raises:
        ValueError: The buffer is not C-contiguous.
    """
    if type(data) is bytes:
        return data
    view = memoryview(data)
    if not view.c_contiguous:
        raise ValueError("samples must be one contiguous buffer, got a strided view; copy it: bytes(view)")
    return np.frombuffer(view, np.uint8)


def refuse(data: Bytes, out: Float32) -> None:
    """Say what is wrong with arrays that a kernel did not take.

    Raises:
        ValueError: Odd number of bytes; or wrong dtype, shape, layout or a read-only `out`.
    """
    size = len(data)
    if size % 2:
        raise ValueError(f"PCM16 needs an even number of bytes, got {size}; the last sample is cut in half")
    refuse_output(out, size // 2)


def refuse_output(out: Float32, count: int) -> None:
    """See `refuse`."""
    if out.dtype != np.float32 or out.shape != (count,) or not out.flags.c_contiguous or not out.flags.writeable:
        raise ValueError(
            f"out must be contiguous writable native float32 ({count},), got {out.dtype.str} {out.shape}"
            f"{'' if out.flags.writeable else ', read-only'}{'' if out.flags.c_contiguous else ', strided'}"
        )


def numpy_kernel() -> Loop:
    """One ufunc call with the conversion inside it; NumPy casts block by block through a small buffer."""
    scale = np.float32(SCALE)

    def convert(data: Bytes, out: Float32) -> int:
        refuse(data, out)
        np.multiply(np.frombuffer(data, INT16), scale, out=out, dtype=np.float32, casting="unsafe")
        return 0

    return Loop(convert)


def scalar_kernel() -> Loop:
    """One sample at a time."""
    from kernels import simd

    scale = SCALE

    @compile_loop(SIGNATURE)
    def loop(data, out):  # type: ignore[no-untyped-def]
        if len(data) != 2 * out.size or not simd.usable(out, True):
            return -1
        for i in range(out.size):
            out[i] = np.float32(simd.int16_at(data, i)) * np.float32(scale)
        return 0

    return loop


def vector_kernel(lanes: int) -> Loop:
    """Widen, convert and scale `lanes` samples at a time."""
    from kernels import simd, simd_rows

    @compile_loop(SIGNATURE)
    def loop(data, out):  # type: ignore[no-untyped-def]
        simd.target(lanes)
        if len(data) != 2 * out.size or not simd.usable(out, True):
            return -1
        simd_rows.pcm_run(data, 0, out, 0, out.size, lanes)
        return 0

    return loop


def cupy_kernel() -> Loop:
    """One thread for each sample."""
    from kernels import gpu

    cupy = gpu.cupy()
    device_convert = cupy.ElementwiseKernel("int16 x", "float32 y", "y = x * (1.0f / 32768.0f)", "amira_pcm16")

    def convert(data: Bytes, out: Float32) -> int:
        refuse(data, out)
        if out.size:
            device_convert(cupy.asarray(np.frombuffer(data, INT16))).get(out=out)
        return 0

    return Loop(convert)
