"""Errors that a user can act on: each names the value, the cause, the alternatives and the remedy."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path


class AmiraError(Exception):
    """Something the user must mend. The command line prints it as one message and exits with `exit_code`."""

    exit_code = 2


class NothingMeasuredError(AmiraError):
    """A benchmark ended without one usable sample; `run` is its folder, where it has one."""

    exit_code = 4

    def __init__(self, message: str, run: Path | None = None) -> None:
        super().__init__(message)
        self.run = run


def unknown(kind: str, value: str, have: Iterable[str], remedy: str) -> AmiraError:
    """An error for a name that is not in a closed list, with the nearest names and how to see the list.

    Args:
        kind: What the name should have been, e.g. `decoder variant`.
        value: The name as the user wrote it.
        have: The names that exist.
        remedy: How to see or widen the list, e.g. `List them with: amira variants`.
    """
    names = sorted(have)
    near = get_close_matches(value, names, n=1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    return AmiraError(f"{kind} '{value}' does not exist; have: {', '.join(names) or 'none'}.{hint} {remedy}")
