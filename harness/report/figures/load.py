"""Latency percentiles over the number of streams, from due time and from send."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from harness.report.figures.canvas import Canvas, bare, grid, heading, log_axis, spread
from harness.report.figures.curves import line
from harness.report.numbers import number
from harness.report.style import ACCENT, INK, NEUTRAL, RAMP, Layout

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANELS = {"partial": "Partials, ms", "final": "Finals, ms"}
CURVES = (
    ("p99", "", "p99 from due", ACCENT, "-"),
    ("p99", "_from_send", "p99 from send", NEUTRAL, "--"),
    ("p50", "", "p50 from due", RAMP[3], "-"),
    ("p50", "_from_send", "p50 from send", NEUTRAL, ":"),
)
PANEL_IN = 3.6


def draw(steps: list[dict[str, Any]], layout: Layout) -> Figure | None:
    """The figure, a panel for partials and one for finals; `None` where no step has an answer."""
    kinds = [kind for kind in PANELS if any(step["latency_ms"][kind]["n"] for step in steps)]
    if not kinds:
        return None
    rows = len(kinds) if layout.narrow else 1
    canvas = Canvas(layout, PANEL_IN * rows)
    across = layout.width_in / (1 if layout.narrow else len(kinds))
    for place, kind in enumerate(kinds):
        left, top = (0.0, PANEL_IN * place) if layout.narrow else (across * place, 0.0)
        heading(canvas, left, top + 0.05, PANELS[kind], "percentiles, from due time and from send")
        _panel(canvas, (left + 0.55, top + 0.65, across - 1.95, PANEL_IN - 1.3), steps, kind)
    return canvas.figure


def _panel(canvas: Canvas, box: tuple[float, float, float, float], steps: list[dict[str, Any]], kind: str) -> None:
    axes = canvas.axes(*box)
    bare(axes)
    curves = []
    for key, suffix, name, colour, style in CURVES:
        points = [(step["streams"], step["latency_ms"][kind + suffix][key]) for step in steps]
        kept = [(streams, max(value, 0.01)) for streams, value in points if value is not None]
        axes.plot([x for x, _ in kept], [y for _, y in kept], style, color=colour, lw=1.8, marker="o", ms=4)
        curves.append((name, colour, kept))
    _scales(axes, curves, [step["streams"] for step in steps])
    low, high = axes.get_ylim()
    (first, last) = axes.get_xlim()
    left, top, width, height = box
    ended = [(name, colour, kept[-1]) for name, colour, kept in curves if kept]
    tops = [top + height * (1 - math.log(y / low) / math.log(high / low)) for _, _, (_, y) in ended]
    for (name, colour, (x, _)), end, place in zip(ended, tops, spread(tops, 0.19, top, top + height), strict=True):
        start = left + width * (math.log(x / first) / math.log(last / first))
        line(canvas, (start + 0.05, left + width + 0.06, left + width + 0.2), (end, end, place), colour)
        canvas.text(left + width + 0.25, place, name, va="center", color=INK, fontsize=canvas.layout.font_pt - 0.5)


def _scales(axes: Axes, curves: list[tuple[str, str, list[tuple[int, float]]]], streams: list[int]) -> None:
    values = [value for _, _, kept in curves for _, value in kept]
    low, high = min(values), max(values)
    room = max((high / low) ** 0.08, 1.1)
    log_axis(axes, "y", low / room, high * room, 6)
    axes.set_xscale("log")
    axes.set_xlim(min(streams) / 1.08, max(streams) * 1.08)
    shown = sorted(set(streams)) if len(set(streams)) <= 7 else sorted({min(streams), max(streams)})
    axes.set_xticks(shown, [number(each) if each >= 1000 else str(each) for each in shown])
    axes.set_xticks([], minor=True)
    axes.set_xlabel("streams at once", labelpad=6)
    grid(axes, "both")
