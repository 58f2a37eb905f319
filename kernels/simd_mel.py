"""Log-mel energies of power spectra in explicit vectors."""

from __future__ import annotations

from typing import Any

import numpy as np

from kernels import simd, simd_math


@simd.inlined
def rows(
    power: Any, weights: Any, starts: Any, ends: Any, guard: float, floor: float, out: Any, lanes: int
) -> None:  # fmt: skip
    """See `kernels.log_mel`; the arrays fit each other.

    A masked dot product for each triangle (most fit into one or two vectors), the logarithm `lanes` at a time.
    """
    simd.target(lanes)
    frames, bins = power.shape
    mels = starts.size
    zero = simd.splat(np.float32(0), lanes)
    least = simd.splat(floor, lanes)
    more = simd.splat(guard, lanes)
    for frame in range(frames):
        at = 0
        for mel in range(mels):
            sums = zero
            i = frame * bins + starts[mel]
            end = frame * bins + ends[mel]
            while i < end:
                some = min(end - i, lanes)
                sums = simd.fma(simd.load_part(power, i, some, zero), simd.load_part(weights, at, some, zero), sums)
                i += some
                at += some
            simd.put(out, frame * mels + mel, simd.total(sums))
        i = frame * mels
        end = i + mels
        while i < end:
            some = min(end - i, lanes)
            energy = simd.add(simd.load_part(out, i, some, least), more)
            simd.store_part(out, i, some, simd_math.log(simd.larger(least, energy), lanes))
            i += some
