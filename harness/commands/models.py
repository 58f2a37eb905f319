"""`amira models`: build the default models, and list what is built."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from harness.output import Json, print_json, print_table, say

app = typer.Typer(no_args_is_help=True, help="Build the default models from their package, and list what is built.")


@app.command()
def build(
    force: Annotated[bool, typer.Option("--force", help="Build anew even if a whole build is there.")] = False,
    json: Json = False,
) -> None:
    """Make the default models from the files of their pinned package (hashes checked), about half a minute.

    Each folder appears only when it is whole; a second call finds it and does nothing.
    """
    from pipelines.models.catalogue import build_all
    from pipelines.paths import model_repo_dir, models_dir
    from pipelines.triton.repository import fill, served

    folders = build_all(models_dir(), model_repo_dir(), say, force=force)
    fill(model_repo_dir(), served(), models_dir(), say)
    if json:
        print_json([_entry(folder.name, folder) for folder in folders])


@app.command("list")
def list_models(
    check: Annotated[
        bool, typer.Option("--check", help="Read every file and compare its sha256 with the card.")
    ] = False,
    json: Json = False,
) -> None:
    """List the built models with their files, sizes and where they come from."""
    from pipelines.models import card
    from pipelines.paths import models_dir

    folders = sorted(path.parent for path in models_dir().glob("*/card.json"))
    entries = [_entry(folder.name, folder) for folder in folders]
    if check:
        for folder in folders:
            card.check_built(folder)
            say(f"{folder.name}: every file matches its card")
    if json:
        print_json(entries)
        return
    if not entries:
        say("no models are built. Build the default ones: amira models build")
    for entry in entries:
        rows = [(name, f"{file['bytes'] / 2**20:.1f}", file["what"]) for name, file in entry["files"].items()]
        print_table(f"{entry['name']}: {entry['summary']}", ("file", "MiB", "what it is"), rows)


def _entry(name: str, folder: Any) -> dict[str, Any]:
    from pipelines.models import card

    made = card.read(folder) or {}
    return {
        "name": name,
        **{key: made[key] for key in ("summary", "package", "version", "licence", "sources", "files")},
    }
