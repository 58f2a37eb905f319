"""What figures of one curve a case share: which cases get a name, in which colour, and where the names stand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from harness.report.figures.canvas import Canvas, spread, wrap
from harness.report.style import INK, MUTED, WARM, Layout, ramp

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Case = dict[str, Any]
Box = tuple[float, float, float, float]
"""Left, top, width and height in inches."""

MOST_LABELS = 12


def labelled(cases: list[Case]) -> list[Case]:
    """The cases worth a name: all, or among many every one that is no rung, the ladder's ends, the fastest ones."""
    if len(cases) <= MOST_LABELS:
        return cases
    rungs = [case for case in cases if case["rung"]]
    keep = {case["id"] for case in [*rungs[:1], *rungs[-1:]]}
    by_speed = sorted(cases, key=lambda case: case["latency_ms"]["p50"])
    for case in [*[c for c in cases if not c["rung"]][:4], *by_speed[:3], *by_speed[-2:], *by_speed]:
        if len(keep) < MOST_LABELS:
            keep.add(case["id"])
    return [case for case in cases if case["id"] in keep]


def colours(cases: list[Case]) -> dict[str, str]:
    """Colour by case id: the ladder in steps of one hue, what stands beside it in another."""
    rungs = [case["id"] for case in cases if case["rung"]]
    others = [case["id"] for case in cases if not case["rung"]]
    if not rungs:
        return dict(zip(others, ramp(len(others)), strict=True))
    return dict(zip(reversed(rungs), ramp(len(rungs)), strict=True)) | dict.fromkeys(others, WARM)


def plot(axes: Axes, cases: list[Case], curves: dict[str, tuple[list[float], list[float]]]) -> None:
    """Draw the curves: named cases strong, the rest pale; dashed what is no rung of a ladder."""
    named, colour = labelled(cases), colours(cases)
    has_ladder = any(case["rung"] for case in cases)
    for case in cases:
        shown = case in named
        axes.plot(
            *curves[case["id"]],
            color=colour[case["id"]],
            lw=2.0 if shown else 1.0,
            alpha=1.0 if shown else 0.45,
            ls="-" if case["rung"] or not has_ladder else (0, (5, 2)),
            solid_capstyle="round",
            marker="o" if len(curves[case["id"]][0]) == 1 else "",
        )


def end_labels(
    canvas: Canvas, cases: list[Case], colour: dict[str, str], ends: Sequence[tuple[float, float]], box: Box
) -> None:
    """Names right of the plot, moved apart, each tied to the end of its curve by a thin line.

    Args:
        canvas: The figure.
        cases: The cases to name.
        colour: Colour by case id.
        ends: Where the curve of each ends, in inches.
        box: The plotting area.
    """
    left, top, width, height = box
    places = spread([end for _, end in ends], 0.26, top + 0.05, top + height - 0.02)
    for case, (start, end), place in zip(cases, ends, places, strict=True):
        line(canvas, (start, left + width + 0.1, left + width + 0.32), (end, end, place), colour[case["id"]])
        canvas.text(
            left + width + 0.4,
            place,
            wrap(case["title"], 34, 1),
            va="center",
            color=INK,
            fontsize=canvas.layout.font_pt,
        )


def key(canvas: Canvas, cases: list[Case], colour: dict[str, str], values: Sequence[str], box: Box) -> None:
    """On a phone there is no room beside the curves: the names stand below, each with its value."""
    top = box[1] + box[3] + 0.45
    for index, (case, value) in enumerate(zip(cases, values, strict=True)):
        place = top + 0.2 * index
        line(canvas, (0.02, 0.26), (place + 0.07, place + 0.07), colour[case["id"]])
        canvas.text(0.36, place, wrap(case["title"], 40, 1), color=INK)
        canvas.text(canvas.layout.width_in - 0.05, place, value, ha="right", color=MUTED)


def line(canvas: Canvas, xs: tuple[float, ...], ys: tuple[float, ...], colour: str) -> None:
    """A thin line through points in inches."""
    from matplotlib.lines import Line2D

    wide, high = canvas.layout.width_in, canvas.height_in
    artist = Line2D([x / wide for x in xs], [1 - y / high for y in ys], color=colour, lw=1.0)
    canvas.figure.add_artist(artist)


def frame(canvas: Canvas, named: int) -> Box:
    """The plotting area: room for names on its right, or on a phone below it."""
    layout = canvas.layout
    below = 0.25 + 0.2 * named if layout.narrow else 0.0
    return (0.5, 0.6, layout.width_in - (0.6 if layout.narrow else 3.4), canvas.height_in - 0.95 - below)


def height_in(layout: Layout, named: int) -> float:
    """The height of a figure with so many names."""
    return 3.6 + 0.2 * named if layout.narrow else max(4.3, 0.27 * named + 1.2)
