"""Which implementation runs: CPU features, the override, the table."""

import json
import subprocess
import sys

import pytest

from kernels import cpu, dispatch
from kernels.dispatch import IMPLEMENTATIONS, OPERATIONS, TABLE, problem
from kernels.kernel_set import KernelSet
from pipelines import registry
from pipelines.errors import AmiraError
from tests.unit.kernel_sets import kernel_set

AVX_512 = ["avx512bw", "avx512dq", "avx512f", "avx512vl"]
ZEN_4 = "avx2 f16c fma avx512f avx512bw avx512dq avx512vl sse2"


@pytest.mark.parametrize(
    ("flags", "lacking"),
    [
        (f"{ZEN_4} avx512_vnni", {"avx2": [], "avx512": [], "avx512-vnni": []}),
        (ZEN_4, {"avx2": [], "avx512": [], "avx512-vnni": ["avx512_vnni"]}),
        ("sse2 avx2 f16c fma", {"avx2": [], "avx512": AVX_512, "avx512-vnni": sorted([*AVX_512, "avx512_vnni"])}),
        ("sse2 avx2", {"avx2": ["f16c", "fma"], "avx512": AVX_512, "avx512-vnni": sorted([*AVX_512, "avx512_vnni"])}),
    ],
)
def test_features_come_from_the_flags_line(flags: str, lacking: dict[str, list[str]]) -> None:
    have = cpu.parse_features(f"processor\t: 0\nvendor_id\t: X\nflags\t\t: {flags}\nbugs\t\t: y\n\nprocessor\t: 1\n")
    assert {name: cpu.missing(name, have) for name in cpu.NEEDS} == lacking
    assert cpu.missing("scalar", have) == cpu.missing("numpy", have) == []


def test_a_cpuinfo_without_flags_has_no_features() -> None:
    assert cpu.parse_features("processor : 0\nFeatures : asimd\n") == frozenset()


def test_the_machine_agrees_with_llvm() -> None:
    from llvmlite.binding import get_host_cpu_features

    seen_by_llvm = {cpu.LINUX_NAMES.get(name, name) for name, on in get_host_cpu_features().items() if on}
    for needed in set.union(*map(set, cpu.NEEDS.values())):
        assert (needed in cpu.features()) == (needed in seen_by_llvm)


def test_what_lacks_a_feature_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "features", lambda: frozenset({"avx2", "f16c", "fma"}))
    found = problem("avx512")
    assert found is not None
    assert found.reason == "this CPU lacks avx512bw, avx512dq, avx512f, avx512vl"
    assert "kernel/avx2" in found.remedy
    assert dispatch.choose({}) == "avx2"
    with pytest.raises(ValueError, match="AMIRA_KERNEL=avx512 cannot run here: this CPU lacks avx512bw"):
        dispatch.choose({"AMIRA_KERNEL": "avx512"})
    with pytest.raises(AmiraError, match="'kernel/avx512' cannot run here: this CPU lacks"):
        registry.get("kernel/avx512").open(registry.Context(None, "", 1, {}))  # type: ignore[arg-type]
    monkeypatch.setattr(cpu, "features", lambda: frozenset())
    assert dispatch.choose({}) == "scalar"


def test_the_override_is_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert dispatch.choose({"AMIRA_KERNEL": "numpy"}) == "numpy"
    monkeypatch.setenv("AMIRA_KERNEL", "scalar")
    assert KernelSet().implementation == "scalar"
    monkeypatch.delenv("AMIRA_KERNEL")
    assert KernelSet().implementation == dispatch.choose({}) != "numpy"


@pytest.mark.parametrize("value", ["sse9", "", "AVX2"])
def test_an_unknown_override_is_an_error_with_the_names(value: str) -> None:
    with pytest.raises(ValueError, match=f"AMIRA_KERNEL={value} is no kernel implementation; have: numpy, scalar"):
        dispatch.choose({"AMIRA_KERNEL": value})


def test_the_table_is_complete() -> None:
    assert set(TABLE) == set(OPERATIONS)
    for implementation in IMPLEMENTATIONS:
        assert f"kernel/{implementation}" in registry.ids("kernel")
    assert set(kernel_set("numpy").loops) == set(OPERATIONS)


def test_listing_the_variants_imports_nothing_heavy() -> None:
    program = (
        "import json, sys\nfrom pipelines import registry\n"
        "for name in registry.ids('kernel'): registry.get(name).available()\n"
        "print(json.dumps([m for m in ('numba', 'llvmlite', 'cupy', 'scipy') if m in sys.modules]))"
    )
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert json.loads(finished.stdout) == []
