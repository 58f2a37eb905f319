"""A built model's card: `card.json` for machines, `MODEL_CARD.md` for people."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pipelines.errors import AmiraError
from pipelines.models.source import sha256

CARD = "card.json"
_TEXT = """\
# {name}

{summary}

- Source: Python package `{package}` {version}, files {sources}.
- Licence: {licence}
- Made by: `amira models build`, with {tools}.
- Language: English. Audio: 16 kHz mono, up to 64 s at a time; Moonshine's authors trained on clips under 30 s.

## Files

| file | what it is | MiB | sha256 |
|---|---|---|---|
{files}

## How it was made

{recipe}
{training}
## Good at, bad at

{limits}
"""


def write(folder: Path, card: dict[str, Any]) -> None:
    """Write both forms of the card; the sizes and hashes of `card["files"]` are read from the folder."""
    for name, entry in card["files"].items():
        entry.update(sha256=sha256(folder / name), bytes=(folder / name).stat().st_size)
    rows = (
        f"| {name} | {entry['what']} | {entry['bytes'] / 2**20:.1f} | `{entry['sha256']}` |"
        for name, entry in card["files"].items()
    )
    text = _TEXT.format(
        name=card["name"],
        summary=card["summary"],
        package=card["package"],
        version=card["version"],
        licence=card["licence"],
        sources=", ".join(f"`{name}` (sha256 `{digest[:16]}...`)" for name, digest in card["sources"].items()),
        tools=", ".join(f"{tool} {version}" for tool, version in card["tools"].items()),
        files="\n".join(rows),
        training=f"\n## Training\n\n{card['training']}\n" if "training" in card else "",
        recipe="\n".join(f"{number}. {line}" for number, line in enumerate(card["recipe"], 1)),
        limits="\n".join(f"- {line}" for line in card["limits"]),
    )
    (folder / "MODEL_CARD.md").write_text(text, "utf-8")
    (folder / CARD).write_text(json.dumps(card, indent=2) + "\n", "utf-8")


def read(folder: Path) -> dict[str, Any] | None:
    """The card of a built model, or `None` where there is none.

    Raises:
        AmiraError: The card is not JSON.
    """
    path = folder / CARD
    if not path.is_file():
        return None
    try:
        card: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise AmiraError(
            f"{path} is not a model card: {error}. Build the model again: amira models build --force"
        ) from error
    return card


def check(folder: Path, card: dict[str, Any]) -> None:
    """Compare every file of a built model with its card.

    Raises:
        AmiraError: A file is missing or has another hash.
    """
    for name, entry in card["files"].items():
        path = folder / name
        found = sha256(path) if path.is_file() else "no such file"
        if found != entry["sha256"]:
            raise AmiraError(
                f"model file {path} does not match its card: expected sha256 {entry['sha256'][:16]}..., found "
                f"{found[:16]}. Build it again: amira models build --force"
            )


def check_built(folder: Path) -> None:
    """Read every file of a built model and compare it with its card (about a second a GB).

    Raises:
        AmiraError: The model is not built, or a file is not the one that was built.
    """
    made = read(folder)
    if made is None:
        raise AmiraError(f"model '{folder.name}' is not built: {folder} has no {CARD}. Build it: amira models build")
    check(folder, made)
