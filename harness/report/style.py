"""How figures look: one restrained style, one accent family, and an SVG that follows the reader's light or dark.

A figure is drawn once, in the light colours. Every role has one hex value that no other role has, so a style sheet
inside the SVG can turn each into its dark counterpart by attribute selector. Viewers that know no style sheets
show the light picture.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK = "#16212b"
MUTED = "#5a6873"
FAINT = "#dce3e8"
BAND = "#eaf0f3"
SURFACE = "#fffffe"
ACCENT = "#0b6478"
WARM = "#b3541e"
NEUTRAL = "#7d8b96"
ON_DARK = "#fdffff"
ON_LIGHT = "#0a2a33"

STAGE_FILLS = {
    "ingest": "#c98f2c",
    "features": "#e6c27a",
    "queue": "#b4c0c8",
    "connection": "#93a2ad",
    "draft": "#7f5539",
    "acoustic": "#0f5b6e",
    "decode": "#59aebf",
    "post": "#b5dde5",
    "engine": "#66788a",
    "other": "#e2e8ec",
}
"""Fill of each stage; a stage of a third party takes the next of `SPARE_FILLS`."""
SPARE_FILLS = ("#8c6bb0", "#c4b0db", "#5f7f4e", "#a9c29b")
STAGE_ON_DARK = ("acoustic", "engine")
"""Stages whose fill is dark enough to want light text."""

_RAMP_LIGHT, _RAMP_DARK, _RAMP_STEPS = ("#a3ccd6", "#084252"), ("#4b7d8b", "#a2ecf9"), 12


def _mix(ends: tuple[str, str], share: float) -> str:
    first, second = ([int(end[i : i + 2], 16) for i in (1, 3, 5)] for end in ends)
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in zip(first, second, strict=True))


def _steps(ends: tuple[str, str]) -> tuple[str, ...]:
    return tuple(_mix(ends, index / (_RAMP_STEPS - 1)) for index in range(_RAMP_STEPS))


RAMP = _steps(_RAMP_LIGHT)

DARK: dict[str, str] = {
    INK: "#e9f0f4",
    MUTED: "#a3b3bf",
    FAINT: "#2d3b46",
    BAND: "#1e2b35",
    SURFACE: "#121a21",
    ACCENT: "#62c4d8",
    WARM: "#f0a173",
    NEUTRAL: "#8a99a5",
    ON_DARK: "#fcffff",
    ON_LIGHT: "#08242c",
    "#0f5b6e": "#2a7f94",
    "#59aebf": "#74c7d7",
    "#b5dde5": "#b9e2ea",
    "#c98f2c": "#dba545",
    "#e6c27a": "#ecd093",
    "#b4c0c8": "#a9b6bf",
    "#93a2ad": "#8393a0",
    "#66788a": "#5d7184",
    "#e2e8ec": "#7e8d98",
    **dict(zip(RAMP, _steps(_RAMP_DARK), strict=True)),
}
"""Light colour to its counterpart on a dark page; what is missing is the same on both."""

FONT_STACK = "system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif"


@dataclass(frozen=True, slots=True)
class Layout:
    """The two widths that every figure is drawn for.

    Attributes:
        name: `wide` or `narrow`.
        width_in: Width of the figure; 96 px an inch in a browser.
        font_pt: Size of its text.
    """

    name: str
    width_in: float
    font_pt: float

    @property
    def narrow(self) -> bool:
        """Whether this is the figure for a phone."""
        return self.name == "narrow"


WIDE = Layout("wide", 10.0, 9.4)
NARROW = Layout("narrow", 3.7, 8.0)


def ramp(count: int) -> list[str]:
    """`count` colours of the accent family, pale to deep, the last one the deepest."""
    if count == 1:
        return [RAMP[-1]]
    return [RAMP[round(index * (_RAMP_STEPS - 1) / (count - 1))] for index in range(count)]


def stage_fills(stages: list[str]) -> dict[str, str]:
    """A fill for each stage."""
    strange = [stage for stage in stages if stage not in STAGE_FILLS]
    spare = {stage: SPARE_FILLS[index % len(SPARE_FILLS)] for index, stage in enumerate(strange)}
    return {stage: STAGE_FILLS.get(stage) or spare[stage] for stage in stages}


def rc(layout: Layout) -> dict[Any, Any]:
    """Matplotlib settings of a figure."""
    return {
        "font.family": "DejaVu Sans",
        "font.size": layout.font_pt,
        "text.color": INK,
        "text.parse_math": False,
        "axes.edgecolor": FAINT,
        "axes.facecolor": "none",
        "axes.labelcolor": MUTED,
        "axes.labelsize": layout.font_pt,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.linewidth": 1.0,
        "axes.axisbelow": True,
        "axes.unicode_minus": True,
        "grid.color": FAINT,
        "grid.linewidth": 0.8,
        "xtick.color": FAINT,
        "ytick.color": FAINT,
        "xtick.labelcolor": MUTED,
        "ytick.labelcolor": MUTED,
        "xtick.labelsize": layout.font_pt - 0.5,
        "ytick.labelsize": layout.font_pt - 0.5,
        "xtick.minor.visible": False,
        "ytick.minor.visible": False,
        "figure.facecolor": "none",
        "svg.fonttype": "none",
        "svg.hashsalt": "amira",
    }


def to_svg(figure: Figure) -> str:
    """The figure as an SVG document with real text that follows `prefers-color-scheme`."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    head, tail = svg.split(">", 1)
    return f"{head}>\n<style>{_sheet(svg)}</style>{tail}"


def to_png(figure: Figure) -> bytes:
    """The figure as a PNG on white, at two pixels a CSS pixel."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=192, facecolor="#ffffff", metadata={"Software": None})
    return buffer.getvalue()


def _sheet(svg: str) -> str:
    rules = [
        f'[style*="{key}: {light}"]{{{key}:{dark}!important}}'
        for light, dark in DARK.items()
        for key in ("fill", "stroke")
        if f"{key}: {light}" in svg
    ]
    font = f"text{{font-family:{FONT_STACK}!important;font-variant-numeric:tabular-nums}}"
    return f"{font}@media screen and (prefers-color-scheme:dark){{{''.join(rules)}}}"
