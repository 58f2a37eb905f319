"""What faults did to callers."""

from __future__ import annotations

from collections.abc import Sequence

from harness.faults import HEADINGS, MEANINGS, Fault
from harness.report.numbers import count, listing
from harness.report.sections import Section, Table


def section(faults: Sequence[Fault], notes: Sequence[str], prefix: str = "") -> Section:
    """The section of a record of faults."""
    answered = [row.fault for row in faults if set(row.outcomes) == {"answered"}]
    hidden = f"Callers noticed nothing of {listing(answered)}." if answered else "Callers noticed every fault."
    slowest = max((row.error_max_ms for row in faults if row.error_max_ms is not None), default=None)
    deadline = max(row.deadline_ms for row in faults)
    late = () if slowest is None else (f"No error came later than {slowest:g} ms; the deadline is {deadline:g} ms.",)
    return Section(
        id=f"{prefix}faults",
        title="Faults",
        about=f"{count(len(faults), 'fault')} inflicted on real processes while callers went on. {' '.join(MEANINGS)}",
        findings=(hidden, *late),
        tables=(
            Table("Faults and what callers met", HEADINGS, tuple(row.cells() for row in faults), frozenset({1, 2})),
        ),
        notes=tuple(notes),
    )
