"""G.711 telephone audio, 8-bit mu-law or A-law, to float32 in [-1, 1): every implementation of it.

Each takes `data`, n bytes (a `bytes` or a contiguous uint8 (n,) array), and `out`, a C-contiguous float32 (n,) array,
and writes the 16-bit sample that ITU-T G.711 gives for the code, divided by 32,768, which is exact.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from kernels.compile import Loop, compile_loop
from kernels.pcm import SCALE, Bytes, refuse_output

Float32 = npt.NDArray[np.float32]

SIGNATURE = "int64(Bytes(uint8, 1, 'C', readonly=True), float32[::1])"
TABLE_SIGNATURE = "int64(Bytes(uint8, 1, 'C', readonly=True), float32[::1], float32[::1])"


def mulaw_sample(code: int) -> int:
    """The 16-bit sample of a mu-law code, in [-32124, 32124]."""
    code ^= 0xFF
    size = ((((code & 15) << 3) + 0x84) << (code >> 4 & 7)) - 0x84
    return -size if code & 0x80 else size


def alaw_sample(code: int) -> int:
    """The 16-bit sample of an A-law code, in [-32256, 32256]."""
    code ^= 0x55
    segment = code >> 4 & 7
    step = (code & 15) << 4
    size = (step + 0x108) << (segment - 1) if segment else step + 8
    return size if code & 0x80 else -size


def table(law: str) -> Float32:
    """float32 (256,): the value of each code."""
    sample = {"mulaw": mulaw_sample, "alaw": alaw_sample}[law]
    return np.array([sample(code) * SCALE for code in range(256)], np.float32)


def refuse(data: Bytes, out: Float32) -> None:
    """Say what is wrong with arrays that a kernel did not take.

    Raises:
        ValueError: `out` has a wrong dtype, shape or layout, or is read-only.
    """
    refuse_output(out, len(data))


def numpy_kernel(law: str) -> Loop:
    """A table of 256 values and `numpy.take`."""
    values = table(law)

    def convert(data: Bytes, out: Float32) -> int:
        refuse(data, out)
        values.take(np.frombuffer(data, np.uint8), out=out, mode="clip")
        return 0

    return Loop(convert)


def scalar_kernel(law: str) -> Loop:
    """One look into a table of 256 values at a time."""
    from kernels import simd

    values = table(law)

    @compile_loop(TABLE_SIGNATURE)
    def loop(data, out, values):  # type: ignore[no-untyped-def]
        if len(data) != out.size or not simd.usable(out, True):
            return -1
        for i in range(out.size):
            out[i] = values[simd.at(data, i)]
        return 0

    return loop.with_constants(values)


def vector_kernel(law: str, lanes: int) -> Loop:
    """The codes' arithmetic on `lanes` of them at a time: no table, no gather."""
    from kernels import simd, simd_rows

    expand = simd_rows.mulaw if law == "mulaw" else simd_rows.alaw
    scale = SCALE

    @compile_loop(SIGNATURE)
    def loop(data, out):  # type: ignore[no-untyped-def]
        simd.target(lanes)
        n = out.size
        if len(data) != n or not simd.usable(out, True):
            return -1
        factor = simd.splat(np.float32(scale), lanes)
        i = 0
        while i + lanes <= n:
            simd.store(out, i, simd.mul(simd.to_float(expand(simd.load(data, i, lanes), lanes)), factor))
            i += lanes
        while i < n:
            one = simd.of_byte(simd.at(data, i), lanes)
            simd.store_part(out, i, 1, simd.mul(simd.to_float(expand(one, lanes)), factor))
            i += 1
        return 0

    return loop


def cupy_kernel(law: str) -> Loop:
    """One look into a table for each thread."""
    from kernels import gpu

    cupy = gpu.cupy()
    look_up = cupy.ElementwiseKernel("uint8 code, raw float32 values", "float32 y", "y = values[code]", "amira_g711")
    values = cupy.asarray(table(law))

    def convert(data: Bytes, out: Float32) -> int:
        refuse(data, out)
        if out.size:
            look_up(cupy.asarray(np.frombuffer(data, np.uint8)), values).get(out=out)
        return 0

    return Loop(convert)
