"""Ratios with their intervals, a row each, in one or two panels beside each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.report.figures.canvas import Canvas, bare, grid, heading, log_axis, row_grid, wrap
from harness.report.numbers import ratio_interval, times
from harness.report.style import ACCENT, BAND, INK, MUTED, NEUTRAL, RAMP, SURFACE, WARM, Layout
from harness.stats import NO_EFFECT_MARGIN

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GOOD, BAD = ("faster", "less", "better"), ("slower", "more", "worse", "harmful")
ROW_IN = {"wide": 0.5, "narrow": 0.62}
Box = tuple[float, float, float, float]
"""Left, top, width and height in inches."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A row of a panel: a ratio with its interval, or a word in its place; `missing` where nothing was measured."""

    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    verdict: str = ""
    word: str = ""
    missing: bool = False

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Mark:
        """From anything with these keys."""
        return cls(row["ratio"], row["low"], row["high"], row["verdict"])

    def colour(self) -> str:
        """By its verdict."""
        return ACCENT if self.verdict in GOOD else WARM if self.verdict in BAD else NEUTRAL


@dataclass(frozen=True, slots=True)
class Panel:
    """A column of marks; with `bars` each has a bar from 1."""

    title: str
    marks: Sequence[Mark]
    bars: bool = False


def draw(titles: Sequence[str], panels: Sequence[Panel], note: str, layout: Layout) -> Figure | None:
    """The figure; `None` where no row has a ratio.

    Args:
        titles: Of the rows, from the top down.
        panels: One or two, with a mark for each row.
        note: Stands below each panel's title.
        layout: For which width.
    """
    if not any(mark.ratio is not None for panel in panels for mark in panel.marks):
        return None
    return (_narrow if layout.narrow else _wide)(titles, panels, note, layout)


def _wide(titles: Sequence[str], panels: Sequence[Panel], note: str, layout: Layout) -> Figure:
    row = ROW_IN["wide"]
    body = row * len(titles)
    canvas = Canvas(layout, body + 1.0)
    for index, title in enumerate(titles):
        ink = MUTED if panels[0].marks[index].missing else INK
        canvas.text(0.0, 0.6 + row * (index + 0.5), wrap(title, 30), va="center", color=ink, linespacing=1.25)
    pair = ((2.45, 2.35), (6.85, 1.5)) if panels[-1].bars else ((2.45, 1.95), (6.4, 1.95))
    places = pair if len(panels) > 1 else ((2.45, 5.5),)
    for panel, (left, width) in zip(panels, places, strict=True):
        heading(canvas, left, 0.08, panel.title, note)
        _panel(canvas, (left, 0.6, width, body), panel, left + width + 0.12)
    return canvas.figure


def _narrow(titles: Sequence[str], panels: Sequence[Panel], note: str, layout: Layout) -> Figure:
    row = ROW_IN["narrow"]
    body = row * len(titles)
    height = body + 1.05
    canvas = Canvas(layout, len(panels) * height)
    for place, panel in enumerate(panels):
        top = place * height
        heading(canvas, 0.0, top + 0.05, panel.title, note)
        for index, title in enumerate(titles):
            ink = MUTED if panel.marks[index].missing else INK
            canvas.text(0.0, top + 0.58 + row * index, wrap(title, 44, 1), color=ink)
        _panel(canvas, (0.05, top + 0.52, 2.05, body), panel, 2.25)
    return canvas.figure


def _panel(canvas: Canvas, box: Box, panel: Panel, values_left: float) -> None:
    axes = canvas.axes(*box)
    bare(axes)
    narrow, count = canvas.layout.narrow, len(panel.marks)
    # A narrow row has its title above its mark, so the mark sits below the middle.
    shift = 0.22 if narrow else 0.0
    axes.set_ylim(count - 0.5, -0.5)
    log_axis(axes, "x", *_range(panel.marks), 5 if panel.bars or narrow else 6, "×")
    if narrow:
        row_grid(axes, [index + shift for index in range(count)], 0.2)
    else:
        grid(axes, "x")
        axes.axvspan(1 - NO_EFFECT_MARGIN, 1 + NO_EFFECT_MARGIN, color=BAND, lw=0, zorder=0.6)
    for index, mark in enumerate(panel.marks):
        reach = (index + shift - 0.2, index + shift + 0.2) if narrow else (index - 0.5, index + 0.5)
        axes.vlines(1, *reach, color=MUTED, lw=1, zorder=0.8)
        _mark(axes, index + shift, mark, bars=panel.bars)
        _value(canvas, values_left, box[1] + box[3] * (index + 0.5 + shift) / count, mark)


def _mark(axes: Axes, row: float, mark: Mark, *, bars: bool) -> None:
    if mark.ratio is None:
        return
    if bars:
        # Pale, so that the whole interval is seen on it.
        axes.barh(row, mark.ratio - 1, left=1, height=0.24, color=RAMP[0], lw=0, zorder=2)
    if mark.low is not None and mark.high is not None:
        ends = [mark.low, mark.high]
        axes.plot(ends, [row, row], color=mark.colour(), lw=2.2, solid_capstyle="round", zorder=3)
    axes.plot([mark.ratio], [row], "o", ms=7, mfc=mark.colour(), mec=SURFACE, mew=1.0, zorder=4)


def _value(canvas: Canvas, left: float, top: float, mark: Mark) -> None:
    size = canvas.layout.font_pt
    value = "" if mark.ratio is None else times(mark.ratio)
    small = mark.word if mark.ratio is None else ratio_interval(mark.low, mark.high)
    canvas.text(left, top, value, va="center", fontsize=size + 1, fontweight="bold")
    indent = 0.66 if value else 0.0
    canvas.text(left + indent, top, small, va="center", fontsize=size - 0.5, color=MUTED)


def _range(marks: Sequence[Mark]) -> tuple[float, float]:
    ends = [end for mark in marks for end in (mark.ratio, mark.low, mark.high) if end is not None]
    low, high = min([1.0, *ends]), max([1.0, *ends])
    margin = max((high / low) ** 0.06, 1.03)
    return low / margin, high * margin
