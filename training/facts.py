"""What a trained model says of itself: the table of its word error rates on the dev speech, as Markdown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from harness.documents import filled_in
from pipelines.errors import AmiraError

MARK = "facts"
"""The table's markers in a document, see `harness.documents`."""


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


def measure(folder: Path, cache: Path) -> None:
    """Measure the word error rates of exported weights here, and write them into their `config.json`.

    Raises:
        AmiraError: There are no weights, they write pieces of words or are a head alone, or the dev speech is not here.
    """
    from training.data import load_speech
    from training.evaluate import DEV_EACH, error_rates, spread, transcribe
    from training.exported import exported_units, load_exported

    network, about = load_exported(folder)
    training = about["facts"]["training"]
    speech = load_speech(training["dev"], cache)
    chosen = spread(speech.utterances, DEV_EACH)
    chunk = about["chunk_frames"] if about["streaming"] else None
    about["facts"]["wer"] = error_rates(transcribe(network, exported_units(folder), speech, chosen, chunk), chosen)
    (folder / "config.json").write_text(json.dumps(about, indent=2) + "\n", "utf-8")


def main(
    folder: Annotated[Path, typer.Argument(help="Folder of a trained model, e.g. model-repo/moonshine-ctc.")],
    document: Annotated[Path | None, typer.Argument(help="Write into this document instead of printing.")] = None,
    mark: Annotated[str, typer.Option(help="Name of the marks in the document.")] = MARK,
    cache: Annotated[
        Path | None,
        typer.Option(help="Measure it first, on dev speech decoded into this folder (it was trained elsewhere)."),
    ] = None,
) -> None:
    """Show what a trained model was trained on and how well it does."""
    if cache is not None:
        measure(folder, cache)
    if document is None:
        print(table(folder))
    else:
        document.write_text(filled_in(document.read_text("utf-8"), {mark: table(folder)}), "utf-8")


if __name__ == "__main__":
    typer.run(main)
