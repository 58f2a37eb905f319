"""What a gate or a comparison says in the end, and its exit code."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from harness.gate.judge import CaseVerdict

SCHEMA_VERSION = 1
How = Literal["interleaved", "stored baseline", "stored runs"]
Overall = Literal["fine", "regression", "unclear", "nothing measured"]
EXIT_CODES: dict[Overall, int] = {"fine": 0, "regression": 1, "unclear": 3, "nothing measured": 4}


@dataclass(frozen=True, slots=True)
class Result:
    """The outcome.

    Attributes:
        baseline: What the candidate was compared with: a commit, or a run.
        candidate: What was judged.
        how: `interleaved` where both were measured together; else they were measured apart.
        cases: A verdict each.
        runs: The stored runs that it rests on.
        machine: The processor, for a reader elsewhere.
        batches: How often it measured; 0 where it only read.
        seconds: How long that took.
        notes: What a reader must know.
    """

    baseline: str
    candidate: str
    how: How
    cases: tuple[CaseVerdict, ...]
    runs: tuple[str, ...]
    machine: str
    batches: int = 0
    seconds: float = 0.0
    notes: tuple[str, ...] = ()

    @property
    def verdict(self) -> Overall:
        """The one verdict for all: a regression counts before noise, noise before what is fine."""
        words = {case.verdict for case in self.cases}
        if words & {"worse", "broken"}:
            return "regression"
        if not words - {"not measured", "unavailable"}:
            return "nothing measured"
        return "unclear" if "unclear" in words else "fine"

    @property
    def exit_code(self) -> int:
        """As the command line documents it."""
        return EXIT_CODES[self.verdict]

    def to_json(self) -> dict[str, Any]:
        """The JSON document of `amira gate --json`."""
        return {"schema_version": SCHEMA_VERSION, "verdict": self.verdict, "exit_code": self.exit_code, **asdict(self)}
