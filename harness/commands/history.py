"""`amira history`: a plan's cases over its runs."""

from __future__ import annotations

from typing import Annotated

import typer

from harness.output import Json, print_json, print_table, say


def history(
    plan: Annotated[str, typer.Argument(metavar="PLAN", help="Name of a plan, as its runs have it.")],
    json: Json = False,
) -> None:
    """Show how a plan's cases developed over the stored runs of one machine, and where a level changed.

    The machine is that of the latest run. A change is found by ranks and stands a permutation test at 1 %; it
    is hardly ever seen before four runs have the new level: to stop a regression there is `amira gate`. Runs that
    cannot be read are named and left out. With pictures, on a page: amira report RUN --history.
    """
    from harness.history import history as made
    from harness.history import runs_of

    runs, notes = runs_of(plan)
    for note in notes:
        say(note)
    found = made(runs) | {"notes": notes}
    if json:
        print_json(found)
        return
    if found["left_out"]:
        say(f"{found['left_out']} runs of other machines are left out")
    rows = []
    for case in found["cases"]:
        changed = {change["run"]: change for change in case["changes"]}
        for point in case["points"]:
            change = changed.get(point["run"])
            note = f"level changed: {change['before_ms']:.1f} to {change['after_ms']:.1f} ms" if change else ""
            rows.append((case["case"], point["run"], point["commit"], f"{point['latency_ms']:.1f}", note))
    print_table("", ("case", "run", "commit", "latency, ms", ""), rows)
