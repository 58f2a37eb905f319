"""Power spectra to log-mel energies: every implementation of it.

Each takes
    power: float32 (frames, bins)
    weights, starts, ends: float32 (total,), int64 (mels,), int64 (mels,): the triangles without their zeros, one behind
        the other; triangle m weighs the bins from starts[m] to ends[m]
    guard, floor: added to an energy, and the least it then counts as
    out: float32 (frames, mels)
and writes `log(max(sum(weights * power) + guard, floor))`, to 2e-5 of float64. A NaN stays NaN.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from kernels.compile import Loop, compile_loop

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]

SIGNATURE = "int64(float32[:, ::1], float32[::1], int64[::1], int64[::1], float32, float32, float32[:, ::1])"


def refuse(
    power: Float32, weights: Float32, starts: Int64, ends: Int64, guard: float, floor: float, out: Float32
) -> None:
    """Say what is wrong with arguments that a kernel did not take.

    Raises:
        ValueError: Wrong dtype, shape or layout, triangles that reach outside of the spectrum, a floor that is not a
            positive normal number, a read-only `out`.
    """
    for name, array, dtype, dimensions in (
        ("power", power, np.float32, 2),
        ("weights", weights, np.float32, 1),
        ("starts", starts, np.int64, 1),
        ("ends", ends, np.int64, 1),
        ("out", out, np.float32, 2),
    ):
        if array.dtype != dtype or array.ndim != dimensions or not array.flags.c_contiguous:
            raise ValueError(
                f"{name} must be contiguous native {np.dtype(dtype).name} of {dimensions} dimensions, "
                f"got {array.dtype.str} {array.shape}"
            )
    if out.shape != (power.shape[0], starts.size) or not out.flags.writeable:
        raise ValueError(f"out must be writable {(power.shape[0], starts.size)}, got {out.shape}")
    if starts.shape != ends.shape or (starts < 0).any() or (ends < starts).any() or (ends > power.shape[1]).any():
        raise ValueError(f"starts and ends must be ranges within the {power.shape[1]} bins of the spectrum")
    if int((ends - starts).sum()) != weights.size:
        raise ValueError(f"the triangles need {int((ends - starts).sum())} weights, got {weights.size}")
    if not floor >= np.finfo(np.float32).tiny:
        raise ValueError(f"floor must be a positive normal float32, got {floor}")


def numpy_kernel() -> Loop:
    """A sum for each triangle, then one logarithm over all."""

    def convert(
        power: Float32, weights: Float32, starts: Int64, ends: Int64, guard: float, floor: float, out: Float32
    ) -> int:
        refuse(power, weights, starts, ends, guard, floor, out)
        first = 0
        for mel, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
            np.matmul(power[:, start:end], weights[first : first + end - start], out=out[:, mel])
            first += end - start
        out += np.float32(guard)
        np.maximum(out, np.float32(floor), out=out)
        np.log(out, out=out)
        return 0

    return Loop(convert)


def scalar_kernel() -> Loop:
    """One element at a time."""
    from kernels import simd

    @compile_loop(SIGNATURE)
    def loop(power, weights, starts, ends, guard, floor, out):  # type: ignore[no-untyped-def]
        frames, bins = power.shape
        mels = starts.size
        if ends.size != mels or out.shape != (frames, mels) or not floor >= np.float32(1.1754944e-38):
            return -1
        if not (simd.usable(power, False) and simd.usable(weights, False) and simd.usable(out, True)):
            return -1
        if not (simd.usable(starts, False) and simd.usable(ends, False)):
            return -1
        total = 0
        for mel in range(mels):
            if starts[mel] < 0 or ends[mel] < starts[mel] or ends[mel] > bins:
                return -1
            total += ends[mel] - starts[mel]
        if total != weights.size:
            return -1
        for frame in range(frames):
            at = 0
            for mel in range(mels):
                energy = np.float32(0)
                for i in range(starts[mel], ends[mel]):
                    energy += power[frame, i] * weights[at]
                    at += 1
                energy += guard
                if energy < floor:
                    energy = floor
                out[frame, mel] = math.log(energy)
        return 0

    return loop


def vector_kernel(lanes: int) -> Loop:
    """See `kernels.simd_mel`."""
    from kernels import simd, simd_mel

    @compile_loop(SIGNATURE)
    def loop(power, weights, starts, ends, guard, floor, out):  # type: ignore[no-untyped-def]
        simd.target(lanes)
        frames, bins = power.shape
        mels = starts.size
        if ends.size != mels or out.shape != (frames, mels) or not floor >= np.float32(1.1754944e-38):
            return -1
        if not (simd.usable(power, False) and simd.usable(weights, False) and simd.usable(out, True)):
            return -1
        if not (simd.usable(starts, False) and simd.usable(ends, False)):
            return -1
        total = 0
        for mel in range(mels):
            if starts[mel] < 0 or ends[mel] < starts[mel] or ends[mel] > bins:
                return -1
            total += ends[mel] - starts[mel]
        if total != weights.size:
            return -1
        simd_mel.rows(power, weights, starts, ends, guard, floor, out, lanes)
        return 0

    return loop


CUDA = """
extern "C" __global__ void log_mel(const float* power, const float* weights, const long long* starts,
                                   const long long* ends, const long long* firsts, float guard, float least,
                                   long long bins, int mels, float* out) {
    const float* spectrum = power + blockIdx.x * bins;
    for (int mel = threadIdx.x; mel < mels; mel += blockDim.x) {
        float energy = 0.0f;
        const float* weight = weights + firsts[mel];
        for (long long i = starts[mel]; i < ends[mel]; ++i) energy += spectrum[i] * *weight++;
        energy += guard;
        out[blockIdx.x * (long long)mels + mel] = logf(energy < least ? least : energy);
    }
}
"""


def cupy_kernel() -> Loop:
    """One block for each frame, one thread for each triangle."""
    from kernels import gpu

    cupy = gpu.cupy()
    kernel = gpu.raw_kernel(CUDA, "log_mel")

    def convert(
        power: Float32, weights: Float32, starts: Int64, ends: Int64, guard: float, floor: float, out: Float32
    ) -> int:
        refuse(power, weights, starts, ends, guard, floor, out)
        if out.size:
            firsts = np.concatenate([[0], np.cumsum(ends - starts)[:-1]])
            arrays = [cupy.asarray(array) for array in (power, weights, starts, ends, firsts)]
            result = cupy.empty(out.shape, cupy.float32)
            scalars = (np.float32(guard), np.float32(floor), np.int64(power.shape[1]), np.int32(out.shape[1]))
            kernel((out.shape[0],), (gpu.THREADS,), (*arrays, *scalars, result))
            result.get(out=out)
        return 0

    return Loop(convert)
