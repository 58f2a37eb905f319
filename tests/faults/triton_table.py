"""The fault table from what the fault tests measured: `python -m tests.faults.triton_table FOLDER`.

Copies the measurements into FOLDER and writes `report.md` beside them; run the fault tests first.
"""

from __future__ import annotations

import platform
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from harness.faults import FILE, HEADINGS, MEANINGS, Fault, read_faults
from pipelines.paths import runs_dir

SOURCE = runs_dir() / "triton-faults.jsonl"
HEAD = """\
# Faults of a real Triton

Each row is a fault that `tests/faults/test_triton_faults.py` inflicted on real processes or through a TCP proxy, while
four threads called without a pause, each call with a deadline of {deadline} ms. Made by `python -m
tests.faults.triton_table` from [faults.jsonl](faults.jsonl), which the tests wrote. The same tests assert that
connections, file descriptors, threads and shared memory are back to what they were. Network faults last {network} ms.

{meanings}

| {headings} |
|---|---|---|---|---|
"""


BARS = """
What was asked for, and the worst of the rows above that it is asked of, in ms:

| bar | at most | worst | verdict |
|---|---|---|---|
"""
RECOVERY_MS, LATE_MS = 3_000, 50
KILLED = "server killed"


def bars(faults: Sequence[Fault]) -> list[tuple[str, float, float]]:
    """What is asked for, the bar, and the worst."""
    recovered = [fault.recovered_ms for fault in faults if fault.fault.startswith(KILLED)]
    late = [fault.error_p99_ms - fault.deadline_ms for fault in faults if fault.error_p99_ms is not None]
    return [
        ("from SIGKILL of the server to the first answer after its return", RECOVERY_MS, max(filter(None, recovered))),
        ("p99 of an error's time, beyond the deadline", LATE_MS, max(late)),
    ]


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy2(SOURCE, folder / FILE)
    (folder / "report.md").write_text(document(folder), "utf-8")


def document(folder: Path) -> str:
    """The document of the faults that a folder holds."""
    faults, _ = read_faults(folder)
    head = HEAD.format(
        deadline=round(faults[0].deadline_ms),
        network=1200,
        meanings="\n".join(f"- {meaning}" for meaning in MEANINGS),
        headings=" | ".join(HEADINGS),
    )
    rows = "".join(f"| {' | '.join(fault.cells())} |\n" for fault in faults)
    held = "".join(
        f"| {what} | {bar:g} | {worst:g} | {'met' if worst <= bar else 'missed'} |\n"
        for what, bar, worst in bars(faults)
    )
    where = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}, two cores"
    return f"{head}{rows}{BARS}{held}\nOn {where}.\n"


if __name__ == "__main__":
    main()
