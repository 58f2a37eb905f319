"""`amira load`: real speech at a server, as many streams as it takes."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from harness.output import Json, print_json, print_table, say
from pipelines.errors import AmiraError


def load(
    url: Annotated[str, typer.Argument(help="The server, e.g. ws://localhost:8080.")] = "ws://localhost:8080",
    streams: Annotated[str, typer.Option(help="Streams at once; a list makes a step each, e.g. 1,4,16.")] = "1",
    seconds: Annotated[float, typer.Option(min=1, help="Audio of each stream in a step.")] = 30.0,
    corpus: Annotated[str, typer.Option(help="What is spoken; see: amira corpus list.")] = "starter",
    ramp: Annotated[float, typer.Option(min=0, help="Seconds over which streams start; 0: all at once.")] = 0.0,
    churn: Annotated[float, typer.Option(min=0, help="A new session after so many seconds; 0: never.")] = 0.0,
    vanishing: Annotated[float, typer.Option(min=0, max=1, help="Share of sessions that break off.")] = 0.0,
    slow: Annotated[float, typer.Option(min=0, max=1, help="Share of streams that stop reading.")] = 0.0,
    chunk_ms: Annotated[int, typer.Option(min=10, max=2_000, help="Audio of one message.")] = 100,
    processes: Annotated[int, typer.Option(min=1, max=64, help="Client processes.")] = 1,
    partials: Annotated[bool, typer.Option(help="Whether partials are asked for.")] = True,
    anywhere: Annotated[
        bool, typer.Option("--anywhere", help="Streams begin within words and pauses, not all with a clip.")
    ] = False,
    token: Annotated[str | None, typer.Option(envvar="AMIRA_TOKEN", help="Bearer token.")] = None,
    seed: Annotated[int, typer.Option(help="Of who reads what, and who misbehaves.")] = 0,
    show: Annotated[str | None, typer.Option(metavar="RUN", help="Show a stored run again (or 'latest').")] = None,
    markdown: Annotated[bool, typer.Option(help="Print the table as Markdown, for documents.")] = False,
    json: Json = False,
) -> None:
    """Stream real speech to a server in real time, and say how late its words came.

    Audio is sent when it is due, whatever the server does (open loop); latencies run from when it was due. Raw samples
    are stored, and the table is derived from them.

    Examples:  amira load --streams 1,4,16    amira load ws://host:8080 --streams 200 --churn 10 --seconds 1800
    amira load --show latest
    """
    from harness.corpus import load_corpus
    from harness.load.run import find_load, run_load
    from harness.load.spec import LoadSpec
    from harness.load.summary import summarise
    from harness.load.text import HEADINGS, row

    if show is not None:
        folder = find_load(show)
    else:
        common: dict[str, Any] = {
            "seconds": seconds, "ramp_s": ramp, "session_s": churn, "vanishing": vanishing, "slow": slow,
            "chunk_ms": chunk_ms, "processes": processes, "partials": partials,
            "anywhere": anywhere, "seed": seed,
        }  # fmt: skip
        steps = [LoadSpec(streams=count, **common) for count in _counts(streams)]
        folder = run_load(url, steps, load_corpus(corpus), say, token)
        say(f"stored: {folder}")
    summary = summarise(folder)
    for note in summary["notes"]:
        say(note)
    if json:
        print_json(summary)
    elif markdown:
        lines = [HEADINGS, ("---",) * len(HEADINGS), *map(row, summary["steps"])]
        print("\n".join(f"| {' | '.join(line)} |" for line in lines))
    else:
        print_table(f"Load run {summary['run']} on {summary['corpus']}", HEADINGS, map(row, summary["steps"]))


def _counts(text: str) -> list[int]:
    try:
        counts = [int(part) for part in text.split(",")]
    except ValueError as error:
        raise AmiraError(f"--streams '{text}' is not a list of numbers, e.g. 1,4,16") from error
    if min(counts) < 1:
        raise AmiraError(f"--streams '{text}' has a step without a stream; give at least 1")
    return counts
