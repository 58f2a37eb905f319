"""Which vectors the compiled loops of models are made for."""

from __future__ import annotations

from kernels import cpu
from pipelines.registry import Unavailable

LANES = {"avx512": 16, "avx2": 8}
"""Float32 values in a vector, the wider first."""


def widest() -> int:
    """Lanes of the widest vectors that this CPU has."""
    return next(lanes for name, lanes in LANES.items() if not cpu.missing(name))


def without_vectors(instead: str) -> Unavailable | None:
    """Why the compiled loops cannot run on this CPU, and the variant to use there; `None` where they can."""
    if any(not cpu.missing(name) for name in LANES):
        return None
    return Unavailable(
        f"this CPU lacks {', '.join(cpu.missing('avx2'))}",
        f"Use a CPU with AVX2, FMA and F16C (Intel Haswell, AMD Zen and later), or {instead}.",
    )
