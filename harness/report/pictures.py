"""Drawing all figures of a report, each wide and narrow."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.report.style import NARROW, WIDE, Layout, rc, to_png, to_svg
from harness.store import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Draw = Callable[[Layout], "Figure | None"]


@dataclass(frozen=True, slots=True)
class Picture:
    """A figure as files and as part of a page.

    Attributes:
        name: File name without its ending.
        alt: The figure in words.
        svg: Wide SVG document.
        png: The same as PNG.
        narrow_svg: The figure for a phone.
        size: Width and height of the wide figure, in CSS pixels.
        narrow_size: The same of the narrow one.
    """

    name: str
    alt: str
    svg: str
    png: bytes
    narrow_svg: str
    size: tuple[int, int]
    narrow_size: tuple[int, int]

    @property
    def wide_uri(self) -> str:
        """The wide SVG as a data URI."""
        return _data_uri(self.svg)

    @property
    def narrow_uri(self) -> str:
        """The narrow SVG as a data URI."""
        return _data_uri(self.narrow_svg)


def draw_all(run: Run, summary: dict[str, Any]) -> dict[str, Picture]:
    """The figures that the run has data for, by name."""
    from harness.report.figures import cost, front, ladder, memory, percentiles, stages, sweep

    latencies = _latencies_ms(run)
    drawn: list[tuple[str, Draw, Callable[[dict[str, Any]], str]]] = [
        ("ladder", lambda layout: ladder.draw(summary, layout), ladder.describe),
        ("percentiles", lambda layout: percentiles.draw(summary, latencies, layout), percentiles.describe),
        ("stages", lambda layout: stages.draw(summary, layout), stages.describe),
        ("front", lambda layout: front.draw(summary, layout), front.describe),
        ("sweep", lambda layout: sweep.draw(summary, layout), sweep.describe),
        ("cost", lambda layout: cost.draw(summary, layout), cost.describe),
        ("memory", lambda layout: memory.draw(summary, layout), memory.describe),
    ]
    pictures = {}
    for name, draw, describe in drawn:
        found = picture(name, draw, lambda describe=describe: describe(summary))  # type: ignore[misc]
        if found is not None:
            pictures[name] = found
    return pictures


def render(draw: Draw, layout: Layout) -> Figure | None:
    """Draw a figure in the house style."""
    import matplotlib as mpl

    with mpl.rc_context(rc(layout)):
        return draw(layout)


def save(figure: Figure, layout: Layout, kind: str) -> bytes:
    """The figure as `svg` or `png`. Text is set while saving, so the style holds then, too."""
    import matplotlib as mpl

    with mpl.rc_context(rc(layout)):
        return to_svg(figure).encode() if kind == "svg" else to_png(figure)


def picture(name: str, draw: Draw, describe: Callable[[], str]) -> Picture | None:
    """A figure, wide and narrow; `None` where there is nothing to draw."""
    wide, narrow = render(draw, WIDE), render(draw, NARROW)
    if wide is None or narrow is None:
        return None
    return Picture(
        name=name,
        alt=describe(),
        svg=save(wide, WIDE, "svg").decode(),
        png=save(wide, WIDE, "png"),
        narrow_svg=save(narrow, NARROW, "svg").decode(),
        size=_pixels(wide),
        narrow_size=_pixels(narrow),
    )


def _pixels(figure: Figure) -> tuple[int, int]:
    return round(figure.get_figwidth() * 96), round(figure.get_figheight() * 96)


def _data_uri(svg: str) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"


def _latencies_ms(run: Run) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for row in run.samples:
        if row.phase == "steady":
            found.setdefault(row.case, []).append(row.latency_ns / 1e6)
    return found
