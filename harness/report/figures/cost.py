"""What a case costs: CPU time for each second of audio, and peak memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.report.figures.canvas import Canvas, bare, heading, wrap
from harness.report.figures.rows import measured
from harness.report.numbers import number
from harness.report.style import ACCENT, FAINT, INK, RAMP, Layout

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Box = tuple[float, float, float, float]


def draw(summary: dict[str, Any], layout: Layout) -> Figure | None:
    """The figure; `None` where nothing was measured."""
    cases = measured(summary)
    if not cases:
        return None
    row = 0.54 if layout.narrow else 0.36
    body = row * len(cases)
    if layout.narrow:
        canvas = Canvas(layout, 2 * (body + 0.85))
        boxes: list[Box] = [(0.02, 0.6, 2.9, body), (0.02, body + 1.45, 2.9, body)]
    else:
        canvas = Canvas(layout, body + 0.75)
        boxes = [(2.35, 0.65, 2.9, body), (6.1, 0.65, 3.0, body)]
        for index, case in enumerate(cases):
            canvas.text(0.0, 0.65 + row * (index + 0.5), wrap(case["title"], 34, 1), va="center")
    _bars(canvas, boxes[0], cases, "cpu_s_per_audio_s", "CPU time", "seconds for a second of audio")
    _bars(canvas, boxes[1], cases, "peak_rss_mib", "Peak memory", "MiB; the pale part was there before the pipeline")
    return canvas.figure


def _bars(canvas: Canvas, box: Box, cases: list[dict[str, Any]], key: str, title: str, note: str) -> None:
    left, top, width, body = box
    narrow = canvas.layout.narrow
    heading(canvas, left, top - 0.57, title, note)
    axes = canvas.axes(*box)
    bare(axes)
    axes.set_xticks([])
    axes.set_ylim(len(cases) - 0.5, -0.5)
    most = max((case[key] or 0.0 for case in cases), default=0.0) or 1.0
    axes.set_xlim(0, most)
    axes.axvline(0, color=FAINT, lw=1)
    shift = 0.2 if narrow else 0.0
    for index, case in enumerate(cases):
        value = case[key] or 0.0
        height = 0.3 if narrow else 0.52
        axes.barh(index + shift, value, height=height, color=ACCENT, lw=0, zorder=2)
        before = case["baseline_rss_mib"] if key == "peak_rss_mib" else None
        if before:
            axes.barh(index + shift, min(before, value), height=height, color=RAMP[0], lw=0, zorder=3)
        place = top + body * (index + 0.5 + shift) / len(cases)
        label_left = left + width * value / most + 0.08
        canvas.text(label_left, place, number(case[key]), va="center", color=INK, fontweight="bold")
        if narrow:
            canvas.text(left, top + body * index / len(cases) + 0.05, wrap(case["title"], 44, 1))


def describe(summary: dict[str, Any]) -> str:
    """The figure in words."""
    parts = [
        f"{case['title']}: {number(case['cpu_s_per_audio_s'])} CPU seconds, {number(case['peak_rss_mib'])} MiB"
        for case in measured(summary)
    ]
    return "Bars of CPU time for a second of audio, and of peak memory. " + "; ".join(parts) + "."
