"""`amira report`: what a run found, and what stands beside it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.commands.gate import settings
from harness.output import Json, print_json, say

if TYPE_CHECKING:
    from harness.stored import Stored


def report(
    runs: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RUN]...", help="Runs: a folder, a name, or 'latest'. The page is about the first."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder to write to. By default the run's own, or reports/pages/."),
    ] = None,
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write only the ladder, as one picture (.svg or .png).")
    ] = None,
    history: Annotated[
        bool, typer.Option("--history", help="Show how the plan's cases developed over all its stored runs.")
    ] = False,
    prices: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A TOML file: core_hour = 0.04 (and currency = 'EUR').")
    ] = None,
    anyway: Annotated[bool, typer.Option("--anyway", help="Compare runs of different machines, too.")] = False,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The margins of comparisons. By default ci/gate.toml.")
    ] = None,
    json: Json = False,
) -> None:
    """Write a report (one HTML page, Markdown, figures), or with --json print its numbers.

    Everything is derived from the stored samples, so a report can be written again at any time. A run of a factorial
    plan has its ledger on the page, one with several decoders what they buy, one with profiles links to them. Further
    runs stand beside the first: runs of plans with their cases, compared where they have cases in common; load runs;
    records of faults. Three runs of one plan make a history. With several runs, --json prints one document for each,
    in a list.

    Examples:  amira report latest    amira report latest --history    amira report BEFORE AFTER
    amira report default ledger decoders server-load triton-faults
    """
    from harness.prices import load_prices
    from harness.report import Options, write_readme_picture, write_report
    from harness.store import find_run, open_run
    from harness.stored import StoredFaults, open_stored
    from pipelines.errors import AmiraError
    from pipelines.paths import home

    names = runs or ["latest"]
    if picture is not None:
        if len(names) > 1:
            raise AmiraError(f"--picture draws the ladder of one run, not of {len(names)}. Name one.")
        say(f"picture: {write_readme_picture(open_run(find_run(names[0])), picture)}")
        return
    opened = [open_stored(name) for name in names]
    if json:
        documents = [_document(each) for each in opened]
        print_json(documents[0] if len(documents) == 1 else documents)
        return
    options = Options(history, load_prices(prices) if prices else None, settings(config), anyway)
    if output is None and (len(opened) > 1 or isinstance(opened[0], StoredFaults)):
        output = home() / "reports" / "pages" / "+".join(each.path.name for each in opened)[:100]
    paths = write_report(opened[0], output, opened[1:], options)
    say(f"report: {paths.html}")


def _document(stored: Stored) -> dict[str, Any]:
    from dataclasses import asdict

    from harness.store import Run
    from harness.stored import StoredLoad
    from harness.summary import summarise

    if isinstance(stored, Run):
        return summarise(stored)
    if isinstance(stored, StoredLoad):
        return stored.summary
    return {"faults": [asdict(fault) for fault in stored.faults], "notes": list(stored.notes)}
