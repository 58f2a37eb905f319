"""What a page can be made of: runs of plans, load runs, and records of faults, found by name or folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.faults import FILE as FAULTS
from harness.faults import Fault, read_faults
from harness.load.run import LOAD
from harness.store import MANIFEST, Run, find_run, open_run
from pipelines.paths import home, runs_dir


@dataclass(frozen=True, slots=True)
class StoredLoad:
    """A load run: its folder and its numbers (`harness.load.summary`)."""

    path: Path
    summary: dict[str, Any]


@dataclass(frozen=True, slots=True)
class StoredFaults:
    """A record of faults."""

    path: Path
    faults: tuple[Fault, ...]
    notes: tuple[str, ...]


Stored = Run | StoredLoad | StoredFaults


def open_stored(name: str) -> Stored:
    """Open a run of any kind.

    Args:
        name: A folder, a name under `reports/runs/` or `reports/`, or `latest`: the newest run of a plan.

    Raises:
        AmiraError: There is none of that name, or it cannot be read.
    """
    for folder in (Path(name), runs_dir() / name, home() / "reports" / name):
        if (folder / MANIFEST).is_file():
            return open_run(folder)
        if (folder / LOAD).is_file():
            from harness.load.summary import summarise

            return StoredLoad(folder, summarise(folder))
        if (folder / FAULTS).is_file():
            faults, notes = read_faults(folder)
            return StoredFaults(folder, tuple(faults), tuple(notes))
    return open_run(find_run(name))
