"""A case over the runs of its plan on one machine, and where its level changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp
from typing import Any

import numpy as np

from harness import stats
from harness.gate.baselines import key
from harness.measured import measured_cases, table
from harness.store import MANIFEST, Run, open_run, read_manifest
from pipelines.errors import AmiraError, NothingMeasuredError
from pipelines.paths import home, runs_dir


@dataclass(frozen=True, slots=True)
class Point:
    """A case in one run.

    Attributes:
        run: The run.
        created_utc: When it was made.
        commit: The code that was measured.
        latency_ms: Geometric mean over the utterances that all runs have, of the fastest of repeats and laps.
    """

    run: str
    created_utc: str
    commit: str
    latency_ms: float


def runs_of(plan: str) -> tuple[list[Run], list[str]]:
    """The stored runs of a plan, a curated copy once, and a note for each run that cannot be read.

    A run of another schema version, or a damaged one, is no reason to show nothing of the others; but it is told.
    """
    runs: dict[str, Run] = {}
    notes = []
    for path in sorted(path for root in (runs_dir(), home() / "reports") for path in root.glob(f"*/{MANIFEST}")):
        try:
            manifest = read_manifest(path)
            if manifest.plan_name == plan and manifest.run not in runs:
                runs[manifest.run] = open_run(path.parent)
        except AmiraError as error:
            notes.append(f"left out: {error}")
    return list(runs.values()), notes


def history(runs: Sequence[Run], machine: str | None = None) -> dict[str, Any]:
    """The history of every case of a plan.

    Args:
        runs: Runs of one plan, in any order.
        machine: Only runs of this fingerprint (`harness.gate.baselines.key`); that of the latest by default. Times of
            different machines make no history.

    Returns:
        A JSON-ready document: the machine, the runs that count, and for each case its points and changes.

    Raises:
        NothingMeasuredError: There is no run with a measured case.
    """
    timed = [run for run in runs if run.manifest.timed]
    ordered = sorted(timed, key=lambda run: (run.manifest.created_utc, run.manifest.run))
    if not ordered:
        raise NothingMeasuredError("there is no run of that plan that measured time. Make one: amira bench PLAN")
    machine = machine or key(ordered[-1].manifest.fingerprint)
    kept = [run for run in ordered if key(run.manifest.fingerprint) == machine]
    common = _common(kept)
    points: dict[str, list[Point]] = {}
    for run in kept:
        for name, latency_ms in _latencies_ms(run, common).items():
            commit = str(run.manifest.fingerprint.get("code", {}).get("commit", "unknown"))[:12]
            points.setdefault(name, []).append(Point(run.manifest.run, run.manifest.created_utc, commit, latency_ms))
    if not points:
        raise NothingMeasuredError("no run of that plan has a measured case on utterances that all of them have.")
    return {
        "machine": machine,
        "runs": len(kept),
        "left_out": len(ordered) - len(kept),
        "cases": [
            {"case": name, "points": [_json(point) for point in rows], "changes": _changes(rows)}
            for name, rows in points.items()
        ],
    }


def _common(runs: Sequence[Run]) -> list[str]:
    """Utterances that every run has with the same audio."""
    sets = [{(row.id, row.sha256) for row in run.utterances.values()} for run in runs]
    shared = set.intersection(*sets) if sets else set()
    return [name for name, _ in sorted(shared)]


def _latencies_ms(run: Run, utterances: Sequence[str]) -> dict[str, float]:
    columns = [list(run.utterances).index(name) for name in utterances]
    found = {}
    for name, case in measured_cases(run).items():
        times = table(run, case.steady, lambda row: row.latency_ns / 1e6)[:, columns]
        measured = (times > 0).any(axis=0)
        if case.entry.case.side is None and columns and measured.all():
            found[name] = exp(float(np.log(np.nanmin(times, axis=0)).mean()))
    return found


def _changes(points: Sequence[Point]) -> list[dict[str, Any]]:
    return [
        {
            "run": points[change.index].run,
            "commit": points[change.index].commit,
            "before_ms": change.before,
            "after_ms": change.after,
            "ratio": change.before / change.after,
            "p_value": change.p_value,
        }
        for change in stats.change_points([point.latency_ms for point in points])
    ]


def _json(point: Point) -> dict[str, Any]:
    return {"run": point.run, "created_utc": point.created_utc, "commit": point.commit, "latency_ms": point.latency_ms}
