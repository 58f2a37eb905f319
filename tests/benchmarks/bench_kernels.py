"""Every operation, implementation and size beside a memcpy that moves as many bytes, Python call included.

Not collected by a plain `pytest`. Run it by its name (about two minutes):

    .venv/bin/python -m pytest tests/benchmarks/bench_kernels.py --benchmark-group-by=param:operation,param:size
"""

from functools import lru_cache
from typing import Any

import numpy as np
import pytest

from kernels.buffers import aligned_block
from kernels.dispatch import IMPLEMENTATIONS, OPERATIONS, Implementation, Operation, load, problem
from kernels.workloads import SIZES, Workload, workload

pytest.importorskip("pytest_benchmark", reason="pytest-benchmark is not installed: pip install .[dev]")
MEMCPY = "memcpy"


@lru_cache(maxsize=1)
def made(operation: Operation, size: str) -> Workload:
    return workload(operation, SIZES[size])


@lru_cache
def loops(implementation: Implementation) -> dict[Operation, Any]:
    return load(implementation)


@pytest.mark.parametrize("implementation", [MEMCPY, *IMPLEMENTATIONS])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_kernel(benchmark, operation: Operation, size: str, implementation: str) -> None:
    work = made(operation, size)
    benchmark.extra_info["bytes"] = 2 * work.memcpy_bytes
    benchmark._max_time, benchmark._min_rounds = 0.1, 5
    if implementation == MEMCPY:
        source, target = (aligned_block(work.memcpy_bytes) for _ in range(2))
        source[:] = target[:] = 1
        benchmark(np.copyto, target, source)
        return
    name: Implementation = implementation  # type: ignore[assignment]
    found = problem(name)
    if found is not None:
        pytest.skip(f"{found.reason}. {found.remedy}")
    assert benchmark(loops(name)[operation].call, *work.arguments) >= 0
