"""Times kernels on request: one request a line on stdin, one answer a line on stdout. Started as a file.

The first line is the list of kernels to come: they are loaded, and the answer is empty. Any other answer has the CPU
time of one call from Python in nanoseconds, the fastest of several timings: a loop over arrays waits for nothing, and a
neighbour that takes the processor away takes no CPU time. Nothing of ours but `kernels` is imported: in another
checkout's process, those are that checkout's.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from collections.abc import Callable
from time import process_time_ns
from typing import Any

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
TIMING_NS = 2_000_000
"""How long one timing lasts at least."""
TIMINGS = 5

Call = tuple[Callable[..., int], tuple[Any, ...]]


def main() -> None:
    """Answer requests until stdin ends."""
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
    gc.disable()
    calls: dict[tuple[str, ...], Call | str] = {}
    for kernel in json.loads(sys.stdin.readline()):
        try:
            calls[tuple(kernel)] = _call(*kernel)
        except Exception as error:  # noqa: BLE001 - an older commit may lack anything; the parent says so
            calls[tuple(kernel)] = f"{type(error).__name__}: {error}"
    # Only now: both sides load at the same time, and are then timed in turns, on the same core.
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    print("{}", flush=True)
    for line in sys.stdin:
        call = calls[tuple(json.loads(line))]
        print(json.dumps({"error": call} if isinstance(call, str) else _time(*call)), flush=True)


def _call(operation: Any, implementation: Any, size: str) -> Call:
    from kernels.dispatch import TABLE, problem
    from kernels.workloads import SIZES, workload

    found = problem(implementation)
    if found is not None:
        raise RuntimeError(found.reason)
    call, arguments = TABLE[operation].load(implementation).call, workload(operation, SIZES[size]).arguments
    call(*arguments)
    return call, arguments


def _time(call: Callable[..., int], arguments: tuple[Any, ...]) -> dict[str, float]:
    times = 1
    while (taken := _taken(call, arguments, times)) < TIMING_NS:
        times = min(10 * times, max(2 * times, int(1.2 * times * TIMING_NS / max(taken, 1))))
    return {"ns": min(_taken(call, arguments, times) for _ in range(TIMINGS)) / times}


def _taken(call: Callable[..., int], arguments: tuple[Any, ...], times: int) -> int:
    start = process_time_ns()
    for _ in range(times):
        call(*arguments)
    return process_time_ns() - start


if __name__ == "__main__":
    main()
