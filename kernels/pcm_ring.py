"""PCM16 little-endian bytes written as float32 into a ring buffer, in one pass: every implementation of it.

Each takes `data`, 2 * n bytes as in `kernels.pcm`, `ring`, a C-contiguous float32 (capacity,) array, and `position`,
where the next sample goes, in [0, capacity). It writes n <= capacity samples, going on at the start of the ring where
its end is reached, and returns the position after them. Whether old samples were read already is the caller's to know.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from kernels.compile import Loop, compile_loop
from kernels.pcm import INT16, SCALE, Bytes

Float32 = npt.NDArray[np.float32]

SIGNATURE = "int64(Bytes(uint8, 1, 'C', readonly=True), float32[::1], int64)"


def refuse(data: Bytes, ring: Float32, position: int) -> None:
    """Say what is wrong with arguments that a kernel did not take.

    Raises:
        ValueError: Odd number of bytes, more samples than the ring holds, a position outside of it, or a ring of
            wrong dtype, shape or layout, or read-only.
    """
    size = len(data)
    if size % 2:
        raise ValueError(f"PCM16 needs an even number of bytes, got {size}; the last sample is cut in half")
    good = ring.dtype == np.float32 and ring.ndim == 1 and ring.flags.c_contiguous and ring.flags.writeable
    if not good:
        raise ValueError(f"ring must be contiguous writable native float32 (n,), got {ring.dtype.str} {ring.shape}")
    if not 0 <= position < ring.size:
        raise ValueError(f"position must be in [0, {ring.size}), got {position}")
    if size // 2 > ring.size:
        raise ValueError(f"{size // 2} samples do not fit into a ring of {ring.size}; write them in parts")


def numpy_kernel() -> Loop:
    """One or two ufunc calls."""
    scale = np.float32(SCALE)

    def convert(data: Bytes, ring: Float32, position: int) -> int:
        refuse(data, ring, position)
        samples = np.frombuffer(data, INT16)
        before = min(samples.size, ring.size - position)
        for part, start in ((samples[:before], position), (samples[before:], 0)):
            if part.size:
                np.multiply(part, scale, out=ring[start : start + part.size], dtype=np.float32, casting="unsafe")
        return int((position + samples.size) % ring.size)

    return Loop(convert)


def scalar_kernel() -> Loop:
    """One sample at a time."""
    from kernels import simd

    scale = SCALE

    @compile_loop(SIGNATURE)
    def loop(data, ring, position):  # type: ignore[no-untyped-def]
        n = len(data) // 2
        if len(data) % 2 or position < 0 or position >= ring.size or n > ring.size or not simd.usable(ring, True):
            return -1
        for i in range(n):
            ring[position] = np.float32(simd.int16_at(data, i)) * np.float32(scale)
            position += 1
            if position == ring.size:
                position = 0
        return position

    return loop


def vector_kernel(lanes: int) -> Loop:
    """The run up to the ring's end and the one from its start, each as in `kernels.pcm`."""
    from kernels import simd, simd_rows

    @compile_loop(SIGNATURE)
    def loop(data, ring, position):  # type: ignore[no-untyped-def]
        simd.target(lanes)
        n = len(data) // 2
        if len(data) % 2 or position < 0 or position >= ring.size or n > ring.size or not simd.usable(ring, True):
            return -1
        return simd_rows.ring_run(data, ring, position, n, lanes)

    return loop


def cupy_kernel() -> Loop:
    """Converted on the device, copied back as one or two runs."""
    from kernels import gpu

    cupy = gpu.cupy()
    device_convert = cupy.ElementwiseKernel("int16 x", "float32 y", "y = x * (1.0f / 32768.0f)", "amira_pcm16")

    def convert(data: Bytes, ring: Float32, position: int) -> int:
        refuse(data, ring, position)
        count = len(data) // 2
        before = min(count, ring.size - position)
        if count:
            found = device_convert(cupy.asarray(np.frombuffer(data, INT16)))
            found[:before].get(out=ring[position : position + before])
        if count > before:
            found[before:].get(out=ring[: count - before])
        return (position + count) % ring.size

    return Loop(convert)
