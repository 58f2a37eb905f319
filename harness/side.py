"""Where a process's code comes from: this checkout, or another one that it is compared with."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness import fingerprint

BASELINE = "baseline"
CANDIDATE = "candidate"


@dataclass(frozen=True, slots=True)
class Side:
    """A checkout as its processes need it.

    Attributes:
        name: `baseline` or `candidate`.
        python: The interpreter that its processes run on.
        environment: Variables that make that interpreter import this checkout.
        models_dir: Its built models.
        code: Its code, as fingerprints have it.
        slowdown: Stage to factor, for a calibration.
    """

    name: str
    python: str
    environment: Mapping[str, str]
    models_dir: Path
    code: Mapping[str, Any] = field(default_factory=dict)
    slowdown: Mapping[str, float] = field(default_factory=dict)

    def described(self) -> dict[str, Any]:
        """What a run's manifest says about it."""
        return {**self.code, **({"slowdown": dict(self.slowdown)} if self.slowdown else {})}

    @classmethod
    def here(cls, models_dir: Path, name: str = CANDIDATE) -> Side:
        """This checkout, as it lies in the working tree."""
        return cls(name, sys.executable, {}, models_dir, fingerprint.code(fingerprint.ROOT))
