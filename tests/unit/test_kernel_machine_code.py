"""Each implementation is in machine code what its name says."""

import re

import pytest

from kernels.dispatch import OPERATIONS, Implementation, Operation
from tests.unit.kernel_sets import compiled_implementations, kernel_set

PACKED_ARITHMETIC = re.compile(
    r"\tv?(add|sub|mul|div|max|min|sqrt|cmp\w*|fn?m(add|sub)\d+|cvtdq2)p[sd]\t|\tv?padd[bwdq]\t"
)
VECTOR_WORK = {
    "pcm16": "vcvtdq2ps",
    "pcm16_ring": "vcvtdq2ps",
    "mulaw": "vpsllvd",
    "alaw": "vpsllvd",
    "argmax": "vmaxps",
    "ctc_greedy": "vmaxps",
    "transpose": "vunpck|vshufps|vshuff|vperm",
    "log_softmax": "vfn?madd",
    "top_k": "vcmp|vucmp",
    "log_mel": "vfn?madd",
}
REGISTER = {"avx2": "ymm", "avx512": "zmm"}


def lines_with(assembly: str, pattern: str) -> list[str]:
    return [line for line in assembly.splitlines() if re.search(pattern, line)]


@compiled_implementations
@pytest.mark.parametrize("operation", OPERATIONS)
def test_registers_are_those_of_the_name(name: Implementation, operation: Operation) -> None:
    assembly = kernel_set(name).loops[operation].assembly()
    assert len(assembly) > 500
    if name == "scalar":
        assert not lines_with(assembly, "ymm|zmm")
        assert not [line for line in assembly.splitlines() if PACKED_ARITHMETIC.search(line)]
        return
    assert [line for line in lines_with(assembly, VECTOR_WORK[operation]) if REGISTER[name] in line]
    if name == "avx2":
        assert not lines_with(assembly, r"zmm|[xy]mm(1[6-9]|2\d|3[01])|\{%?k\d")


def test_scalar_code_is_recognised_by_this_test() -> None:
    assert PACKED_ARITHMETIC.search("\tvaddps\t%xmm0, %xmm1, %xmm2")
    assert PACKED_ARITHMETIC.search("\tvfmadd213ps\t%xmm0, %xmm1, %xmm2")
    assert PACKED_ARITHMETIC.search("\tcvtdq2ps\t%xmm0, %xmm1")
    assert not PACKED_ARITHMETIC.search("\tvaddss\t%xmm0, %xmm1, %xmm2")
