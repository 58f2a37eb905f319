"""`amira compare`: two or more stored runs beside each other."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from harness.commands.gate import settings
from harness.output import Json, print_json


def compare(
    runs: Annotated[
        list[str], typer.Argument(metavar="A B...", help="Runs: a folder, a name or 'latest'. All against the first.")
    ],
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Compare runs of different machines, too, and list the differences.")
    ] = False,
    config: Annotated[
        Path | None, typer.Option("--config", metavar="FILE", help="The margins. By default ci/gate.toml.")
    ] = None,
    json: Json = False,
) -> None:
    """Compare stored runs case by case: times, memory and word errors, with intervals.

    Runs that were made at different times share nothing but the machine, so this says less than one run with both
    cases, or than `amira gate --against COMMIT`. On a page with pictures: amira report A B. With --json, one document
    for each run after the first, in a list.

    Exit codes: 0 no regression was shown, 1 a regression, 2 the runs cannot be compared, 4 no case is in both.
    """
    from harness.gate.formats import markdown
    from harness.gate.run import stored
    from pipelines.errors import AmiraError

    if len(runs) < 2:
        raise AmiraError(f"there is one run, '{runs[0]}': name another to compare it with.")
    guarded = settings(config)
    results = [stored(guarded, runs[0], other, anyway=anyway) for other in runs[1:]]
    if json:
        print_json([result.to_json() for result in results])
    else:
        print("\n".join(markdown(result) for result in results))
    codes = {result.exit_code for result in results}
    sys.exit(1 if 1 in codes else 4 if codes == {4} else 0)
