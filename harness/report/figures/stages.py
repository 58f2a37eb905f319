"""Where the time goes: the median of each stage, stacked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.report.figures.canvas import Canvas, bare, even_ticks, grid, heading, row_grid, short, wrap
from harness.report.figures.rows import measured
from harness.report.numbers import number
from harness.report.style import INK, MUTED, ON_DARK, ON_LIGHT, STAGE_ON_DARK, Layout, stage_fills
from pipelines.contracts import ENGINE_STAGE, STAGES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

OTHER = "other"
LEAST_VISIBLE = 0.004
"""A stage below this share of every case is left out of the key: its bar would be under a pixel or two."""


def stage_order(cases: list[dict[str, Any]]) -> list[str]:
    """The stages that occur, in the order of a request, `other` last."""
    seen = {stage for case in cases for stage in case["stages_ms"]}
    known = [stage for stage in (*STAGES, ENGINE_STAGE) if stage in seen]
    return [*known, *sorted(seen - set(known)), OTHER]


def draw(summary: dict[str, Any], layout: Layout) -> Figure | None:
    """The figure; `None` where no case has a stage."""
    cases = [case for case in measured(summary) if case["stages_ms"]]
    if not cases:
        return None
    stages = stage_order(cases)
    fills = stage_fills(stages)
    row = 0.56 if layout.narrow else 0.4
    top, left = (0.9 if layout.narrow else 0.72), (0.02 if layout.narrow else 2.35)
    body = row * len(cases)
    canvas = Canvas(layout, top + body + 0.4)
    heading(canvas, left, 0.05, "Median time in each stage, ms an utterance")
    _key(canvas, _visible(cases, stages), fills, left)
    width = layout.width_in - left - 0.75
    axes = canvas.axes(left, top, width, body)
    bare(axes)
    axes.set_ylim(len(cases) - 0.5, -0.5)
    longest = max(sum(_parts(case).values()) for case in cases)
    axes.set_xlim(0, longest)
    shift = 0.2 if layout.narrow else 0.0
    for index, case in enumerate(cases):
        place = top + row * (index + 0.5)
        if layout.narrow:
            canvas.text(left, top + row * index + 0.04, wrap(case["title"], 44, 1))
        else:
            canvas.text(0.0, place, wrap(case["title"], 30), va="center", linespacing=1.2)
        end = _bar(axes, index + shift, case, stages, fills, longest, width)
        label_left = left + width * end / longest + 0.08
        style = {"va": "center", "color": INK, "fontweight": "bold"}
        canvas.text(label_left, place + shift * row, number(case["latency_ms"]["p50"]), **style)
    _scale(axes, longest, [index + shift for index in range(len(cases))], narrow=layout.narrow)
    return canvas.figure


def _scale(axes: Axes, longest: float, rows: list[float], *, narrow: bool) -> None:
    ticks = even_ticks(longest, 4 if narrow else 6)
    axes.set_xlim(0, longest)
    axes.set_xticks(ticks, [short(tick) for tick in ticks])
    if narrow:
        row_grid(axes, rows, 0.2)
    else:
        grid(axes, "x")


def _parts(case: dict[str, Any]) -> dict[str, float]:
    return {**case["stages_ms"], OTHER: case["other_ms"]}


def _visible(cases: list[dict[str, Any]], stages: list[str]) -> list[str]:
    def share(stage: str) -> float:
        return max(_parts(case).get(stage, 0.0) / (sum(_parts(case).values()) or 1.0) for case in cases)

    return [stage for stage in stages if share(stage) >= LEAST_VISIBLE]


def _bar(
    axes: Axes,
    row: float,
    case: dict[str, Any],
    stages: list[str],
    fills: dict[str, str],
    longest: float,
    width_in: float,
) -> float:
    """One stacked bar, its wide segments labelled with their share; returns where it ends."""
    parts = _parts(case)
    whole = sum(parts.values()) or 1.0
    height = 0.36 if axes.figure.get_figwidth() < 5 else 0.58  # type: ignore[union-attr]
    start = 0.0
    for stage in stages:
        value = parts.get(stage, 0.0)
        axes.barh(row, value, left=start, height=height, color=fills[stage], lw=0, zorder=2)
        if value / longest * width_in > 0.42:
            colour = ON_DARK if stage in STAGE_ON_DARK else ON_LIGHT
            axes.text(
                start + value / 2,
                row,
                f"{100 * value / whole:.0f} %",
                ha="center",
                va="center_baseline",
                color=colour,
                fontsize=8,
                zorder=3,
            )
        start += value
    return start


def _key(canvas: Canvas, stages: list[str], fills: dict[str, str], left: float) -> None:
    from matplotlib.patches import Rectangle

    wide, high = canvas.layout.width_in, canvas.height_in
    place, top = left, 0.38
    for stage in stages:
        room = 0.3 + 0.085 * len(stage)
        if place + room > wide:
            place, top = left, top + 0.22
        box = Rectangle((place / wide, 1 - (top + 0.14) / high), 0.13 / wide, 0.13 / high, color=fills[stage], lw=0)
        canvas.figure.add_artist(box)
        canvas.text(place + 0.19, top + 0.075, stage, va="center", color=MUTED)
        place += room + 0.1


def describe(summary: dict[str, Any]) -> str:
    """The figure in words."""
    parts = []
    for case in measured(summary):
        stages = sorted(_parts(case).items(), key=lambda item: -item[1])[:2]
        named = " and ".join(f"{number(value)} ms in {stage}" for stage, value in stages)
        parts.append(f"{case['title']}: {named}")
    return "Stacked bars of the median stage times. " + "; ".join(parts) + "."
