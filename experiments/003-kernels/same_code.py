"""Which kernels have today the very machine code that a stored result measured; prints it and stores it.

    .venv/bin/python experiments/003-kernels/same_code.py

A result of a CPU that is not at hand says what the kernels of its commit did. Here the sources of that commit and those
of the working tree are compiled for that CPU, on any other, and their machine code is compared line by line, without
the names and places that the linker gives and without the values of constants. Where nothing differs, the measured
times are those of today's kernels. Takes minutes; `measure.py --show` writes the table.
"""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import tarfile
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CODE = HERE / "code.json"
PACKAGES = ("kernels", "pipelines")
IMPLEMENTATIONS = ("scalar", "avx2", "avx512")
LABEL = re.compile(r"\.?L(BB|CPI|JTI|tmp)\d+_?\d*")


class Measured(NamedTuple):
    """A stored result: its commit, and what LLVM calls its CPU."""

    result: str
    commit: str
    cpu: str


MEASURED = (
    Measured("result.json", "5da592510443", "znver5"),
    Measured("result-intel.json", "22cc2ff", "emeraldrapids"),
)
"""The Intel CPU's tree was never committed as it was; its kernels for CPUs are those of this commit."""


def main() -> None:
    """Compare and store."""
    if sys.argv[1:2] == ["--digests"]:
        print(json.dumps(digests()))
        return
    found = {}
    for each in MEASURED:
        with TemporaryDirectory() as scratch:
            archive = subprocess.run(
                ["git", "archive", each.commit, *PACKAGES], cwd=ROOT, check=True, capture_output=True
            ).stdout
            with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
                tar.extractall(scratch, filter="data")
            before, now = compiled(Path(scratch), each.cpu), compiled(ROOT, each.cpu)
        same = {name: "same" if before[name] == now[name] else "changed" for name in now}
        found[each.result] = {"commit": each.commit, "cpu": each.cpu, "code": same}
        changed = [name for name, state in same.items() if state == "changed"]
        print(f"{each.result}: {len(same) - len(changed)} the same, changed: {', '.join(changed) or 'none'}")
    CODE.write_text(json.dumps(found, indent=1) + "\n", "utf-8")


def compiled(root: Path, cpu: str) -> dict[str, str]:
    """Digests of the kernels of a tree, compiled for a CPU in a process of its own."""
    with TemporaryDirectory() as cache:
        settings = {"NUMBA_CPU_NAME": cpu, "NUMBA_CACHE_DIR": cache, "PYTHONPATH": str(root)}
        command = [sys.executable, str(Path(__file__)), "--digests"]
        done = subprocess.run(command, cwd=root, env=os.environ | settings, check=True, stdout=subprocess.PIPE)
    digests: dict[str, str] = json.loads(done.stdout)
    return digests


def digests() -> dict[str, str]:
    """`implementation operation` to a digest of its machine code, of the kernels that this process imports."""
    from kernels import dispatch

    # Only compiled here, never run: nothing has to be there that the CPU lacks.
    dispatch.problem = lambda implementation: None  # type: ignore[assignment]
    found = {}
    for implementation in IMPLEMENTATIONS:
        loops = dispatch.load(implementation)  # type: ignore[arg-type]
        for operation in dispatch.OPERATIONS:
            code = machine_code(loops[operation].assembly())
            if len(code) < 10:
                raise RuntimeError(f"there is no machine code of {implementation} {operation}")
            found[f"{implementation} {operation}"] = sha256("\n".join(code).encode()).hexdigest()
    return found


def machine_code(assembly: str) -> list[str]:
    """Its instructions, without labels' numbers, names and directives."""
    lines = [line.strip() for line in assembly.splitlines()]
    lines = [line for line in lines if line and not line.startswith((".", "#", "_Z"))]
    return [LABEL.sub("L", re.sub(r"_Z[\w.$]+|\$\d{9,}", "NAME", line)) for line in lines]


def table(found: dict[str, dict[str, dict[str, str]]]) -> str:
    """Which kernels are the same, as Markdown."""
    lines = [
        "| kernel | " + " | ".join(f"`{name}`, for {each['cpu']}" for name, each in found.items()) + " |",
        "|---|" + "---|" * len(found),
    ]
    operations = list(dict.fromkeys(name.split()[1] for each in found.values() for name in each["code"]))
    for operation in operations:
        cells = []
        for each in found.values():
            changed = [name for name in IMPLEMENTATIONS if each["code"][f"{name} {operation}"] == "changed"]
            cells.append(f"changed: {', '.join(changed)}" if changed else "the same")
        lines.append(f"| {operation} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
