"""Latency percentile curves, on a scale that gives the tail room."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.report.figures.canvas import Canvas, bare, grid, heading, log_axis, spread, wrap
from harness.report.figures.rows import measured
from harness.report.numbers import number
from harness.report.style import INK, MUTED, WARM, Layout, ramp

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PERCENTILES = (0, 50, 75, 90, 95, 99, 99.9)
MOST_LABELS = 12


def draw(summary: dict[str, Any], latencies_ms: dict[str, list[float]], layout: Layout) -> Figure | None:
    """The figure; `None` where nothing was measured.

    Args:
        summary: The run's summary.
        latencies_ms: Steady-state latencies by case id.
        layout: For which width.
    """
    cases = measured(summary)
    if not cases:
        return None
    labelled = cases if len(cases) <= MOST_LABELS else _notable(cases)
    height = max(4.3, 0.27 * len(labelled) + 1.2) if not layout.narrow else 3.6 + 0.2 * len(labelled)
    canvas = Canvas(layout, height)
    heading(canvas, 0.0, 0.05, "Latency of an utterance, ms", "by share of utterances that were as fast or faster")
    below = 0.25 + 0.2 * len(labelled) if layout.narrow else 0.0
    box = (0.5, 0.6, layout.width_in - (0.6 if layout.narrow else 3.4), height - 0.95 - below)
    axes = canvas.axes(*box)
    curves = {case["id"]: _curve(latencies_ms[case["id"]]) for case in cases}
    colours = _colours(cases)
    has_ladder = any(case["rung"] for case in cases)
    for case in cases:
        shown = case in labelled
        axes.plot(
            *curves[case["id"]],
            color=colours[case["id"]],
            lw=2.0 if shown else 1.0,
            alpha=1.0 if shown else 0.45,
            ls="-" if case["rung"] or not has_ladder else (0, (5, 2)),
            solid_capstyle="round",
            marker="o" if len(latencies_ms[case["id"]]) == 1 else "",
        )
    _scales(axes, curves, max(len(latencies_ms[case["id"]]) for case in cases))
    if layout.narrow:
        _key(canvas, labelled, colours, box)
    else:
        _end_labels(canvas, axes, labelled, curves, colours, box)
    return canvas.figure


def _notable(cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The cases worth a label among many: every one that is no rung, the ladder's ends, the fastest ones."""
    rungs = [case for case in cases if case["rung"]]
    keep = {case["id"] for case in [*rungs[:1], *rungs[-1:]]}
    by_speed = sorted(cases, key=lambda case: case["latency_ms"]["p50"])
    for case in [*[c for c in cases if not c["rung"]][:4], *by_speed[:3], *by_speed[-2:], *by_speed]:
        if len(keep) < MOST_LABELS:
            keep.add(case["id"])
    return [case for case in cases if case["id"] in keep]


def _colours(cases: list[dict[str, Any]]) -> dict[str, str]:
    rungs = [case["id"] for case in cases if case["rung"]]
    others = [case["id"] for case in cases if not case["rung"]]
    if not rungs:
        return dict(zip(others, ramp(len(others)), strict=True))
    return dict(zip(reversed(rungs), ramp(len(rungs)), strict=True)) | dict.fromkeys(others, WARM)


def _curve(values: list[float]) -> tuple[list[float], list[float]]:
    """Each sample at its mid-rank, x stretched by -log10(1 - share) so that every further nine takes as much room."""
    ordered = np.sort(np.asarray(values))
    share = (np.arange(ordered.size) + 0.5) / ordered.size
    return list(-np.log10(1 - share)), list(ordered)


def _scales(axes: Axes, curves: dict[str, tuple[list[float], list[float]]], samples: int) -> None:
    bare(axes)
    end = -math.log10(0.5 / samples)
    values = [value for _, ys in curves.values() for value in ys]
    low, high = min(values), max(values)
    room = max((high / low) ** 0.05, 1.04)
    log_axis(axes, "y", low / room, high * room, 7)
    ticks = [(percent, -math.log10(1 - percent / 100)) for percent in PERCENTILES]
    ticks = [(percent, place) for percent, place in ticks if place <= end + 1e-9]
    names = ["fastest" if percent == 0 else f"p{percent:g}" for percent, _ in ticks]
    axes.set_xlim(0, max(end, 0.31))
    axes.set_xticks([place for _, place in ticks], names)
    axes.get_xticklabels()[0].set_horizontalalignment("left")  # clear of the lowest latency
    grid(axes, "both")


def _end_labels(
    canvas: Canvas,
    axes: Axes,
    cases: list[dict[str, Any]],
    curves: dict[str, tuple[list[float], list[float]]],
    colours: dict[str, str],
    box: tuple[float, float, float, float],
) -> None:
    """Names at the right ends of the curves, moved apart, each tied to its curve by a thin line."""
    left, top, width, height = box
    low, high = axes.get_ylim()
    ends = []
    for case in cases:
        value = curves[case["id"]][1][-1]
        ends.append(top + height * (1 - math.log(value / low) / math.log(high / low)))
    places = spread(ends, 0.26, top + 0.05, top + height - 0.02)
    for case, end, place in zip(cases, ends, places, strict=True):
        x_end, x_stop = axes.get_xlim()
        start = left + width * curves[case["id"]][0][-1] / (x_stop - x_end)
        _line(canvas, (start, left + width + 0.1, left + width + 0.32), (end, end, place), colours[case["id"]])
        canvas.text(
            left + width + 0.4,
            place,
            wrap(case["title"], 34, 1),
            va="center",
            color=INK,
            fontsize=canvas.layout.font_pt,
        )


def _line(canvas: Canvas, xs: tuple[float, ...], ys: tuple[float, ...], colour: str) -> None:
    from matplotlib.lines import Line2D

    wide, high = canvas.layout.width_in, canvas.height_in
    line = Line2D([x / wide for x in xs], [1 - y / high for y in ys], color=colour, lw=1.0)
    canvas.figure.add_artist(line)


def _key(
    canvas: Canvas, cases: list[dict[str, Any]], colours: dict[str, str], box: tuple[float, float, float, float]
) -> None:
    """On a phone there is no room beside the curves: the names stand below, slowest first."""
    top = box[1] + box[3] + 0.45
    slowest_first = sorted(cases, key=lambda case: -case["latency_ms"]["p50"])
    for index, case in enumerate(slowest_first):
        place = top + 0.2 * index
        _line(canvas, (0.02, 0.26), (place + 0.07, place + 0.07), colours[case["id"]])
        canvas.text(0.36, place, wrap(case["title"], 40, 1), color=INK)
        value = number(case["latency_ms"]["p50"])
        canvas.text(canvas.layout.width_in - 0.05, place, value, ha="right", color=MUTED)


def describe(summary: dict[str, Any]) -> str:
    """The figure in words."""
    parts = [
        f"{case['title']}: median {number(case['latency_ms']['p50'])} ms, p90 {number(case['latency_ms']['p90'])} ms"
        for case in measured(summary)
    ]
    return "Latency percentile curves, both axes logarithmic. " + "; ".join(parts) + "."
