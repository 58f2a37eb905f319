"""What compiling the kernels costs: in fresh processes, first with an empty cache, then with a full one.

`python -m kernels.compile_time` prints it; nothing of it is part of a request, since opening a pipeline pays for it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass

from kernels.dispatch import Implementation, load, problem

_MARK = "amira-compile-time:"


@dataclass(frozen=True, slots=True)
class CompileTime:
    """One kernel: what making it ready took, in nanoseconds, when it was compiled and when it came from the cache.

    The first kernel of a process also pays for starting LLVM.
    """

    operation: str
    cold_ns: int
    cached_ns: int


def measure(implementation: Implementation) -> list[CompileTime]:
    """Compile time of every operation, cold and cached, each in a process of its own.

    Raises:
        RuntimeError: The second process did not find in the cache what the first one left there.
    """
    with tempfile.TemporaryDirectory() as cache:
        cold = _in_a_fresh_process(implementation, cache)
        cached = _in_a_fresh_process(implementation, cache)
    missed = [name for name, (_, hit) in cached.items() if not hit]
    if missed:
        raise RuntimeError(f"not cached after a first process compiled them: {', '.join(missed)}")
    return [CompileTime(name, cold[name][0], cached[name][0]) for name in cold]


def _in_a_fresh_process(implementation: Implementation, cache: str) -> dict[str, tuple[int, bool]]:
    command = [sys.executable, "-m", "kernels.compile_time", "--load", implementation]
    finished = subprocess.run(
        command, env={**os.environ, "NUMBA_CACHE_DIR": cache}, capture_output=True, text=True, check=True
    )
    [line] = [line for line in finished.stdout.splitlines() if line.startswith(_MARK)]
    found: dict[str, tuple[int, bool]] = {name: (ns, hit) for name, ns, hit in json.loads(line.removeprefix(_MARK))}
    return found


def main(arguments: list[str]) -> None:
    """Print the times of every compiled implementation that can run here."""
    if arguments[:1] == ["--load"]:
        loops = load(arguments[1])  # type: ignore[arg-type]
        print(_MARK + json.dumps([(name, loop.compile_ns, loop.cached) for name, loop in loops.items()]))
        return
    implementations: tuple[Implementation, ...] = ("scalar", "avx2", "avx512")
    for implementation in implementations:
        if problem(implementation) is None:
            for time in measure(implementation):
                cold, cached = time.cold_ns / 1e6, time.cached_ns / 1e6
                print(f"{implementation:8}{time.operation:14}{cold:9.0f} ms cold{cached:9.1f} ms cached")


if __name__ == "__main__":
    main(sys.argv[1:])
