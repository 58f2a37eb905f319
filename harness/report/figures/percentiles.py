"""Latency percentile curves, on a scale that gives the tail room."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.report.figures.canvas import Canvas, bare, grid, heading, log_axis
from harness.report.figures.curves import colours, end_labels, frame, height_in, key, labelled, plot
from harness.report.figures.rows import measured
from harness.report.numbers import number
from harness.report.style import Layout

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PERCENTILES = (0, 50, 75, 90, 95, 99, 99.9)


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
    named, colour = labelled(cases), colours(cases)
    canvas = Canvas(layout, height_in(layout, len(named)))
    heading(canvas, 0.0, 0.05, "Latency of an utterance, ms", "by share of utterances that were as fast or faster")
    box = frame(canvas, len(named))
    axes = canvas.axes(*box)
    curves = {case["id"]: _curve(latencies_ms[case["id"]]) for case in cases}
    plot(axes, cases, curves)
    _scales(axes, curves, max(len(latencies_ms[case["id"]]) for case in cases))
    if layout.narrow:
        slowest_first = sorted(named, key=lambda case: -case["latency_ms"]["p50"])
        key(canvas, slowest_first, colour, [number(case["latency_ms"]["p50"]) for case in slowest_first], box)
    else:
        end_labels(canvas, named, colour, _ends(axes, named, curves, box), box)
    return canvas.figure


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


def _ends(
    axes: Axes,
    cases: list[dict[str, Any]],
    curves: dict[str, tuple[list[float], list[float]]],
    box: tuple[float, float, float, float],
) -> list[tuple[float, float]]:
    """Where the curves end, in inches."""
    left, top, width, height = box
    low, high = axes.get_ylim()
    x_end, x_stop = axes.get_xlim()
    ends = []
    for case in cases:
        xs, ys = curves[case["id"]]
        share = math.log(ys[-1] / low) / math.log(high / low)
        ends.append((left + width * xs[-1] / (x_stop - x_end), top + height * (1 - share)))
    return ends


def describe(summary: dict[str, Any]) -> str:
    """The figure in words."""
    parts = [
        f"{case['title']}: median {number(case['latency_ms']['p50'])} ms, p90 {number(case['latency_ms']['p90'])} ms"
        for case in measured(summary)
    ]
    return "Latency percentile curves, both axes logarithmic. " + "; ".join(parts) + "."
