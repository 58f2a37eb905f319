"""Accuracy against speed: which cases no other case beats in both."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from harness.report.figures.canvas import Canvas, bare, even_ticks, grid, heading, log_axis, wrap
from harness.report.figures.labels import Box, place_labels
from harness.report.figures.rows import measured
from harness.report.numbers import listing, number, percent
from harness.report.style import ACCENT, INK, MUTED, NEUTRAL, SURFACE, Layout

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Case = dict[str, Any]
X_LABEL = "seconds of processing for a second of audio"
KEY_LINE_IN = 0.2
MOST_LABELS = 10
"""With more cases than this, only those that no other beats carry their name; the table has them all."""
ROOM_IN = 0.1
"""Points nearer to each other than this in both directions share one label."""


def corpora(summary: dict[str, Any]) -> list[str]:
    """The corpora that have a word error rate, in the run's order."""
    scored = {corpus for case in summary["cases"] for corpus in case["wer"]}
    return [corpus for corpus in summary["data"]["corpora"] if corpus in scored]


def efficient(cases: list[Case], corpus: str) -> list[Case]:
    """The cases that no other beats: none is as fast and more accurate, or faster and as accurate; fastest first.

    Word error rates are shares of the same words, so equal rates are equal to the last bit.
    """

    def beaten(case: Case) -> bool:
        return any(
            other["rtf"] <= case["rtf"]
            and other["wer"][corpus]["value"] <= case["wer"][corpus]["value"]
            and (other["rtf"], other["wer"][corpus]["value"]) != (case["rtf"], case["wer"][corpus]["value"])
            for other in cases
        )

    return sorted((case for case in cases if not beaten(case)), key=lambda case: float(case["rtf"]))


