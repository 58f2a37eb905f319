"""The roofline of the kernels: how near each comes to a memcpy of as many bytes, in every level of the memory.

The kernels do little arithmetic, so that their roof is the memory's own speed: a memcpy in the same run.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

LEVELS = ("L1", "L2", "L3", "DRAM")
MARKS = {"numpy": ("o", "#8a8f98"), "scalar": ("s", "#c08a3e"), "avx2": ("^", "#3b7dd8"), "avx512": ("D", "#123c7c")}


def rates(result: Mapping[str, Any]) -> dict[tuple[str, str, str], float]:
    """GB/s by operation, level and who, of the bytes that must be moved at least."""
    found = {}
    for name, values in result["sweep_ns"].items():
        case, who, _ = name.split("|")
        operation, level = case.split(" ")
        found[operation, level, who] = result["sweep_bytes"][case] / float(np.median(values))
    return found


def draw(result: Mapping[str, Any], path: Path) -> None:
    """Write the picture: a panel for each level, a row for each operation, the roof as a line."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    found = rates(result)
    operations = list(dict.fromkeys(operation for operation, _, _ in found))
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    FigureCanvasSVG(figure)
    panels = figure.subplots(1, len(LEVELS), sharey=True)
    for axes, level in zip(panels, LEVELS, strict=True):
        for row, operation in enumerate(operations):
            roof = found[operation, level, "memcpy"]
            axes.plot(
                [roof, roof], [row - 0.4, row + 0.4], color="#c0392b", linewidth=2, label="memcpy" if not row else ""
            )
            for who, (mark, colour) in MARKS.items():
                if (operation, level, who) in found:
                    rate = found[operation, level, who]
                    axes.plot(rate, row, mark, color=colour, markersize=5, label=who if not row else "")
        axes.set_xscale("log")
        axes.set_title(level)
        axes.set_xlabel("GB/s")
        axes.grid(axis="x", alpha=0.3)
    panels[0].set_yticks(range(len(operations)), operations)
    panels[0].invert_yaxis()
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False)
    figure.savefig(path, format="svg", metadata={"Date": None})
