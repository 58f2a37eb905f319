"""Tables in a document between markers, so that a command writes them and a test sees whether they are still true.

`<!-- name -->` before and `<!-- end name -->` behind a table; what stands between them belongs to the command.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def filled_in(text: str, tables: Mapping[str, str]) -> str:
    """The text with every table between its markers.

    Raises:
        ValueError: A marker is missing.
    """
    for name, table in tables.items():
        start, end = f"<!-- {name} -->", f"<!-- end {name} -->"
        before, found, rest = text.partition(start)
        _, closed, after = rest.partition(end)
        if not (found and closed):
            raise ValueError(f"the document lacks the markers {start} and {end}")
        text = f"{before}{start}\n{table}\n{end}{after}"
    return text


def comparison(report: Mapping[str, Any], baseline: str, candidate: str, metric: str) -> Mapping[str, Any]:
    """One comparison of an `amira report --json` document.

    Raises:
        ValueError: The report has none of these.
    """
    for found in report["comparisons"]:
        if (found["baseline"], found["candidate"], found["metric"]) == (baseline, candidate, metric):
            one: Mapping[str, Any] = found
            return one
    raise ValueError(f"the report compares no {metric} of '{candidate}' with '{baseline}'")


def cell(found: Mapping[str, Any]) -> str:
    """A ratio with its interval and verdict, for a table."""
    return f"{found['ratio']:.2f} [{found['low']:.2f}, {found['high']:.2f}], {found['verdict']}"
