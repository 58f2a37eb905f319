"""Laying out a figure in inches, and the marks that all figures share."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from harness.report.numbers import number
from harness.report.style import FAINT, INK, MUTED, Layout

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class Canvas:
    """A figure whose axes are placed in inches from its top left corner."""

    def __init__(self, layout: Layout, height_in: float) -> None:
        from matplotlib.figure import Figure

        self.layout = layout
        self.height_in = height_in
        self.figure: Figure = Figure(figsize=(layout.width_in, height_in))

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        """Axes whose plotting area is this box, in inches."""
        wide, high = self.layout.width_in, self.height_in
        return self.figure.add_axes((left / wide, 1 - (top + height) / high, width / wide, height / high))

    def text(self, left: float, top: float, content: str, **style: Any) -> None:
        """Text at a place in inches; its baseline is below `top` unless `va` says otherwise."""
        style = {"va": "top", "color": INK} | style
        self.figure.text(left / self.layout.width_in, 1 - top / self.height_in, content, **style)


def wrap(title: str, width: int, lines: int = 2) -> str:
    """A title in at most `lines` lines of `width` characters, cut with an ellipsis where that is too little."""
    return "\n".join(textwrap.wrap(title, width, max_lines=lines, placeholder=" …")) or title[:width]


def bare(axes: Axes) -> None:
    """Leave only the plotting area: no frame, no ticks on the side of the rows."""
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(length=0)
    axes.set_yticks([])


def ratio_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers between `low` and `high` for a logarithmic axis, always with 1 where it is inside."""
    for steps in ((1, 1.5, 2, 3, 4, 5, 7), (1, 2, 5), (1, 3), (1,)):
        decades = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
        ticks = [round(step * 10.0**decade, 10) for decade in decades for step in steps]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if len(ticks) <= most:
            break
    if len(ticks) >= 2:
        return ticks
    return close_ticks(low, high)


def close_ticks(low: float, high: float) -> list[float]:
    """Evenly spaced round ticks where a logarithmic axis spans less than one step."""
    from matplotlib.ticker import MaxNLocator

    return [float(tick) for tick in MaxNLocator(4).tick_values(low, high) if low <= tick <= high and tick > 0]


def even_ticks(most: float, count: int) -> list[float]:
    """Evenly spaced round ticks from 0 up to `most`."""
    from matplotlib.ticker import MaxNLocator

    ticks = MaxNLocator(count, steps=[1, 2, 2.5, 5, 10]).tick_values(0, most)
    return [float(tick) for tick in ticks if 0 <= tick <= most]


def log_axis(axes: Axes, which: str, low: float, high: float, most: int = 6, suffix: str = "") -> None:
    """Make an axis logarithmic from `low` to `high`, with plain round numbers on it."""
    ticks = ratio_ticks(low, high, most)
    labels = [f"{short(tick)}{suffix}" for tick in ticks]
    if which == "x":
        axes.set_xscale("log")
        axes.set_xlim(low, high)
        axes.set_xticks(ticks, labels)
        axes.set_xticks([], minor=True)
    else:
        axes.set_yscale("log")
        axes.set_ylim(low, high)
        axes.set_yticks(ticks, labels)
        axes.set_yticks([], minor=True)


def short(value: float) -> str:
    """A tick's number without trailing zeros: `0.5`, `20`, `1,000`."""
    text = number(value)
    return text.rstrip("0").rstrip(".") if "." in text else text


def grid(axes: Axes, which: str) -> None:
    """Faint lines at the ticks of one axis."""
    axes.grid(True, axis=which, color=FAINT, linewidth=0.8)  # type: ignore[arg-type]


def row_grid(axes: Axes, rows: Sequence[float], half: float) -> None:
    """Vertical lines at the ticks, only beside the marks: where titles stand between the rows, none crosses them."""
    low, high = axes.get_xlim()
    ticks = [tick for tick in axes.get_xticks() if low <= tick <= high]
    for row in rows:
        axes.vlines(ticks, row - half, row + half, color=FAINT, lw=0.8, zorder=0.5)


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Move labels apart along one axis so that neighbours keep `gap`, each as near to its wanted place as may be.

    Labels that collide form a block around the mean of what they wanted (pool adjacent violators).

    Args:
        wanted: Wanted positions, in any order.
        gap: Least distance between two labels.
        low: Least position.
        high: Largest position.

    Returns:
        The positions, in the order of `wanted`.
    """
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    blocks: list[tuple[float, int]] = []  # (position of the first, labels)
    for index in order:
        blocks.append((wanted[index], 1))
        while len(blocks) > 1 and blocks[-2][0] + blocks[-2][1] * gap > blocks[-1][0]:
            (first, size), (second, more) = blocks[-2], blocks[-1]
            total = size + more
            merged = (first * size + (second - size * gap) * more) / total
            blocks[-2:] = [(merged, total)]
    placed = [first + offset * gap for first, size in blocks for offset in range(size)]
    placed = _inside(placed, gap, low, high)
    positions = [0.0] * len(wanted)
    for index, position in zip(order, placed, strict=True):
        positions[index] = position
    return positions


def _inside(placed: list[float], gap: float, low: float, high: float) -> list[float]:
    for index in range(len(placed)):
        floor = low + index * gap
        placed[index] = max(placed[index], floor)
    for offset, index in enumerate(reversed(range(len(placed)))):
        placed[index] = min(placed[index], high - offset * gap)
    return placed


def heading(canvas: Canvas, left: float, top: float, content: str, note: str = "") -> None:
    """The small heading of a panel, with a muted note under it."""
    size = canvas.layout.font_pt
    canvas.text(left, top, content, fontsize=size + 0.5, fontweight="bold")
    if note:
        canvas.text(left, top + 0.2, note, fontsize=size - 0.5, color=MUTED)
