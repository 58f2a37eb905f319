"""`amira corpus`: assemble the starter corpus, and look at any corpus."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from harness.output import Json, print_json, print_table, say

app = typer.Typer(no_args_is_help=True, help="Assemble the starter corpus, and look at any corpus.")


@app.command()
def build(json: Json = False) -> None:
    """Assemble the starter corpus: a few minutes of real speech out of packages. A second call does nothing."""
    from harness.corpus import build_starter, describe

    summaries = describe(build_starter(say))
    if json:
        print_json([summary.to_json() for summary in summaries])


@app.command("list")
def list_corpora(json: Json = False) -> None:
    """List the corpora that are known by name here. A folder of audio or a manifest is named by its path."""
    from harness.corpus import corpus_names, describe, load_corpus
    from pipelines.errors import AmiraError

    entries: list[dict[str, Any]] = []
    for name in corpus_names():
        try:
            parts = [part.to_json() for part in describe(load_corpus(name))]
            entries.append({"name": name, "available": True, "reason": None, "parts": parts})
        except AmiraError as error:
            entries.append({"name": name, "available": False, "reason": str(error), "parts": []})
    if json:
        print_json(entries)
        return
    rows = [
        (
            entry["name"],
            part["name"],
            part["clips"],
            f"{part['hours'] * 60:.1f}",
            part["speakers"],
            "; ".join(part["licences"]),
        )
        for entry in entries
        for part in entry["parts"]
    ]
    print_table("", ("name", "corpus", "clips", "minutes", "speakers", "licence"), rows)
    for entry in entries:
        if not entry["available"]:
            say(f"{entry['name']}: {entry['reason']}")


@app.command()
def show(
    name: Annotated[str, typer.Argument(metavar="CORPUS", help="A name, a folder of audio, or a manifest.")],
    clips: Annotated[int, typer.Option(min=1, help="How many clips to list.")] = 50,
    json: Json = False,
) -> None:
    """Show a corpus: its hours, speakers and licences, and its clips with their transcripts."""
    from dataclasses import asdict

    from harness.corpus import describe, load_corpus

    corpus = load_corpus(name)
    parts = [part.to_json() for part in describe(corpus)]
    if json:
        listed = [{**asdict(clip), "audio": str(clip.audio)} for clip in corpus.clips]
        print_json({"name": corpus.name, "description": corpus.description, "parts": parts, "clips": listed})
        return
    say(corpus.description)
    rows = [(clip.id, f"{clip.duration_s:.1f}", clip.speaker or "", clip.text or "") for clip in corpus.clips[:clips]]
    print_table("", ("clip", "seconds", "speaker", "transcript"), rows)
    if len(corpus.clips) > clips:
        say(f"... and {len(corpus.clips) - clips} more; see them with --clips {len(corpus.clips)}")
