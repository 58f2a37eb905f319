"""What an allocator is worth: runs `plan.toml` and writes result.json and README.md's tables.

.venv/bin/python experiments/004-allocators/measure.py           # measure, about nine minutes on one core
.venv/bin/python experiments/004-allocators/measure.py --show    # write the tables of the stored result
.venv/bin/python experiments/004-allocators/measure.py --quick   # one lap of each allocator, stores nothing
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.documents import cell, comparison, filled_in

RESULT = Path(__file__).with_name("result.json")
README = Path(__file__).with_name("README.md")
PLAN = Path(__file__).with_name("plan.toml")


def main() -> None:
    """Measure or show."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--show", action="store_true", help="show the stored result instead of measuring")
    parser.add_argument("--quick", action="store_true", help="one lap of each allocator, printed and not stored")
    options = parser.parse_args()
    result = json.loads(RESULT.read_text("utf-8")) if options.show else measured(quick=options.quick)
    tables = all_tables(result)
    for table in tables.values():
        print(f"{table}\n")
    if not options.quick:
        RESULT.write_text(json.dumps(result, indent=2) + "\n", "utf-8")
        README.write_text(filled_in(README.read_text("utf-8"), tables), "utf-8")


def measured(*, quick: bool) -> dict[str, Any]:
    """The summary of a new run of the plan; a quick one goes once through the corpus."""
    source = PLAN.read_text("utf-8")
    if quick:
        source = re.sub(r"(?m)^(laps|repeats) = .*$", r"\1 = 1", source)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / PLAN.name
        file.write_text(source, "utf-8")
        command = [str(Path(sys.executable).with_name("amira")), "bench", str(file), "--json"]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def against_table(result: Mapping[str, Any]) -> str:
    """Each allocator beside glibc's."""
    lines = ["| Against glibc | Latency | Peak memory | Memory after the last utterance |", "|---|---|---|---|"]
    for case in result["cases"][1:]:
        if case["status"] != "ok":
            lines.append(f"| {case['title']} | {case['reason']} | | |")
            continue
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
        if case["status"] != "ok":
            continue
        memory = case["memory"]
        parts = ("first_mib", "half_mib", "end_mib", "live_mib", "overhead_mib")
        lines.append(f"| {case['title']} | {' | '.join(f'{memory[part]:.0f}' for part in parts)} |")
    return "\n".join(lines)


def all_tables(result: Mapping[str, Any]) -> dict[str, str]:
    """Every table by its name in README.md."""
    data = result["data"]
    run = f"Run `{result['run']}`: {data['utterances']} utterances, {data['audio_s']:.0f} s of speech a lap."
    return {"run": run, "against": against_table(result), "memory": memory_table(result)}


if __name__ == "__main__":
    main()
