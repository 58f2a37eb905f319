"""The fault table from what the fault tests measured: `python -m tests.faults.triton_table FOLDER`.

Copies the measurements into FOLDER and writes `report.md` beside them; run the fault tests first.
"""

from __future__ import annotations

import json
import platform
import shutil
import sys
from pathlib import Path
from typing import Any

from pipelines.paths import runs_dir

SOURCE = runs_dir() / "triton-faults.jsonl"
HEAD = """\
# Faults of a real Triton

Each row is a fault that `tests/faults/test_triton_faults.py` inflicted on real processes or through a TCP proxy, while
four threads called without a pause, each call with a deadline of {deadline} ms. Made by `python -m
tests.faults.triton_table` from [faults.jsonl](faults.jsonl), which the tests wrote. The same tests assert that
connections, file descriptors, threads and shared memory are back to what they were.

- **Outcomes**: what the callers got from the fault on until everything was well again.
- **Errors after**: how long callers waited for an error, in ms: median, p99, slowest. `CircuitOpenError` comes at once.
- **Recovered**: from the fault to the first answer after the last error, in ms. Network faults last {network} ms.
- **Breaker**: how often it opened, and closed again.

| fault | outcomes | errors after | recovered | breaker |
|---|---|---|---|---|
"""


def main() -> None:
    folder = Path(sys.argv[1])
    rows = [json.loads(line) for line in SOURCE.read_text("utf-8").splitlines()]
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy2(SOURCE, folder / "faults.jsonl")
    text = HEAD.format(deadline=round(rows[0]["deadline_ms"]), network=1200) + "".join(map(line, rows))
    text += f"\nOn {platform.system()} {platform.machine()}, Python {platform.python_version()}, two cores.\n"
    (folder / "report.md").write_text(text, "utf-8")


def line(row: dict[str, Any]) -> str:
    outcomes = ", ".join(
        f"{count} {name}" for name, count in sorted(row["outcomes"].items(), key=lambda item: -item[1])
    )
    times = (row["error_p50_ms"], row["error_p99_ms"], row["error_max_ms"])
    after = "no errors" if times[0] is None else " / ".join(f"{value:g}" for value in times)
    recovered = "" if row["recovered_ms"] is None else f"{row['recovered_ms']}"
    return (
        f"| {row['fault']} | {outcomes} | {after} | {recovered} | {row['breaker_opened']}, {row['breaker_closed']} |\n"
    )


if __name__ == "__main__":
    main()
