"""The ladder: what each rung gained over the one below it, and over the bottom, with intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.report.figures.canvas import Canvas, bare, grid, heading, log_axis, row_grid, wrap
from harness.report.figures.rows import in_order
from harness.report.numbers import percent, ratio, ratio_interval, times
from harness.report.style import ACCENT, BAND, INK, MUTED, NEUTRAL, RAMP, SURFACE, WARM, Layout

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {"faster": ACCENT, "slower": WARM, "no effect": NEUTRAL, "unclear": NEUTRAL}
ROW_IN = {"wide": 0.5, "narrow": 0.62}


def draw(summary: dict[str, Any], layout: Layout) -> Figure | None:
    """The figure; `None` where no rung could be compared."""
    rungs = {rung["candidate"]: rung for rung in summary["rungs"]}
    if not any(rung["ratio"] is not None for rung in rungs.values()):
        return None
    cases = [case for case in in_order(summary["cases"]) if case["rung"]]
    steps = [rungs.get(case["id"]) for case in cases]
    wholes = [step["cumulative"] if step else None for step in steps]
    if layout.narrow:
        return _narrow(cases, steps, wholes, summary, layout)
    return _wide(cases, steps, wholes, summary, layout)


def _wide(
    cases: list[dict[str, Any]], steps: list[Any], wholes: list[Any], summary: dict[str, Any], layout: Layout
) -> Figure:
    row = ROW_IN["wide"]
    body = row * len(cases)
    canvas = Canvas(layout, body + 1.0)
    note = _note(summary)
    heading(canvas, 2.45, 0.08, "Each rung against the one below", note)
    heading(canvas, 6.85, 0.08, "Against the bottom rung", note)
    for index, case in enumerate(cases):
        top = 0.6 + row * (index + 0.5)
        ink = INK if case["status"] == "ok" else MUTED
        canvas.text(0.0, top, wrap(case["title"], 30), va="center", color=ink, linespacing=1.25)
    _panel(canvas, (2.45, 0.6, 2.35, body), cases, steps, summary, 4.92, bars=False)
    _panel(canvas, (6.85, 0.6, 1.5, body), cases, wholes, summary, 8.46, bars=True)
    return canvas.figure


def _narrow(
    cases: list[dict[str, Any]], steps: list[Any], wholes: list[Any], summary: dict[str, Any], layout: Layout
) -> Figure:
    row = ROW_IN["narrow"]
    body = row * len(cases)
    panel = body + 1.05
    canvas = Canvas(layout, 2 * panel)
    names = ("Each rung against the one below", "Against the bottom rung")
    for place, (name, rows) in enumerate(zip(names, (steps, wholes), strict=True)):
        top = place * panel
        heading(canvas, 0.0, top + 0.05, name, _note(summary))
        for index, case in enumerate(cases):
            ink = INK if case["status"] == "ok" else MUTED
            canvas.text(0.0, top + 0.58 + row * index, wrap(case["title"], 44, 1), color=ink)
        _panel(canvas, (0.05, top + 0.52, 2.05, body), cases, rows, summary, 2.25, bars=bool(place))
    return canvas.figure


def _note(summary: dict[str, Any]) -> str:
    return f"times as fast, 95 % interval; band: ±{percent(summary['no_effect_margin'], 0)} %"


def _panel(
    canvas: Canvas,
    box: tuple[float, float, float, float],
    cases: list[dict[str, Any]],
    rows: list[Any],
    summary: dict[str, Any],
    values_left: float,
    *,
    bars: bool,
) -> None:
    axes = canvas.axes(*box)
    bare(axes)
    low, high = _range(rows)
    # A narrow row has its title above its mark, so the mark sits below the middle.
    shift = 0.22 if canvas.layout.narrow else 0.0
    axes.set_ylim(len(cases) - 0.5, -0.5)
    log_axis(axes, "x", low, high, 5 if bars or canvas.layout.narrow else 6, "×")
    margin = summary["no_effect_margin"]
    if canvas.layout.narrow:
        row_grid(axes, [index + shift for index in range(len(cases))], 0.2)
    else:
        grid(axes, "x")
        axes.axvspan(1 - margin, 1 + margin, color=BAND, lw=0, zorder=0.6)
    for index, (case, found) in enumerate(zip(cases, rows, strict=True)):
        reach = (index + shift - 0.2, index + shift + 0.2) if canvas.layout.narrow else (index - 0.5, index + 0.5)
        axes.vlines(1, *reach, color=MUTED, lw=1, zorder=0.8)
        if found is not None and found["ratio"] is not None:
            _mark(axes, index + shift, found, bars=bars)
        _value(canvas, box, index, len(cases), shift, values_left, _label(case, found, index == len(cases) - 1))


def _mark(axes: Axes, row: float, found: dict[str, Any], *, bars: bool) -> None:
    colour = COLOURS[found["verdict"]]
    if bars:
        # Pale, so that the whole interval is seen on it.
        axes.barh(row, found["ratio"] - 1, left=1, height=0.24, color=RAMP[0], lw=0, zorder=2)
    axes.plot([found["low"], found["high"]], [row, row], color=colour, lw=2.2, solid_capstyle="round", zorder=3)
    axes.plot([found["ratio"]], [row], "o", ms=7, mfc=colour, mec=SURFACE, mew=1.0, zorder=4)


def _label(case: dict[str, Any], found: dict[str, Any] | None, bottom: bool) -> tuple[str, str]:
    """A row's value and its small print."""
    if case["status"] != "ok":
        return "", str(case["status"])
    if found is None or found["ratio"] is None:
        return ("", "the bottom rung") if bottom else ("", "the lowest measured")
    return times(found["ratio"]), ratio_interval(found["low"], found["high"])


def _value(
    canvas: Canvas,
    box: tuple[float, float, float, float],
    index: int,
    count: int,
    shift: float,
    left: float,
    label: tuple[str, str],
) -> None:
    size = canvas.layout.font_pt
    top = box[1] + box[3] * (index + 0.5 + shift) / count
    value, small = label
    canvas.text(left, top, value, va="center", fontsize=size + 1, fontweight="bold")
    indent = 0.66 if value else 0.0
    canvas.text(left + indent, top, small, va="center", fontsize=size - 0.5, color=MUTED)


def _range(rows: list[Any]) -> tuple[float, float]:
    shown = [row for row in rows if row is not None and row["ratio"] is not None]
    low, high = min(1.0, *(row["low"] for row in shown)), max(1.0, *(row["high"] for row in shown))
    margin = max((high / low) ** 0.06, 1.03)
    return low / margin, high * margin


def describe(summary: dict[str, Any]) -> str:
    """The figure in words, for those who cannot see it."""
    parts = [
        f"{rung['title']}: {ratio(rung['ratio'])} times as fast as the rung below "
        f"({ratio_interval(rung['low'], rung['high'])}), {ratio(rung['cumulative']['ratio'])} times the bottom"
        for rung in summary["rungs"]
        if rung["ratio"] is not None
    ]
    return "The ladder on a logarithmic axis. " + "; ".join(parts) + "."