def draw(summary: dict[str, Any], layout: Layout, x_label: str = X_LABEL) -> Figure | None:
    """The figure, one panel for each corpus; `None` where no word error rate is known.

    Args:
        summary: The run's summary; `rtf` and `rtf_interval` of its cases are the horizontal axis.
        layout: For which width.
        x_label: What that axis shows.
    """
    names = corpora(summary)
    if not names:
        return None
    columns = 1 if layout.narrow or len(names) == 1 else 2
    lines = math.ceil(len(names) / columns)
    key = KEY_LINE_IN * len(measured(summary)) if layout.narrow else 0.0
    panel = 3.4 + key if layout.narrow else 3.9
    canvas = Canvas(layout, panel * lines)
    across = layout.width_in / columns
    for place, corpus in enumerate(names):
        left, top = across * (place % columns), panel * (place // columns)
        note = f"word error rate, %, over {summary['data']['corpora'][corpus]['references']} utterances"
        heading(canvas, left, top + 0.05, corpus, note)
        box = (left + 0.45, top + 0.6, across - 0.65, panel - key - 1.3)
        _panel(canvas, [case for case in measured(summary) if corpus in case["wer"]], corpus, box)
        canvas.figure.axes[-1].set_xlabel(x_label, labelpad=6)
    return canvas.figure


def _panel(canvas: Canvas, cases: list[Case], corpus: str, box: tuple[float, float, float, float]) -> None:
    axes = canvas.axes(*box)
    bare(axes)
    _scales(axes, cases, corpus)
    front = efficient(cases, corpus)
    axes.plot(
        [case["rtf"] for case in front],
        [100 * case["wer"][corpus]["value"] for case in front],
        color=ACCENT,
        lw=1.4,
        alpha=0.55,
        zorder=2,
    )
    best = {case["id"] for case in front}
    for case in cases:
        # Among many, the intervals of beaten cases would hide the front; the table has them.
        faded = len(cases) > MOST_LABELS and case["id"] not in best
        _point(axes, case, corpus, ACCENT if case["id"] in best else NEUTRAL, 0.15 if faded else 0.6)
    _labels(canvas, axes, cases, corpus, box)


def _scales(axes: Axes, cases: list[Case], corpus: str) -> None:
    low = min(case["rtf_interval"]["low"] for case in cases)
    high = max(case["rtf_interval"]["high"] for case in cases)
    room = max((high / low) ** 0.12, 1.15)
    log_axis(axes, "x", low / room, high * room, 5)
    top = max(100 * _ends(case, corpus)[1] for case in cases)
    most = max(top * 1.12, 0.5)
    ticks = even_ticks(most, 5)
    axes.set_ylim(0, most)
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    grid(axes, "both")


def _ends(case: Case, corpus: str) -> tuple[float, float]:
    """The interval of the word error rate; without width where there is none."""
    rate = case["wer"][corpus]
    if rate["low"] is None or rate["high"] is None:
        return rate["value"], rate["value"]
    return rate["low"], rate["high"]


def _point(axes: Axes, case: Case, corpus: str, colour: str, alpha: float) -> None:
    speed, ends = case["rtf_interval"], _ends(case, corpus)
    x, y = case["rtf"], 100 * case["wer"][corpus]["value"]
    axes.plot([speed["low"], speed["high"]], [y, y], color=colour, lw=1.2, zorder=3)
    axes.plot([x, x], [100 * ends[0], 100 * ends[1]], color=colour, lw=1.2, alpha=alpha, zorder=3)
    axes.plot([x], [y], "o", ms=7, mfc=colour, mec=SURFACE, mew=0.8, zorder=4, clip_on=False)


def _labels(canvas: Canvas, axes: Axes, cases: list[Case], corpus: str, box: tuple[float, float, float, float]) -> None:
    if canvas.layout.narrow:
        _key(canvas, cases, corpus, box)
    named = [(name, _inches(axes, box, case, corpus)) for name, case in _names(cases, corpus, canvas.layout)]
    groups = _groups(named)
    texts = [_group_text(names, len(cases), box[2], canvas.layout) for names, _ in groups]
    sizes = [_size(text, canvas.layout.font_pt) for text in texts]
    points = [point for _, point in groups]
    obstacles: list[Box] = [(x - 0.06, y - 0.06, x + 0.06, y + 0.06) for x, y in points]
    for case in cases:
        x, _ = _inches(axes, box, case, corpus)
        low, high = (_down(axes, box, 100 * end) for end in _ends(case, corpus))
        obstacles.append((x - 0.02, high, x + 0.02, low))
    frame = (box[0], box[1], box[0] + box[2], box[1] + box[3])
    places = place_labels(points, sizes, obstacles, frame)
    for (x, y), text, place, (_, height) in zip(points, texts, places, sizes, strict=True):
        if place.led:
            edge = place.middle - math.copysign(height / 2, place.middle - y)
            _lead(canvas, (x, y), (place.x, edge))
        canvas.text(place.x, place.middle, text, va="center", ha=place.align, color=INK, linespacing=1.15)


def _names(cases: list[Case], corpus: str, layout: Layout) -> list[tuple[str, Case]]:
    """The cases that carry a label, with what it says: a number on a phone, else the title."""
    if layout.narrow:
        return [(str(index + 1), case) for index, case in enumerate(cases)]
    shown = cases if len(cases) <= MOST_LABELS else efficient(cases, corpus)[:MOST_LABELS]
    return [(case["title"], case) for case in shown]


def _group_text(names: list[str], cases: int, width_in: float, layout: Layout) -> str:
    if layout.narrow:
        return ", ".join(names)
    width, lines = (34, 3) if width_in > 5 else (24, 2)
    return wrap(listing(names, 3), width, 1 if cases > MOST_LABELS else lines)


def _key(canvas: Canvas, cases: list[Case], corpus: str, box: tuple[float, float, float, float]) -> None:
    """On a phone the points carry numbers, and the names stand below with their word error rate."""
    top = box[1] + box[3] + 0.62
    right = box[0] + box[2] + 0.15
    for index, case in enumerate(cases):
        place = top + KEY_LINE_IN * index
        canvas.text(0.02, place, str(index + 1), color=MUTED)
        canvas.text(0.26, place, wrap(case["title"], 38, 1))
        canvas.text(right, place, f"{percent(case['wer'][corpus]['value'])} %", ha="right", color=MUTED)


def _groups(named: list[tuple[str, tuple[float, float]]]) -> list[tuple[list[str], tuple[float, float]]]:
    """Points that lie on top of each other share a label."""
    groups: list[tuple[list[str], tuple[float, float]]] = []
    for title, (x, y) in named:
        for names, (gx, gy) in groups:
            if abs(x - gx) < ROOM_IN and abs(y - gy) < ROOM_IN:
                names.append(title)
                break
        else:
            groups.append(([title], (x, y)))
    return groups


def _inches(axes: Axes, box: tuple[float, float, float, float], case: Case, corpus: str) -> tuple[float, float]:
    low, high = axes.get_xlim()
    share = math.log(case["rtf"] / low) / math.log(high / low)
    return box[0] + box[2] * share, _down(axes, box, 100 * case["wer"][corpus]["value"])


def _down(axes: Axes, box: tuple[float, float, float, float], value: float) -> float:
    low, high = axes.get_ylim()
    return box[1] + box[3] * (1 - (value - low) / (high - low))


def _size(text: str, font_pt: float) -> tuple[float, float]:
    """Width and height of a label in inches; 0.58 em is DejaVu's mean advance, wider than most system fonts."""
    lines = text.split("\n")
    return max(len(line) for line in lines) * 0.58 * font_pt / 72, len(lines) * 1.25 * font_pt / 72


def _lead(canvas: Canvas, start: tuple[float, float], end: tuple[float, float]) -> None:
    from matplotlib.lines import Line2D

    wide, high = canvas.layout.width_in, canvas.height_in
    xs, ys = (start[0] / wide, end[0] / wide), (1 - start[1] / high, 1 - end[1] / high)
    canvas.figure.add_artist(Line2D(xs, ys, color=MUTED, lw=0.7, zorder=1))


def describe(summary: dict[str, Any]) -> str:
    """The figure in words."""
    parts = []
    for corpus in corpora(summary):
        cases = [case for case in measured(summary) if corpus in case["wer"]]
        best = [
            f"{case['title']} ({percent(case['wer'][corpus]['value'])} %, {number(case['rtf'])} s a second)"
            for case in efficient(cases, corpus)
        ]
        parts.append(f"on {corpus} no other case beats {listing(best)} in both")
    return "Word error rate against processing time: " + "; ".join(parts) + "."
