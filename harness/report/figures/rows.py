"""The order in which cases are shown, everywhere: the ladder from its top rung down, then the other cases."""

from __future__ import annotations

from typing import Any

Case = dict[str, Any]


def in_order(cases: list[Case]) -> list[Case]:
    """The cases as they are shown: rungs from the top down, then the rest in the plan's order."""
    rungs = [case for case in cases if case["rung"]]
    return [*reversed(rungs), *(case for case in cases if not case["rung"])]


def measured(summary: dict[str, Any]) -> list[Case]:
    """The cases that have numbers, as they are shown."""
    return in_order([case for case in summary["cases"] if case["status"] == "ok"])
