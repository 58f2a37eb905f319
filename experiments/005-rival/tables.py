"""README.md's table from the stored run: `.venv/bin/python experiments/005-rival/tables.py --show`.

`result.json` is `amira report reports/rival --json`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.documents import cell, comparison, filled_in

RESULT = Path(__file__).with_name("result.json")
README = Path(__file__).with_name("README.md")


def rival_table(result: Mapping[str, Any]) -> str:
    """Each pipeline beside the package's own engine."""
    lines = ["| pipeline | times as fast | peak memory, times less | WER, % |", "|---|---|---|---|"]
    for case in result["cases"]:
        wer = next(iter(case["wer"].values()))
        cells = ["", ""]
        if case["id"] != "peer":
            cells = [cell(comparison(result, "peer", case["id"], metric)) for metric in ("latency", "peak_memory")]
        lines.append(f"| {case['title']} | {cells[0]} | {cells[1]} | {100 * wer['value']:.2f} |")
    return "\n".join(lines)


def all_tables(result: Mapping[str, Any]) -> dict[str, str]:
    """Every table by its name in README.md."""
    return {"rival": rival_table(result)}


if __name__ == "__main__":
    README.write_text(filled_in(README.read_text("utf-8"), all_tables(json.loads(RESULT.read_text("utf-8")))), "utf-8")
