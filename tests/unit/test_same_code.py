"""Experiment 003 compares machine code of two trees: what counts as the same."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "experiments" / "003-kernels" / "same_code.py"
BEFORE = """
_ZN8__main__4loopB2v1B38c8tJTIeFIjxB2IKSgI4CrvQClcaMQ5hEEUSJJgA_3d_3dE:
	.cfi_startproc
	vmovups	(%rdi), %zmm0
	jle	.LBB0_4
	movabsq	$140312345678912, %rax
	vmulps	.LCPI0_1(%rip), %zmm0, %zmm0
.LBB0_4:
	retq
"""


@pytest.fixture
def same_code() -> ModuleType:
    spec = importlib.util.spec_from_file_location("same_code", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_names_labels_and_addresses_do_not_count(same_code: ModuleType) -> None:
    after = BEFORE.replace("_ZN8__main__4loop", "_ZN7another4loop").replace("LBB0_4", "LBB17_9")
    after = after.replace("140312345678912", "139999999999999").replace("LCPI0_1", "LCPI17_3")
    assert same_code.machine_code(after) == same_code.machine_code(BEFORE)


@pytest.mark.parametrize(
    ("old", "new"), [("vmulps", "vaddps"), ("%zmm0, %zmm0", "%zmm0, %zmm1"), ("(%rdi)", "64(%rdi)"), ("jle", "jl")]
)
def test_instructions_registers_and_places_count(same_code: ModuleType, old: str, new: str) -> None:
    assert same_code.machine_code(BEFORE.replace(old, new)) != same_code.machine_code(BEFORE)


def test_the_table_names_what_changed(same_code: ModuleType) -> None:
    code = {f"{name} {operation}": "same" for name in same_code.IMPLEMENTATIONS for operation in ("pcm16", "argmax")}
    found = {"result.json": {"commit": "c", "cpu": "some-cpu", "code": code | {"avx512 argmax": "changed"}}}
    assert same_code.table(found).splitlines() == [
        "| kernel | `result.json`, for some-cpu |",
        "|---|---|",
        "| pcm16 | the same |",
        "| argmax | changed: avx512 |",
    ]
