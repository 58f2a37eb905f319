"""Resident memory over a process's life: whether it settles, and where."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.report.figures.canvas import Canvas, bare, close_ticks, even_ticks, grid, heading, short
from harness.report.figures.curves import colours, end_labels, frame, height_in, key, labelled, plot
from harness.report.figures.rows import measured
from harness.report.numbers import number
from harness.report.style import Layout

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LEAST_SPAN = 0.2
"""Least height of the scale, as a share of its top: what moves by a few pages shall not look like a cliff."""


def draw(summary: dict[str, Any], layout: Layout) -> Figure | None:
    """The figure; `None` where no case has two points."""
    cases = _cases(summary)
    if not cases:
        return None
    named, colour = labelled(cases), colours(cases)
    canvas = Canvas(layout, height_in(layout, len(named)))
    heading(canvas, 0.0, 0.05, "Resident memory, MiB", "after each utterance of a process, median of the repeats")
    box = frame(canvas, len(named))
    axes = canvas.axes(*box)
    curves = {case["id"]: _curve(case) for case in cases}
    plot(axes, cases, curves)
    _scales(axes, curves)
    if layout.narrow:
        largest_first = sorted(named, key=lambda case: -case["memory"]["end_mib"])
        key(canvas, largest_first, colour, [number(case["memory"]["end_mib"]) for case in largest_first], box)
    else:
        left, top, width, height = box
        (first, last), (low, high) = axes.get_xlim(), axes.get_ylim()
        ends = [
            (left + width * (xs[-1] - first) / (last - first), top + height * (high - ys[-1]) / (high - low))
            for xs, ys in (curves[case["id"]] for case in named)
        ]
        end_labels(canvas, named, colour, ends, box)
    return canvas.figure


def _cases(summary: dict[str, Any]) -> list[dict[str, Any]]:
    return [case for case in measured(summary) if case["memory"] and len(case["memory"]["curve"]) > 1]


def _curve(case: dict[str, Any]) -> tuple[list[float], list[float]]:
    points = case["memory"]["curve"]
    return [point["call"] for point in points], [point["mib"] for point in points]


def _scales(axes: Axes, curves: dict[str, tuple[list[float], list[float]]]) -> None:
    bare(axes)
    values = [value for _, ys in curves.values() for value in ys]
    low, high = min(values), max(values)
    room = max(high - low, LEAST_SPAN * high) - (high - low)
    low, high = max(low - 0.6 * room - 0.04 * high, 0), high + 0.4 * room + 0.04 * high
    axes.set_ylim(low, high)
    ticks = close_ticks(low, high)
    axes.set_yticks(ticks, [short(tick) for tick in ticks])
    longest = max(xs[-1] for xs, _ in curves.values())
    axes.set_xlim(1, longest)
    # A process has no utterance 0: the first tick stands at the first utterance.
    ticks = [1, *(tick for tick in even_ticks(longest, 6) if tick >= 0.08 * longest and tick.is_integer())]
    axes.set_xticks(ticks, [short(tick) for tick in ticks])
    axes.get_xticklabels()[0].set_horizontalalignment("left")
    grid(axes, "both")


def describe(summary: dict[str, Any]) -> str:
    """The figure in words."""
    parts = [
        f"{case['title']}: {number(case['memory']['first_mib'])} MiB after the first steady utterance, "
        f"{number(case['memory']['end_mib'])} MiB after the last"
        for case in _cases(summary)
    ]
    return "Curves of resident memory after each utterance. " + "; ".join(parts) + "."
