"""What a report can be asked for."""

from __future__ import annotations

from dataclasses import dataclass, field

from harness.gate.config import GateConfig
from harness.prices import Prices


@dataclass(frozen=True, slots=True)
class Options:
    """Options of a report.

    Attributes:
        history: Show how the cases of the plan developed over all its stored runs.
        prices: What a core costs; without, costs are CPU seconds.
        gate: The margins by which runs are compared.
        anyway: Compare runs of different machines, too, and list the differences.
    """

    history: bool = False
    prices: Prices | None = None
    gate: GateConfig = field(default_factory=GateConfig)
    anyway: bool = False
