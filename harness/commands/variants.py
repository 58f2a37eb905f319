"""`amira variants`: what there is to choose from, and what can run here."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from harness.output import Json, print_json, print_table
from pipelines.errors import AmiraError, unknown


def variants(
    axis: Annotated[str | None, typer.Option(help="Only this axis, e.g. acoustic.")] = None, json: Json = False
) -> None:
    """List every registered variant, whether it can run on this machine, and if not, why and what would help."""
    from pipelines import registry

    if axis is not None and axis not in registry.axes():
        raise unknown("axis", axis, registry.axes(), "List all variants with: amira variants")
    entries = [_entry(variant_id) for variant_id in registry.ids(axis)]
    if json:
        print_json(entries)
        return
    rows = [(entry["id"], "yes" if entry["available"] else "no", _description(entry)) for entry in entries]
    print_table("", ("variant", "here", "what it is, or why it cannot run"), rows)


def _entry(variant_id: str) -> dict[str, Any]:
    """The row of one variant; one that does not even load is a row, too."""
    from pipelines import registry
    from pipelines.registry import Unavailable

    summary = ""
    try:
        variant = registry.get(variant_id)
        summary, problem = variant.summary, variant.available()
    except AmiraError as error:
        problem = Unavailable(str(error), "Mend or remove the package that registers it.")
    return {
        "id": variant_id,
        "axis": variant_id.partition("/")[0],
        "summary": summary,
        "available": problem is None,
        "reason": problem.reason if problem else None,
        "remedy": problem.remedy if problem else None,
    }


def _description(entry: dict[str, Any]) -> str:
    return str(entry["summary"]) if entry["available"] else f"{entry['reason']} {entry['remedy']}"
