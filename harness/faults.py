"""What faults did to callers, as the fault tests measured it: `faults.jsonl`, a fault a line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.store import read_lines
from pipelines.errors import NothingMeasuredError

FILE = "faults.jsonl"
HEADINGS = ("Fault", "Outcomes", "Errors after", "Recovered", "Breaker")
MEANINGS = (
    "Outcomes: what the callers got from the fault on until everything was well again.",
    "Errors after: how long callers waited for an error, in ms: median, p99, slowest.",
    "Recovered: from the fault to the first answer after the last error, in ms.",
    "Breaker: how often it opened, and closed again.",
)


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault and what callers met. Times are in ms; `None` where there was no error, or no recovery to see."""

    fault: str
    calls: int
    outcomes: dict[str, int]
    deadline_ms: float
    error_p50_ms: float | None
    error_p99_ms: float | None
    error_max_ms: float | None
    recovered_ms: int | None
    breaker_opened: int
    breaker_closed: int

    def cells(self) -> tuple[str, ...]:
        """A row under `HEADINGS`."""
        ordered = sorted(self.outcomes.items(), key=lambda item: -item[1])
        times = (self.error_p50_ms, self.error_p99_ms, self.error_max_ms)
        return (
            self.fault,
            ", ".join(f"{count} {name}" for name, count in ordered),
            "no errors" if None in times else " / ".join(f"{value:g}" for value in times if value is not None),
            "" if self.recovered_ms is None else str(self.recovered_ms),
            f"{self.breaker_opened}, {self.breaker_closed}",
        )


def read_faults(folder: Path) -> tuple[list[Fault], list[str]]:
    """The faults of a folder, and notes on the state of the file.

    Raises:
        AmiraError: A line is broken.
        NothingMeasuredError: There is no fault.
    """
    rows, notes = read_lines(folder / FILE, Fault)
    if not rows:
        raise NothingMeasuredError(
            f"'{folder / FILE}' has no fault. Run the fault tests, then tests.faults.triton_table."
        )
    return rows, notes
