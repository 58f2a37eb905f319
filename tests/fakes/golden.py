"""The golden conversations of `protocol/golden`, read and compared."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[2] / "protocol" / "golden"
KINDS = {"string": str, "integer": int}


@dataclass(frozen=True)
class Conversation:
    name: str
    steps: tuple[tuple[str, Any], ...]


def conversations() -> list[Conversation]:
    found = []
    for path in sorted(FOLDER.glob("*.json")):
        steps = json.loads(path.read_text("utf-8"))["steps"]
        found.append(Conversation(path.stem, tuple(next(iter(step.items())) for step in steps)))
    return found


def assert_same(got: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert set(got) == set(wanted)
    for key, value in wanted.items():
        if isinstance(value, dict) and "any" in value:
            assert isinstance(got[key], KINDS[value["any"]]), (key, got[key])
        else:
            assert got[key] == value, (key, got)


def filled(message: dict[str, Any]) -> dict[str, Any]:
    """A server's message with values for what the conversation leaves open."""
    large = {"string": "any", "integer": 1_000_000}
    return {
        key: large[value["any"]] if isinstance(value, dict) and "any" in value else value
        for key, value in message.items()
    }
