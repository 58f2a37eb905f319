"""README.md's tables from the stored result: `.venv/bin/python experiments/004-allocators/tables.py --show`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.documents import cell, comparison, filled_in

RESULT = Path(__file__).with_name("result.json")
README = Path(__file__).with_name("README.md")


def against_table(result: Mapping[str, Any]) -> str:
    """Each allocator beside glibc's."""
    lines = ["| Against glibc | Latency | Peak memory | Memory after the last utterance |", "|---|---|---|---|"]
    for case in result["cases"][1:]:
        cells = [
            cell(comparison(result, "glibc", case["id"], metric)) for metric in ("latency", "peak_memory", "end_memory")
        ]
        lines.append(f"| {case['title']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def memory_table(result: Mapping[str, Any]) -> str:
    """Resident memory over the run."""
    lines = [
        "| Resident MiB of a process | First utterance | Half-way | Last utterance | Live | Overhead |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for case in result["cases"]:
        memory = case["memory"]
        parts = ("first_mib", "half_mib", "end_mib", "live_mib", "overhead_mib")
        lines.append(f"| {case['title']} | {' | '.join(f'{memory[part]:.0f}' for part in parts)} |")
    return "\n".join(lines)


def all_tables(result: Mapping[str, Any]) -> dict[str, str]:
    """Every table by its name in README.md."""
    return {"against": against_table(result), "memory": memory_table(result)}


if __name__ == "__main__":
    README.write_text(filled_in(README.read_text("utf-8"), all_tables(json.loads(RESULT.read_text("utf-8")))), "utf-8")
