"""What the kernel tells about processor and memory. What cannot be read is `None`, never guessed."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

FEATURES = {
    # x86
    "sse4_2", "avx", "avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512bw", "avx512vl", "avx512_vnni",
    "avx512_bf16", "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16",
    # Arm
    "asimd", "asimdhp", "asimddp", "fphp", "i8mm", "bf16", "sve", "sve2",
}  # fmt: skip
"""The instruction sets that speech inference is written for."""
CPU_FOLDER = Path("/sys/devices/system/cpu")
DMI = Path("/sys/class/dmi/id")


def cpu() -> dict[str, Any]:
    """Model, instruction sets, cores, and how the clock is governed."""
    info = cpu_info(Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace"))
    return {
        "model": info.get("model name") or info.get("CPU part") or platform.processor() or "unknown",
        "family": info.get("cpu family") or info.get("CPU implementer"),
        "stepping": info.get("stepping") or info.get("CPU revision"),
        "features": sorted(FEATURES.intersection(_flags(info))),
        "cores": os.cpu_count(),
        "affinity": sorted(os.sched_getaffinity(0)),
        "governor": _governors(),
        "turbo": _turbo(),
    }


def cpu_info(text: str) -> dict[str, str]:
    """The fields of the first processor in the text of `/proc/cpuinfo`."""
    lines = (line.partition(":") for line in text.split("\n\n")[0].splitlines())
    return {key.strip(): value.strip() for key, _, value in lines}


def memory_gib() -> float:
    """Physical memory in GiB, to a tenth: the exact size differs from boot to boot."""
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)


def virtualisation() -> dict[str, Any]:
    """Whether a hypervisor or a container is below us, and which where it says so."""
    info = cpu_info(Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace"))
    return {
        "hypervisor": "hypervisor" in _flags(info),
        "vendor": _read(DMI / "sys_vendor"),
        "product": _read(DMI / "product_name"),
        "container": Path("/.dockerenv").exists() or Path("/run/.containerenv").exists(),
    }


def _flags(info: dict[str, str]) -> list[str]:
    return (info.get("flags") or info.get("Features") or "").split()


def _governors() -> str | None:
    """The frequency governors in use, several where the cores differ."""
    found = {_read(path) for path in CPU_FOLDER.glob("cpu[0-9]*/cpufreq/scaling_governor")}
    return " ".join(sorted(filter(None, found))) or None


def _turbo() -> bool | None:
    """Whether the clock may exceed its base frequency."""
    no_turbo = _read(CPU_FOLDER / "intel_pstate" / "no_turbo")
    if no_turbo is not None:
        return no_turbo == "0"
    boost = _read(CPU_FOLDER / "cpufreq" / "boost")
    return None if boost is None else boost == "1"


def _read(path: Path) -> str | None:
    """A one-line file of the kernel, or `None` where this machine does not show it."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip() or None
    except OSError:
        return None
