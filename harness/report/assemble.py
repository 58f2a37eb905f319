"""Which sections a page has: from the stored things that it is made of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from harness.history import runs_of
from harness.ledger import is_factorial
from harness.report.options import Options
from harness.report.sections import Section, compared, decoders, faults, history, ledger, load, others, profiles
from harness.store import Run
from harness.stored import Stored, StoredFaults, StoredLoad
from harness.summary import summarise

Summary = dict[str, Any]
LEAST_HISTORY = 3
"""Runs of one plan on a page that make a history without being asked for."""


def sections_of(
    first: Stored, summary: Summary, beside: Sequence[Stored], folder: Path, options: Options
) -> list[Section]:
    """The sections of a page, in order.

    Args:
        first: What the page is about.
        summary: Of `first` where it is a run of a plan, else empty.
        beside: What else stands on it.
        folder: Where the page will be.
        options: What was asked for.
    """
    found = list(_own(first, summary, options, ""))
    for place, other in enumerate(beside, start=1):
        prefix = f"{place}-"
        its_summary = summarise(other) if isinstance(other, Run) else {}
        if isinstance(other, Run):
            found.append(others.section(its_summary, prefix))
            if isinstance(first, Run):
                found.append(compared.section(first, other, options.gate, anyway=options.anyway, prefix=prefix))
        found += _own(other, its_summary, options, prefix)
    found.append(_history(first, beside, options))
    found += [profiles.section(each.path, folder, prefix) for each, prefix in _runs(first, beside)]
    return [section for section in found if section is not None]


def _own(stored: Stored, summary: Summary, options: Options, prefix: str) -> Iterator[Section | None]:
    if isinstance(stored, StoredLoad):
        yield load.section(stored.summary, prefix)
    elif isinstance(stored, StoredFaults):
        yield faults.section(stored.faults, stored.notes, prefix)
    else:
        if is_factorial(stored):
            yield ledger.section(stored, options.prices, prefix)
        yield decoders.section(stored, summary, prefix)


def _runs(first: Stored, beside: Sequence[Stored]) -> list[tuple[Run, str]]:
    return [
        (each, f"{place}-" if place else "") for place, each in enumerate((first, *beside)) if isinstance(each, Run)
    ]


def _history(first: Stored, beside: Sequence[Stored], options: Options) -> Section | None:
    """Over all stored runs of the plan where that is asked for, else over those of the page, where they are enough."""
    if not isinstance(first, Run):
        return None
    plan = first.manifest.plan_name
    if options.history:
        runs, notes = runs_of(plan)
        known = {run.manifest.run for run in runs}
        return history.section(runs if first.manifest.run in known else [*runs, first], notes)
    runs = [run for run, _ in _runs(first, beside) if run.manifest.plan_name == plan]
    return history.section(runs) if len(runs) >= LEAST_HISTORY else None
