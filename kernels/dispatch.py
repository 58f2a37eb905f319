"""Which implementation of each operation runs: the one table, and the choice at run time."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, get_args

from kernels import argmax, cpu, ctc_greedy, g711, log_mel, log_softmax, pcm, pcm_ring, top_k, transpose
from kernels.compile import Loop

Implementation = Literal["numpy", "scalar", "avx2", "avx512", "cupy"]
Operation = Literal[
    "pcm16", "pcm16_ring", "mulaw", "alaw", "argmax", "ctc_greedy", "transpose", "log_softmax", "top_k", "log_mel"
]
IMPLEMENTATIONS: tuple[Implementation, ...] = get_args(Implementation)
OPERATIONS: tuple[Operation, ...] = get_args(Operation)

OVERRIDE = "AMIRA_KERNEL"
"""Environment variable that names the implementation to take."""
PREFERENCE: tuple[Implementation, ...] = ("avx512", "avx2", "scalar")
"""Best first. `cupy` is never taken unasked: for arrays of the host its copies cost more than it saves."""


@dataclass(frozen=True, slots=True)
class Row:
    """Every implementation of one operation.

    Attributes:
        refuse: Takes the operation's arguments and says what is wrong with them.
        numpy, scalar, vector, cupy: Make the implementation ready; `vector` takes the number of lanes.
    """

    refuse: Callable[..., None]
    numpy: Callable[[], Loop]
    scalar: Callable[[], Loop]
    vector: Callable[[int], Loop]
    cupy: Callable[[], Loop]

    def load(self, implementation: Implementation) -> Loop:
        """Compile it, or take it from the cache."""
        makers: Mapping[str, Callable[[], Loop]] = {
            "numpy": self.numpy,
            "scalar": self.scalar,
            "avx2": partial(self.vector, 8),
            "avx512": partial(self.vector, 16),
            "cupy": self.cupy,
        }
        return makers[implementation]()


def _row(module: Any) -> Row:
    return Row(module.refuse, module.numpy_kernel, module.scalar_kernel, module.vector_kernel, module.cupy_kernel)


def _g711(law: str) -> Row:
    makers = (g711.numpy_kernel, g711.scalar_kernel, g711.vector_kernel, g711.cupy_kernel)
    return Row(g711.refuse, *(partial(make, law) for make in makers))


TABLE: Mapping[Operation, Row] = {
    "pcm16": _row(pcm),
    "pcm16_ring": _row(pcm_ring),
    "mulaw": _g711("mulaw"),
    "alaw": _g711("alaw"),
    "argmax": _row(argmax),
    "ctc_greedy": _row(ctc_greedy),
    "transpose": _row(transpose),
    "log_softmax": _row(log_softmax),
    "top_k": _row(top_k),
    "log_mel": _row(log_mel),
}


@dataclass(frozen=True, slots=True)
class Missing:
    """Why an implementation cannot run here, and what would make it run."""

    reason: str
    remedy: str


def problem(implementation: Implementation) -> Missing | None:
    """`None` where the implementation can run on this machine. Cheap: nothing is imported."""
    lacking = cpu.missing(implementation)
    if lacking:
        return Missing(
            f"this CPU lacks {', '.join(lacking)}",
            {
                "avx2": "Use a CPU with AVX2, FMA and F16C (Intel Haswell, AMD Zen and later), or kernel/scalar.",
                "avx512": "Use a CPU with AVX-512 (Intel Skylake-SP, AMD Zen 4 and later), or kernel/avx2.",
            }[implementation],
        )
    if implementation != "cupy":
        return None
    if find_spec("cupy") is None:
        return Missing("CuPy is not installed", "On a machine with an NVIDIA GPU: pip install cupy-cuda13x")
    if not any(Path(device).exists() for device in ("/dev/nvidiactl", "/dev/dxg")):
        return Missing(
            "CuPy is installed, but there is no NVIDIA GPU", "Use a machine with an NVIDIA GPU and its driver."
        )
    return None


def choose(environment: Mapping[str, str] = os.environ) -> Implementation:
    """The implementation that `AMIRA_KERNEL` names, or else the best one that this CPU can run.

    Raises:
        ValueError: `AMIRA_KERNEL` names none, or one that cannot run here.
    """
    asked = environment.get(OVERRIDE)
    if asked is None:
        return next(name for name in PREFERENCE if problem(name) is None)
    for name in IMPLEMENTATIONS:
        if name == asked:
            found = problem(name)
            if found is not None:
                raise ValueError(f"{OVERRIDE}={asked} cannot run here: {found.reason}. {found.remedy}")
            return name
    raise ValueError(
        f"{OVERRIDE}={asked} is no kernel implementation; have: {', '.join(IMPLEMENTATIONS)}. "
        f"Unset {OVERRIDE} to take the best one for this CPU."
    )


def load(implementation: Implementation) -> dict[Operation, Loop]:
    """Every operation of one implementation, compiled or from the cache."""
    return {operation: row.load(implementation) for operation, row in TABLE.items()}
