"""Every implementation of the kernels that can run here, made once."""

from functools import cache

import pytest
from hypothesis import settings

from kernels.dispatch import IMPLEMENTATIONS, Implementation, problem
from kernels.kernel_set import KernelSet

examples = settings(max_examples=60, deadline=None, derandomize=True)


@cache
def kernel_set(implementation: Implementation) -> KernelSet:
    return KernelSet(implementation)


def _parameter(implementation: Implementation):
    found = problem(implementation)
    reason = found.reason if found else ""
    return pytest.param(implementation, marks=pytest.mark.skipif(found is not None, reason=reason))


every_implementation = pytest.mark.parametrize("name", [_parameter(name) for name in IMPLEMENTATIONS])
compiled_implementations = pytest.mark.parametrize(
    "name", [_parameter(name) for name in IMPLEMENTATIONS if name not in ("numpy", "cupy")]
)
