"""Word error rate against an option that a plan tries at several values, as a streaming model's chunk length."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.report.figures.canvas import Canvas, bare, even_ticks, grid, heading, short, wrap
from harness.report.figures.curves import line
from harness.report.figures.front import corpora
from harness.report.figures.rows import measured
from harness.report.numbers import listing, percent
from harness.report.style import ACCENT, INK, MUTED, SURFACE, WARM, Layout, ramp

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Case = dict[str, Any]
LEAST = 3
"""Values from which on it is a curve."""
KEY_LINE_IN = 0.22


@dataclass(frozen=True, slots=True)
class Sweep:
    """Cases that differ in one number alone.

    Attributes:
        option: Its name, as `acoustic.chunk_frames`.
        lines: For each of what else there is, a name, and value and case from the smallest value.
        levels: What those cases are compared with, without being among them.
    """

    option: str
    lines: tuple[tuple[str, tuple[tuple[float, Case], ...]], ...]
    levels: tuple[Case, ...]


def sweep(summary: dict[str, Any]) -> Sweep | None:
    """The option that the run tries at the most values, at least three; `None` where there is none."""
    cases = measured(summary)
    found: dict[str, dict[str, list[tuple[float, Case]]]] = defaultdict(lambda: defaultdict(list))
    for case in cases:
        options = _flat(case["options"])
        for option, value in options.items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                rest = repr((case["model"], case["threads"], case["variants"], {**options, option: None}))
                found[option][rest].append((float(value), case))
    curves = {
        option: [sorted(points, key=lambda point: point[0]) for points in groups.values() if _values(points) >= LEAST]
        for option, groups in found.items()
    }
    if not any(curves.values()):
        return None
    option = max(curves, key=lambda name: sum(map(len, curves[name])))
    lines = tuple((_name(points, curves[option]), tuple(points)) for points in curves[option])
    inside = {case["id"] for _, points in lines for _, case in points}
    against = {case["compare_to"] for _, points in lines for _, case in points} - inside
    return Sweep(option, lines, tuple(case for case in cases if case["id"] in against))


def _flat(options: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return {f"{axis}.{name}": value for axis, own in options.items() for name, value in own.items()}


def _values(points: list[tuple[float, Case]]) -> int:
    return len({value for value, _ in points})


def _name(points: list[tuple[float, Case]], all_points: list[list[tuple[float, Case]]]) -> str:
    first = points[0][1]
    if len({group[0][1]["model"] for group in all_points}) == len(all_points):
        return str(first["model"])
    return f"{first['model']}, {listing(sorted(first['variants'].values()), 4)}"


def draw(summary: dict[str, Any], layout: Layout) -> Figure | None:
    """The figure, one panel for each corpus; `None` where no option is tried at several values."""
    found, names = sweep(summary), corpora(summary)
    if found is None or not names:
        return None
    columns = 1 if layout.narrow or len(names) == 1 else 2
    panel = 3.0
    rows = math.ceil(len(names) / columns)
    key = KEY_LINE_IN * (len(found.lines) + len(found.levels)) + 0.2
    canvas = Canvas(layout, panel * rows + key)
    colours = ramp(len(found.lines)) if len(found.lines) > 1 else [ACCENT]
    across = layout.width_in / columns
    for place, corpus in enumerate(names):
        left, top = across * (place % columns), panel * (place // columns)
        heading(canvas, left, top + 0.05, corpus, "word error rate, %")
        axes = canvas.axes(left + 0.45, top + 0.6, across - 0.65, panel - 1.25)
        _panel(axes, found, corpus, colours)
    _key(canvas, found, colours, panel * rows + 0.05)
    return canvas.figure


def _panel(axes: Axes, found: Sweep, corpus: str, colours: list[str]) -> None:
    bare(axes)
    values = sorted({value for _, points in found.lines for value, _ in points})
    axes.set_xscale("log" if values[0] > 0 and values[-1] >= 8 * values[0] else "linear")
    axes.set_xticks(values, [short(value) for value in values])
    axes.set_xticks([], minor=True)
    axes.set_xlabel(found.option.partition(".")[2].replace("_", " "), labelpad=6)
    most = 0.5
    for (_, points), colour in zip(found.lines, colours, strict=True):
        shown = [(value, case["wer"][corpus]) for value, case in points if corpus in case["wer"]]
        axes.plot([x for x, _ in shown], [100 * rate["value"] for _, rate in shown], color=colour, lw=1.8)
        for value, rate in shown:
            low, high = (rate["value"] if rate[end] is None else rate[end] for end in ("low", "high"))
            axes.plot([value, value], [100 * low, 100 * high], color=colour, lw=1.2, alpha=0.6)
            axes.plot([value], [100 * rate["value"]], "o", ms=6, mfc=colour, mec=SURFACE, mew=0.8)
            most = max(most, 100 * high)
    for level, style in zip(found.levels, _styles(len(found.levels)), strict=True):
        if corpus in level["wer"]:
            axes.axhline(100 * level["wer"][corpus]["value"], color=WARM, lw=1.3, ls=style)
            most = max(most, 100 * level["wer"][corpus]["value"])
    ticks = even_ticks(1.1 * most, 5)
    axes.set_ylim(0, 1.1 * most)
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    grid(axes, "both")


def _styles(count: int) -> list[Any]:
    return [(0, (5, 2)), (0, (1, 1.5)), "-."][:count] + ["-."] * max(count - 3, 0)


def _key(canvas: Canvas, found: Sweep, colours: list[str], top: float) -> None:
    entries = [(name, colour) for (name, _), colour in zip(found.lines, colours, strict=True)]
    entries += [(f"{level['title']} (dashed)", WARM) for level in found.levels]
    for index, (name, colour) in enumerate(entries):
        place = top + KEY_LINE_IN * index
        line(canvas, (0.05, 0.35), (place + 0.07, place + 0.07), colour)
        canvas.text(0.45, place, wrap(name, 44 if canvas.layout.narrow else 110, 1), color=MUTED if index else INK)


def describe(summary: dict[str, Any]) -> str:
    """The figure in words."""
    found = sweep(summary)
    if found is None:
        return ""
    parts = []
    for name, points in found.lines:
        for corpus in corpora(summary):
            said = [f"{percent(case['wer'][corpus]['value'])} % at {short(value)}" for value, case in points]
            parts.append(f"{name} on {corpus}: {listing(said, 9)}")
    return f"Word error rate against {found.option}. " + "; ".join(parts) + "."
