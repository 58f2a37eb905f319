"""The ladder: what each rung gained over the one below it, and over the bottom, with intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.report.figures import forest
from harness.report.figures.rows import in_order
from harness.report.numbers import percent, ratio, ratio_interval
from harness.report.style import Layout

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(summary: dict[str, Any], layout: Layout) -> Figure | None:
    """The figure; `None` where no rung could be compared."""
    rungs = {rung["candidate"]: rung for rung in summary["rungs"]}
    if not any(rung["ratio"] is not None for rung in rungs.values()):
        return None
    cases = [case for case in in_order(summary["cases"]) if case["rung"]]
    steps = [_mark(case, rungs.get(case["id"]), case is cases[-1]) for case in cases]
    wholes = [_mark(case, (rungs.get(case["id"]) or {}).get("cumulative"), case is cases[-1]) for case in cases]
    panels = [
        forest.Panel("Each rung against the one below", steps),
        forest.Panel("Against the bottom rung", wholes, bars=True),
    ]
    note = f"times as fast, 95 % interval; band: ±{percent(summary['no_effect_margin'], 0)} %"
    return forest.draw([case["title"] for case in cases], panels, note, layout)


def _mark(case: dict[str, Any], found: dict[str, Any] | None, bottom: bool) -> forest.Mark:
    if case["status"] != "ok":
        return forest.Mark(word=case["status"], missing=True)
    if found is None or found["ratio"] is None:
        return forest.Mark(word="the bottom rung" if bottom else "the lowest measured")
    return forest.Mark.of(found)


def describe(summary: dict[str, Any]) -> str:
    """The figure in words, for those who cannot see it."""
    parts = [
        f"{rung['title']}: {ratio(rung['ratio'])} times as fast as the rung below "
        f"({ratio_interval(rung['low'], rung['high'])}), {ratio(rung['cumulative']['ratio'])} times the bottom"
        for rung in summary["rungs"]
        if rung["ratio"] is not None
    ]
    return "The ladder on a logarithmic axis. " + "; ".join(parts) + "."
