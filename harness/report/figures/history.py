"""Latency over the runs of a plan, a strip for each case, with the levels between changes."""

from __future__ import annotations

from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Any

from harness.report.figures.canvas import Canvas, bare, close_ticks, grid, heading, short, wrap
from harness.report.numbers import times
from harness.report.style import ACCENT, INK, MUTED, NEUTRAL, WARM, Layout

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST = 12
"""Strips at most; those that changed come first, and the table has all."""
STRIP_IN = {"wide": 0.8, "narrow": 0.95}


def draw(found: dict[str, Any], layout: Layout) -> Figure | None:
    """The figure; `None` where no case has two points."""
    cases = [case for case in found["cases"] if len(case["points"]) > 1]
    if not cases:
        return None
    cases = sorted(cases, key=lambda case: not case["changes"])[:MOST]
    runs = in_time(found)
    strip = STRIP_IN[layout.name]
    canvas = Canvas(layout, 0.75 + strip * len(cases) + 0.5)
    heading(canvas, 0.0, 0.05, "Latency, ms", "of each run, oldest first; lines: medians between changes of level")
    for index, case in enumerate(cases):
        top = 0.75 + strip * index
        if layout.narrow:
            canvas.text(0.0, top, wrap(case["case"], 40, 1), color=INK)
            box = (0.55, top + 0.24, layout.width_in - 0.75, strip - 0.42)
        else:
            canvas.text(0.0, top + 0.2, wrap(case["case"], 24, 2), color=INK)
            box = (2.6, top + 0.08, layout.width_in - 2.9, strip - 0.28)
        _strip(canvas.axes(*box), case, runs, last=case is cases[-1])
    return canvas.figure


def in_time(found: dict[str, Any]) -> list[str]:
    """The runs of a history, oldest first."""
    created = {point["run"]: point["created_utc"] for case in found["cases"] for point in case["points"]}
    return sorted(created, key=lambda run: (created[run], run))


def _strip(axes: Axes, case: dict[str, Any], runs: list[str], *, last: bool) -> None:
    bare(axes)
    places = [runs.index(point["run"]) for point in case["points"]]
    values = [point["latency_ms"] for point in case["points"]]
    axes.plot(places, values, "o", ms=3.5, color=NEUTRAL, zorder=3, clip_on=False)
    starts = {change["run"]: change for change in case["changes"]}
    edges = [0, *(i for i, point in enumerate(case["points"]) if point["run"] in starts), len(places)]
    low, high = min(values), max(values)
    room = max(0.2 * (high - low), 0.03 * high)
    axes.set_ylim(low - room, high + room)
    axes.set_xlim(-0.5, len(runs) - 0.5)
    for first, end in pairwise(edges):
        level = median(values[first:end])
        axes.plot([places[first] - 0.4, places[end - 1] + 0.4], [level, level], color=ACCENT, lw=1.8, zorder=2)
        change = starts.get(case["points"][first]["run"]) if first else None
        if change:
            colour = ACCENT if change["ratio"] > 1 else WARM
            axes.axvline(places[first] - 0.5, color=colour, lw=1.0, ls="--", zorder=1)
            axes.annotate(
                f"{times(change['ratio'])} as fast",
                (places[first] - 0.45, high + room),
                va="top",
                color=colour,
                fontsize="small",
            )
    ticks = close_ticks(low - room, high + room)
    axes.set_yticks(ticks[:: max(1, len(ticks) // 2)], [short(tick) for tick in ticks[:: max(1, len(ticks) // 2)]])
    grid(axes, "y")
    ends = sorted({0, len(runs) - 1})
    axes.set_xticks(ends if last else [], [f"run {each + 1}" for each in ends] if last else [])
    axes.tick_params(axis="x", labelcolor=MUTED)
