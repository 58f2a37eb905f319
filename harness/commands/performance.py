"""`amira performance`: the tables of PERFORMANCE.md and of the experiments, made anew from the stored runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from harness.output import say


def performance(
    document: Annotated[
        Path | None,
        typer.Argument(metavar="FILE", help="A Markdown file with blocks. By default PERFORMANCE.md and experiments/."),
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Change nothing; exit with 1 where a table is stale.")] = False,
) -> None:
    """Write the tables of PERFORMANCE.md and of what experiments found, from stored runs.

    They stand between markers: <!-- amira ladder reports/default --> ... <!-- /amira -->.
    Kinds of blocks: ladder, beside, comparisons, accuracy, differences, decoders, ledger (of a run each), load, faults,
    calibration (of the gate), excerpt (FILE#MARKER or FILE#NUMBER: a table of a document that another command makes).
    """
    from harness.report.performance import documents, filled_in
    from pipelines.errors import AmiraError
    from pipelines.paths import home

    stale = []
    for path in [document] if document else documents(home()):
        new = filled_in(path)
        if new == path.read_text(encoding="utf-8"):
            say(f"{path} is up to date")
            continue
        stale.append(path)
        if check:
            say(f"{path} is stale: its tables are not those of its runs. Write them: amira performance")
            continue
        try:
            path.write_text(new, encoding="utf-8")
        except OSError as error:
            raise AmiraError(f"cannot write '{path}': {error.strerror}.") from error
        say(f"{path}: tables written")
    if check and stale:
        sys.exit(1)
