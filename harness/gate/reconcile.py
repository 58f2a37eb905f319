"""Holds the instructions of a kernel against its time: neither alone is the truth.

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

from dataclasses import replace

from harness.gate.row import Row

SIBLINGS = {"avx512": "avx2"}
SAME = 1e-4
"""Relative difference below which two counts of a sibling are the same."""


def reconciled(rows: tuple[Row, ...]) -> tuple[Row, ...]:
    """The rows of a case, those of kernels and instructions in the light of each other."""
    found = {row.metric: row for row in rows}
    return tuple(_one(row, found) for row in rows)


def _one(row: Row, rows: dict[str, Row]) -> Row:
    kind, _, name = row.metric.partition(" ")
    if kind == "instructions":
        return _count(row, rows.get(f"kernel {name}"))
    if kind == "kernel" and row.verdict == "unclear":
        return _time(row, name, rows)
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
    if count is not None and abs(count.change) < SAME:
        return _noted(
            replace(row, verdict="fine"),
            f"too noisy for the clock; the {sibling} kernel of the same source executes what it did",
        )
    return row


def _noted(row: Row, note: str) -> Row:
    return replace(row, note="; ".join(filter(None, (row.note, note))))
