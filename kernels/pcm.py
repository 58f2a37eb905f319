"""PCM16 little-endian bytes to float32 in [-1, 1): every implementation of it.

Each takes `pcm`, an int16 (n,) array in native order, and `out`, a C-contiguous float32 (n,) array, and writes
`out[i] = pcm[i] / 32768`, which is exact in float32.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Int16 = npt.NDArray[np.int16]
Float32 = npt.NDArray[np.float32]
PcmKernel = Callable[[Int16, Float32], None]

SCALE = np.float32(1.0 / 32768.0)


def as_int16(pcm: bytes | memoryview) -> Int16:
    """View PCM16 little-endian bytes as int16 (n,) in native order, without a copy on little-endian machines.

    Raises:
        ValueError: The number of bytes is odd.
    """
    size = len(pcm) if isinstance(pcm, bytes) else pcm.nbytes
    if size % 2:
        raise ValueError(f"PCM16 needs an even number of bytes, got {size}; the last sample is cut in half")
    return np.frombuffer(pcm, dtype="<i2").astype(np.int16, copy=False)


def check(pcm: Int16, out: Float32) -> None:
    """Refuse arrays that the implementations do not take.

    Raises:
        ValueError: Wrong dtype, shape or layout.
    """
    if pcm.dtype != np.int16 or pcm.ndim != 1 or not pcm.flags.c_contiguous:
        raise ValueError(f"pcm must be contiguous int16 (n,), got {pcm.dtype} {pcm.shape}")
    if out.dtype != np.float32 or out.shape != pcm.shape or not out.flags.c_contiguous:
        raise ValueError(f"out must be contiguous float32 {pcm.shape}, got {out.dtype} {out.shape}")


def numpy_kernel() -> PcmKernel:
    """One ufunc call with the conversion inside it; NumPy casts block by block through a small buffer."""

    def convert(pcm: Int16, out: Float32) -> None:
        np.multiply(pcm, SCALE, out=out, dtype=np.float32, casting="unsafe")

    return convert


def scalar_kernel() -> PcmKernel:
    """A plain loop compiled by numba with LLVM's vectorisers off: one sample at a time."""
    from kernels.compile import scalar_njit

    scale = SCALE

    @scalar_njit("void(Array(int16, 1, 'C', readonly=True), float32[::1])")
    def loop(pcm, out):  # type: ignore[no-untyped-def]
        for i in range(pcm.size):
            out[i] = np.float32(pcm[i]) * scale

    def convert(pcm: Int16, out: Float32) -> None:
        if pcm.flags.writeable:
            pcm = pcm.view()
            pcm.flags.writeable = False
        loop(pcm, out)

    convert.loop = loop  # type: ignore[attr-defined]
    return convert
