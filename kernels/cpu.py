"""What the CPU at hand can do, and what each kind of kernel needs."""

from __future__ import annotations

from functools import cache
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")

NEEDS: dict[str, frozenset[str]] = {
    "avx2": frozenset({"avx2", "f16c", "fma"}),
    "avx512": frozenset({"avx512f", "avx512bw", "avx512dq", "avx512vl"}),
    "avx512-vnni": frozenset({"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni"}),
}
"""CPU features by implementation, in Linux's spelling."""
LINUX_NAMES = {"avx512vnni": "avx512_vnni"}
"""What Linux calls the features that LLVM spells otherwise."""


def parse_features(cpuinfo: str) -> frozenset[str]:
    """The features of the first processor in the text of `/proc/cpuinfo`; none where it lists none."""
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "flags":
            return frozenset(value.split())
    return frozenset()


@cache
def features() -> frozenset[str]:
    """The features of this machine's CPU: from Linux where it is, else from LLVM (slower)."""
    if CPUINFO.exists():
        return parse_features(CPUINFO.read_text())
    from llvmlite.binding import get_host_cpu_features  # type: ignore[import-untyped]

    return frozenset(LINUX_NAMES.get(name, name) for name, on in get_host_cpu_features().items() if on)


def missing(implementation: str, have: frozenset[str] | None = None) -> list[str]:
    """The CPU features that an implementation needs and this CPU, or one that has `have`, does not have; sorted."""
    return sorted(NEEDS.get(implementation, frozenset()) - (features() if have is None else have))
