"""Holds what is counted against the clock: neither alone is the truth.

*A request or a stage* has a time and a CPU time. Who is kept off the processor by a neighbour loses time and no CPU
time. So where the clock cannot judge and the CPU time is fine, the time is fine, provided that nothing waits: in the
calls that were disturbed least, CPU time makes up all of the time but what the margin allows.

*A kernel* has a time and a number of instructions.

The clock is what users feel, and noisy. A count is exact, and blind to what an instruction costs: a cache miss, a
mispredicted branch. So

- more instructions in a kernel that the clock shows to be no slower are no regression;
- a kernel that the clock cannot judge, and that executes what it executed before, is fine;
- more instructions in a kernel that the clock cannot judge are a regression;
- a kernel that the clock shows to be slower is a regression, whatever the count says.

An AVX-512 kernel has no count. Its AVX2 sibling comes from the same source; where that executes exactly what it did,
a clock that cannot judge is overruled as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from harness.gate import instructions
from harness.gate.row import Row

SIBLINGS = {"avx512": "avx2"}


def reconciled(rows: tuple[Row, ...], busy: Mapping[str, float] | None = None) -> tuple[Row, ...]:
    """The rows of a case, those that tell of one thing in the light of each other.

    Args:
        rows: All of them.
        busy: See `harness.gate.evidence.Evidence`.
    """
    found = {row.metric: row for row in rows}
    return tuple(_one(row, found, busy or {}) for row in rows)


def _one(row: Row, rows: dict[str, Row], busy: Mapping[str, float]) -> Row:
    if row.verdict == "unclear" and (place := _place(row.metric)) is not None:
        return _wall(row, rows.get(f"stage cpu {place}" if place else "cpu"), busy.get(place, 0.0))
    kind, _, name = row.metric.partition(" ")
    if kind == "instructions":
        return _count(row, rows.get(f"kernel {name}"))
    if kind == "kernel" and row.verdict == "unclear":
        return _time(row, name, rows)
    return row


def _place(metric: str) -> str | None:
    """The stage whose time a row is, "" for the whole request's; `None` where it is no time."""
    if metric in ("latency", "loss of throughput"):
        return ""
    if metric.startswith("stage ") and not metric.startswith("stage cpu "):
        return metric.removeprefix("stage ")
    return None


def _wall(row: Row, cpu: Row | None, busy: float) -> Row:
    if cpu is not None and cpu.verdict in ("fine", "better") and busy >= 1 - row.margin:
        note = (
            f"too noisy for the clock; {cpu.change:+.1%} CPU time, and undisturbed it is {min(busy, 1):.1%} of the time"
        )
        return _noted(replace(row, verdict="fine"), note)
    return row


def _count(row: Row, time: Row | None) -> Row:
    if row.verdict == "worse" and time is not None and time.verdict in ("fine", "better"):
        return _noted(replace(row, verdict="fine"), "the clock shows that the kernel is no slower for it")
    return row


def _time(row: Row, name: str, rows: dict[str, Row]) -> Row:
    count = rows.get(f"instructions {name}")
    if count is not None and count.verdict in ("fine", "better"):
        return _noted(replace(row, verdict="fine"), f"too noisy for the clock; {count.change:+.2%} instructions")
    operation, _, rest = name.partition(" ")
    implementation, _, stage = rest.partition(" ")
    sibling = SIBLINGS.get(implementation, "")
    count = rows.get(f"instructions {operation} {sibling} {stage}")
    if count is not None and abs(count.change) < instructions.SAME:
        return _noted(
            replace(row, verdict="fine"),
            f"too noisy for the clock; the {sibling} kernel of the same source executes what it did",
        )
    return row


def _noted(row: Row, note: str) -> Row:
    return replace(row, note="; ".join(filter(None, (row.note, note))))
