"""`amira report`: what a run found."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.output import Json, print_json, say


def report(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's folder or name, or 'latest'.")] = "latest",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder to write to instead of the run's own.")
    ] = None,
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write only the ladder, as one picture (.svg or .png).")
    ] = None,
    json: Json = False,
) -> None:
    """Write a run's report (one HTML page, Markdown, figures), or with --json print its numbers.

    Everything is derived from the stored samples, so a report can be written again at any time.
    """
    from harness.store import find_run, open_run

    opened = open_run(find_run(run))
    if json:
        from harness.summary import summarise

        print_json(summarise(opened))
        return
    from harness.report import write_readme_picture, write_report

    if picture is not None:
        say(f"picture: {write_readme_picture(opened, picture)}")
        return
    paths = write_report(opened, output)
    say(f"report: {paths.html}")
