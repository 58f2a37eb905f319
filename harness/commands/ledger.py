"""`amira ledger`: what each change is worth on its own and together."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.output import Json, print_json


def ledger(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="A run of a plan with a [matrix]: a folder, a name, 'latest'.")
    ] = "latest",
    prices: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A TOML file: core_hour = 0.04 (and currency = 'EUR').")
    ] = None,
    json: Json = False,
) -> None:
    """Say what each change of a factorial run is worth: main effects, pairs of changes, stages, CPU time and money.

    A ratio above 1 is faster, below 1 is harmful; "no effect" is said where the whole interval lies within 2 %.
    """
    from harness.ledger import ledger as made
    from harness.ledger_text import markdown
    from harness.prices import load_prices
    from harness.store import find_run, open_run

    found = made(open_run(find_run(run)), load_prices(prices) if prices else None)
    if json:
        print_json(found)
    else:
        print(markdown(found))
