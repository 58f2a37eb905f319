"""`amira variants`: what there is to choose from, and what can run here."""

from __future__ import annotations

from typing import Annotated

import typer

from harness.output import Json, print_json, print_table


def variants(
    axis: Annotated[str | None, typer.Option(help="Only this axis, e.g. acoustic.")] = None, json: Json = False
) -> None:
    """List every registered variant, whether it can run on this machine, and if not, why and what would help."""
    from pipelines import registry
    from pipelines.errors import unknown

    if axis is not None and axis not in registry.axes():
        raise unknown("axis", axis, registry.axes(), "List all variants with: amira variants")
    entries = []
    for variant_id in registry.ids(axis):
        variant = registry.get(variant_id)
        problem = variant.available()
        entries.append(
            {
                "id": variant_id,
                "axis": variant_id.partition("/")[0],
                "summary": variant.summary,
                "available": problem is None,
                "reason": problem.reason if problem else None,
                "remedy": problem.remedy if problem else None,
            }
        )
    if json:
        print_json(entries)
        return
    rows = [
        (entry["id"], "yes" if entry["available"] else "no", entry["summary"] if entry["available"] else
         f"{entry['reason']} {entry['remedy']}")
        for entry in entries
    ]
    print_table("", ("variant", "here", "what it is, or why it cannot run"), rows)
