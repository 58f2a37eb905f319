"""What a trained model says of itself: the table of its word error rates on the dev speech, as Markdown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from pipelines.errors import AmiraError

BEGIN, END = "<!-- facts -->", "<!-- end facts -->"


def table(folder: Path) -> str:
    """The facts in `config.json` of a model's folder, as lines of Markdown.

    Raises:
        AmiraError: There is no such file, or it is not of a trained model.
    """
    try:
        about: dict[str, Any] = json.loads((folder / "config.json").read_text("utf-8"))
        facts = about["facts"]
        rates: dict[str, float] = facts["wer"]
    except (OSError, ValueError, KeyError) as error:
        raise AmiraError(f"{folder} is not the folder of a trained model: {error!r}") from error
    lines = [
        f"{facts['step']:,} steps of {facts['training']['batch_s']:g} s on {facts['hours']:g} h of speech.",
        "",
        "| dev corpus | WER, % | empty answers |",
        "|---|---|---|",
    ]
    names = [name for name in rates if not name.endswith(" empty")]
    lines += [f"| {name} | {rates[name]:.1f} | {rates[f'{name} empty']:g} |" for name in names]
    return "\n".join(lines)


def write_into(document: Path, folder: Path) -> None:
    """Put the table between the marks of a document.

    Raises:
        AmiraError: The document has no marks.
    """
    text = document.read_text("utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise AmiraError(f"{document} has no place for the facts: put '{BEGIN}' and '{END}' where they belong")
    document.write_text(f"{before}{BEGIN}\n{table(folder)}\n{END}{after}", "utf-8")


def main(
    folder: Annotated[Path, typer.Argument(help="Folder of a trained model, e.g. model-repo/moonshine-ctc.")],
    document: Annotated[Path | None, typer.Argument(help="Write into this document instead of printing.")] = None,
) -> None:
    """Show what a trained model was trained on and how well it does."""
    if document is None:
        print(table(folder))
    else:
        write_into(document, folder)


if __name__ == "__main__":
    typer.run(main)
