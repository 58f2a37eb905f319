"""A plan's cases over its runs, and where a level changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.history import history
from harness.report.figures import history as figure
from harness.report.numbers import count, number, times
from harness.report.pictures import picture
from harness.report.sections import Section, Table
from harness.store import Run


def section(runs: Sequence[Run], notes: Sequence[str] = ()) -> Section:
    """The history of the plan of these runs, on the machine of the latest."""
    found = history(runs)
    drawn = picture("history", lambda layout: figure.draw(found, layout), lambda: " ".join(_findings(found)))
    left_out = f"{count(found['left_out'], 'run')} of other machines left out." if found["left_out"] else ""
    return Section(
        id="history",
        title="History",
        about=(
            f"Latency of each case over {count(found['runs'], 'run')} of the plan on one machine: the geometric mean "
            "over the utterances that all of them have, of the fastest of repeats and laps. A change of level is found "
            "by ranks and stands a permutation test at 1 %."
        ),
        findings=_findings(found),
        figures=(drawn,) if drawn else (),
        tables=(
            Table(
                "Changes of level, ms",
                ("Case", "Run", "Commit", "Before", "After", "Times as fast", "p"),
                tuple(
                    (
                        case["case"],
                        change["run"],
                        change["commit"],
                        number(change["before_ms"]),
                        number(change["after_ms"]),
                        times(change["ratio"]),
                        f"{change['p_value']:.4f}",
                    )
                    for case in found["cases"]
                    for change in case["changes"]
                ),
                frozenset({1, 2}),
            ),
            Table(
                "Latency in ms, run by run",
                ("Run", "Commit", *(case["case"] for case in found["cases"])),
                _runs(found),
                frozenset({1}),
            ),
        ),
        notes=tuple(note for note in (*notes, left_out) if note),
    )


def _findings(found: dict[str, Any]) -> tuple[str, ...]:
    changes = [(case["case"], change) for case in found["cases"] for change in case["changes"]]
    if not changes:
        return (f"Over {count(found['runs'], 'run')} no case changed its level, as far as they can show.",)
    return tuple(
        f"“{name}” became {times(change['ratio'])} as fast with run {change['run']} (commit {change['commit']})."
        for name, change in changes
    )


def _runs(found: dict[str, Any]) -> tuple[tuple[str, ...], ...]:
    rows: dict[str, tuple[str, dict[str, float]]] = {}
    for case in found["cases"]:
        for point in case["points"]:
            rows.setdefault(point["run"], (point["commit"], {}))[1][case["case"]] = point["latency_ms"]
    names = [case["case"] for case in found["cases"]]
    return tuple(
        (run, rows[run][0], *(number(rows[run][1].get(name)) for name in names)) for run in figure.in_time(found)
    )
