"""`amira performance`: the tables of PERFORMANCE.md, made anew from the stored runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from harness.output import say


def performance(
    document: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="A Markdown file with blocks. By default PERFORMANCE.md.")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Change nothing; exit with 1 where a table is stale.")] = False,
) -> None:
    """Write the tables of PERFORMANCE.md from stored runs.

    They stand between markers: <!-- amira ladder reports/default --> ... <!-- /amira -->.
    Kinds of blocks: ladder, beside, comparisons, accuracy, decoders, ledger (of a run each), load, faults, calibration
    (of the gate), excerpt (FILE#MARKER or FILE#NUMBER: a table of a document that another command makes).
    """
    from harness.report.performance import DOCUMENT, filled_in
    from pipelines.errors import AmiraError
    from pipelines.paths import home

    path = document or home() / DOCUMENT
    new = filled_in(path)
    if new == path.read_text(encoding="utf-8"):
        say(f"{path.name} is up to date")
        return
    if check:
        say(f"{path.name} is stale: its tables are not those of its runs. Write them: amira performance")
        sys.exit(1)
    try:
        path.write_text(new, encoding="utf-8")
    except OSError as error:
        raise AmiraError(f"cannot write '{path}': {error.strerror}.") from error
    say(f"{path.name}: tables written")
