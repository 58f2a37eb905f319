"""How many instructions a kernel executes in two checkouts: nearly the same at every count.

They differ by some hundredths of a per cent, however busy the machine is. A process of either side runs its kernels
under valgrind's callgrind (`count_worker.py`). valgrind knows no AVX-512, so of the vector kernels the AVX2 ones are
counted; both widths come from one source. Code is compiled for `CPU`, whatever the machine has: so counts of one
commit should agree between machines, which has not been checked.

Instructions are no time. `harness.gate.reconcile` holds them against the clock.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from platform import machine

from harness.gate.config import Kernels
from harness.gate.count_worker import CALLS
from harness.side import Side
from pipelines.paths import home

WORKER = Path(__file__).with_name("count_worker.py")
VALGRIND = "valgrind"
CPU = "haswell"
COUNTABLE = ("numpy", "scalar", "avx2")
"""Implementations that valgrind can run."""
NO_AVX512 = "valgrind cannot run AVX-512; the AVX2 kernel of the same source is counted"
SAME = 1e-3
"""Relative difference below which two counts are of the same program: the way into a call differs by a few instructions
with the length of paths and variables."""
TIMEOUT_S = 600.0
FILE = "counts"

Counts = dict[str, list[float]]
"""`operation implementation` to instructions of one call, one estimate for each pair of neighbours in `CALLS`."""


@dataclass(frozen=True, slots=True)
class Counted:
    """What one side's kernels took.

    Attributes:
        counts: By kernel.
        lacking: Kernel to why there is no count of it.
    """

    counts: Counts
    lacking: dict[str, str]


def unavailable() -> str | None:
    """Why this machine cannot count instructions, and what to do about it; `None` where it can."""
    if machine() not in ("x86_64", "AMD64"):
        return f"instructions are counted on x86-64, this is {machine()}"
    if shutil.which(VALGRIND) is None:
        return "valgrind is not installed. Install it, e.g. with: apt install valgrind"
    return None


def count(sides: Mapping[str, Side], wanted: Kernels) -> dict[str, Counted]:
    """Count both sides' kernels, side by side."""
    with ThreadPoolExecutor(len(sides)) as pool:
        return dict(zip(sides, pool.map(lambda side: _count_side(side, wanted), sides.values()), strict=True))


def again(
    first: Mapping[str, Counted], sides: Mapping[str, Side], wanted: Kernels, names: Collection[str]
) -> dict[str, Counted]:
    """Count some kernels once more: their estimates join those that are there, so that a slip shows as a spread."""
    found = {}
    with ThreadPoolExecutor(len(sides)) as pool:
        counts = pool.map(lambda side: _count_side(side, wanted, names), sides.values())
        for side, second in zip(sides, counts, strict=True):
            lacking = {**first[side].lacking, **second.lacking}
            joined = {
                name: [*values, *second.counts.get(name, [])]
                for name, values in first[side].counts.items()
                if name not in lacking
            }
            found[side] = Counted(joined, lacking)
    return found


def _count_side(side: Side, wanted: Kernels, only: Collection[str] | None = None) -> Counted:
    names = {
        f"{operation}:{how}": f"{operation} {how}"
        for operation in wanted.operations
        for how in wanted.implementations
        if how in COUNTABLE and (only is None or f"{operation} {how}" in only)
    }
    if not names:
        return Counted({}, {})
    lacking: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="amira-count-") as folder:
        # Compiled by a process of its own first: a compiler under valgrind takes minutes.
        for mode, wrapper in (("compile", []), ("count", _callgrind(Path(folder)))):
            kernels = [name for name in names if names[name] not in lacking]
            if not kernels:
                break
            said, end = _run([*wrapper, side.python, "-P", str(WORKER), mode, wanted.size, *kernels], side)
            for name in kernels:
                problem = said.get(name, end)
                if problem is not None:
                    lacking[names[name]] = problem
        totals = _totals(Path(folder))
    counts: Counts = {}
    for name, shown in names.items():
        found = [totals.get(f"{name}:{times}") for times in CALLS]
        known = [total for total in found if total is not None]
        if shown in lacking:
            continue
        if len(known) < len(CALLS) or known != sorted(set(known)):
            lacking[shown] = f"callgrind counted {found} instructions in {CALLS} calls, which makes no sense"
            continue
        steps = zip(pairwise(known), pairwise(CALLS), strict=True)
        counts[shown] = [(after - before) / (more - less) for (before, after), (less, more) in steps]
    return Counted(counts, lacking)


def _callgrind(folder: Path) -> list[str]:
    return [
        VALGRIND,
        "-q",
        "--tool=callgrind",
        "--instr-atstart=no",
        "--collect-atstart=no",
        f"--callgrind-out-file={folder / FILE}",
    ]


def _run(command: list[str], side: Side) -> tuple[dict[str, str | None], str]:
    """What the worker said of each kernel (`None` for no problem), and how it ended."""
    cache = home() / "build" / "gate" / "counted"
    environment = {
        **os.environ,
        **side.environment,
        "NUMBA_CPU_NAME": CPU,
        "NUMBA_CPU_FEATURES": "",
        "NUMBA_CACHE_DIR": str(cache),
        "NUMBA_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONHASHSEED": "0",
    }
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return {}, f"the count did not end within {TIMEOUT_S:g} s"
    said: dict[str, str | None] = {}
    for line in done.stdout.splitlines():
        row = json.loads(line)
        said[row["kernel"]] = row.get("error")
    last = (done.stderr.strip().splitlines() or ["no message"])[-1]
    return said, f"the counting process ended with code {done.returncode}: {last}"


def _totals(folder: Path) -> dict[str, int]:
    """The counts that callgrind wrote, by the name that the worker gave them."""
    found: dict[str, int] = {}
    for path in folder.glob(f"{FILE}*"):
        name = None
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("desc: Trigger: Client Request: "):
                name = line.removeprefix("desc: Trigger: Client Request: ")
            elif line.startswith("totals: ") and name is not None:
                found[name] = int(line.split()[1])
    return found
