"""Pictures of a training: losses and word error rates over steps, from its log."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Annotated

import typer

from pipelines.errors import AmiraError

Series = dict[str, tuple[list[int], list[float]]]


def read_log(path: Path) -> tuple[Series, Series]:
    """Losses and word error rates (per cent) by name, each as steps and values.

    A step that was trained twice, since the training went on from a checkpoint before it, counts as it was last.

    Raises:
        AmiraError: The log is not there or not one.
    """
    try:
        entries = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise AmiraError(f"cannot read the training log {path}: {error}") from error
    losses: dict[str, dict[int, float]] = defaultdict(dict)
    rates: dict[str, dict[int, float]] = defaultdict(dict)
    for entry in entries:
        for name, value in entry.get("wer", {}).items():
            if not name.endswith(" empty"):
                rates[name][entry["step"]] = value
        for name in ("ctc", "inter", "hidden", "teacher"):
            if name in entry:
                losses[name][entry["step"]] = entry[name]
    return _series(losses), _series(rates)


def draw(log: Path, picture: Path) -> None:
    """Draw the curves of a log into an SVG or PNG file."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    losses, rates = read_log(log)
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4), layout="constrained")
    for axis, series, title in ((left, losses, "loss"), (right, rates, "word error rate on dev, %")):
        for name, (steps, values) in series.items():
            axis.plot(steps, values, label=name, marker="o" if axis is right else None, markersize=3)
        axis.set_xlabel("step")
        axis.set_title(title, loc="left")
        axis.grid(alpha=0.3)
        axis.set_ylim(bottom=0)
        if series:
            axis.legend(frameon=False)
    figure.savefig(picture, metadata={"Date": None} if picture.suffix == ".svg" else None)
    pyplot.close(figure)


def _series(points: dict[str, dict[int, float]]) -> Series:
    return {name: (sorted(values), [values[step] for step in sorted(values)]) for name, values in points.items()}


def main(
    log: Annotated[Path, typer.Argument(help="log.jsonl of a training.")],
    picture: Annotated[Path, typer.Argument(help="SVG or PNG file to write.")],
) -> None:
    """Draw losses and word error rates of a training."""
    draw(log, picture)


if __name__ == "__main__":
    typer.run(main)
