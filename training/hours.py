"""The learning curve: word error rates of several trainings against the hours of speech that each learned from."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from harness.documents import filled_in
from pipelines.errors import AmiraError

MARK = "hours"
"""The table's markers in a document, see `harness.documents`."""


@dataclass(frozen=True, slots=True)
class Trained:
    """Where a training ended.

    Attributes:
        name: Of its folder or log.
        hours: Hours of speech that it learned from.
        step: Steps until then.
        rates: Word error rate in per cent, by dev corpus.
    """

    name: str
    hours: float
    step: int
    rates: dict[str, float]


def read_training(path: Path) -> Trained:
    """The last evaluation in the log of a training.

    Args:
        path: Its folder, or its `log.jsonl`.

    Raises:
        AmiraError: There is no log, it is not one, or it holds no evaluation with hours.
    """
    log = path / "log.jsonl" if path.is_dir() else path
    try:
        entries = [json.loads(line) for line in log.read_text("utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise AmiraError(f"cannot read the training log {log}: {error}") from error
    measured = [entry for entry in entries if entry.get("wer")]
    if not measured:
        raise AmiraError(f"the training log {log} has no evaluation yet. Train on, or lower evaluate_every")
    last = measured[-1]
    if "hours" not in last:
        raise AmiraError(f"the training log {log} does not say on how many hours it learned: it is from before it did")
    rates = {name: float(value) for name, value in last["wer"].items() if not name.endswith(" empty")}
    name = path.name if path.is_dir() else path.parent.name
    return Trained(name, float(last["hours"]), int(last["step"]), rates)


def doubling(trainings: list[Trained], corpus: str) -> float | None:
    """By what factor twice the hours change the word error rate: a line through logarithms, by least squares.

    `None` with less than two different amounts, or where an error rate is 0.
    """
    points = [(each.hours, each.rates[corpus]) for each in trainings if corpus in each.rates]
    if len({hours for hours, _ in points}) < 2 or min(rate for _, rate in points) <= 0:
        return None
    hours, rates = np.log2(np.array(points)).T
    return float(2.0 ** np.polyfit(hours, rates, 1)[0])


def corpora(trainings: list[Trained]) -> list[str]:
    """The dev corpora that any of them was measured on, in alphabetical order."""
    return sorted({corpus for each in trainings for corpus in each.rates})


def table(trainings: list[Trained]) -> str:
    """The curve as Markdown, from the fewest hours; without it, a comparison of trainings on equal hours."""
    names = corpora(trainings)
    lines = [
        "Word error rate on dev speech, %.",
        "",
        f"| training | hours | steps | {' | '.join(names)} |",
        f"|---|---:|---:|{'---:|' * len(names)}",
    ]
    for each in sorted(trainings, key=lambda one: (one.hours, one.name)):
        cells = [f"{each.rates[name]:.1f}" if name in each.rates else "" for name in names]
        lines.append(f"| {each.name} | {each.hours:g} | {each.step:,} | {' | '.join(cells)} |")
    factors = [doubling(trainings, name) for name in names]
    if any(factors):
        cells = ["" if factor is None else f"{factor:.2f}" for factor in factors]
        lines.append(f"| twice the hours, times | | | {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(trainings: list[Trained], picture: Path) -> None:
    """Draw the curve into an SVG or PNG file: both axes logarithmic, the mean where an amount was trained twice."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(6.5, 4.2), layout="constrained")
    for name in corpora(trainings):
        found: dict[float, list[float]] = defaultdict(list)
        for each in trainings:
            if name in each.rates:
                found[each.hours].append(each.rates[name])
        hours = sorted(found)
        [line] = axis.plot(hours, [float(np.mean(found[hour])) for hour in hours], label=name)
        for hour in hours:
            axis.plot([hour] * len(found[hour]), found[hour], "o", color=line.get_color(), markersize=4)
    axis.set_xscale("log", base=2)
    axis.set_yscale("log")
    ticks = sorted({each.hours for each in trainings})
    axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.set_xlabel("hours of speech")
    axis.set_title("word error rate on dev, %", loc="left")
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_formatter("{x:g}")
    axis.grid(alpha=0.3, which="both")
    axis.legend(frameon=False)
    figure.savefig(picture, metadata={"Date": None} if picture.suffix == ".svg" else None)
    pyplot.close(figure)


def main(
    trainings: Annotated[list[Path], typer.Argument(help="Folders of trainings, or their log.jsonl.")],
    picture: Annotated[Path | None, typer.Option(help="SVG or PNG file to draw the curve into.")] = None,
    document: Annotated[Path | None, typer.Option(help="Document to write the table into, between its marks.")] = None,
    mark: Annotated[str, typer.Option(help="Name of those marks.")] = MARK,
) -> None:
    """Show word error rates against hours of speech, of trainings that differ in `hours`.

    Train them with:  python -m training CONFIG --hours 3 --folder build/training/NAME-3h --cache build/training/cache
    """
    found = [read_training(path) for path in trainings]
    print(table(found))
    if picture is not None:
        draw(found, picture)
    if document is not None:
        document.write_text(filled_in(document.read_text("utf-8"), {mark: table(found)}), "utf-8")


if __name__ == "__main__":
    typer.run(main)
