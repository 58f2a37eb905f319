"""What a case holds of memory while it runs: resident memory after every utterance, and how much of it is in use.

`overhead_mib` is anonymous resident memory less the bytes that live in it, after the last utterance: what the
allocator keeps and nobody uses (fragmentation, caches, its own bookkeeping), and what goes past it (Python's arenas
for small objects, stacks), which is the same whatever the allocator. It can be negative: a block that was allocated
and never written to lives and is not resident.
"""

from __future__ import annotations

from statistics import median
from typing import Any

from harness.measured import Measured

MIB = 1 << 20
MOST_POINTS = 120


def memory(case: Measured) -> dict[str, Any] | None:
    """Resident memory of a case over its processes' lives, medians over the repeats.

    Returns:
        As `cases[].memory` of `summary.schema.json`; `None` for a run that did not record it.
    """
    curve = _curve(case)
    if not curve:
        return None
    warm_up = len(case.warm_up) // max(len({row.repeat for row in case.warm_up}), 1)
    names = sorted({row.allocator for row in case.processes if row.allocator})
    told = [row for row in case.processes if row.live_bytes and row.end_anonymous_bytes]
    return {
        "allocator": ", ".join(names) or None,
        "calls": len(curve),
        "first_mib": curve[min(warm_up, len(curve) - 1)],
        "half_mib": curve[(warm_up + len(curve) - 1) // 2],
        "end_mib": curve[-1],
        "live_mib": median(row.live_bytes / MIB for row in told) if told else None,
        "overhead_mib": median((row.end_anonymous_bytes - row.live_bytes) / MIB for row in told) if told else None,
        "curve": [{"call": index + 1, "mib": round(curve[index], 2)} for index in _spread(len(curve))],
    }


def _curve(case: Measured) -> list[float]:
    """Resident MiB after each call of a process, in order; as far as all repeats have it."""
    by_repeat: dict[int, list[tuple[int, int]]] = {}
    for row in (*case.warm_up, *case.steady.values()):
        if row.rss_bytes:
            by_repeat.setdefault(row.repeat, []).append((row.started_ns, row.rss_bytes))
    runs = [[rss for _, rss in sorted(rows)] for rows in by_repeat.values()]
    return [median(values) / MIB for values in zip(*runs, strict=False)]


def _spread(count: int) -> list[int]:
    """At most `MOST_POINTS` indices from first to last, evenly spread."""
    if count <= MOST_POINTS:
        return list(range(count))
    return [round(index * (count - 1) / (MOST_POINTS - 1)) for index in range(MOST_POINTS)]
