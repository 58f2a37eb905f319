"""The asv suite can be imported and run by asv's own rules, without asv."""

import importlib.util
import json
from itertools import product
from pathlib import Path
from types import ModuleType

import pytest

ASV = Path(__file__).parents[2] / "ci" / "asv"


@pytest.fixture(scope="module")
def suite() -> ModuleType:
    spec = importlib.util.spec_from_file_location("asv_kernels", ASV / "benchmarks" / "kernels.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_configuration_names_what_is_there() -> None:
    config = json.loads((ASV / "asv.conf.json").read_text())
    assert (ASV / config["benchmark_dir"] / "__init__.py").exists()
    assert (ASV / config["repo"] / "pyproject.toml").exists()


@pytest.mark.parametrize("name", ["Kernel", "Memcpy", "Pool"])
def test_every_small_case_runs_or_says_that_it_is_skipped(suite: ModuleType, name: str) -> None:
    ran = 0
    for case in product(*getattr(suite, name).params):
        if {"L2", "L3", "DRAM"} & set(map(str, case)):
            continue
        benchmark = getattr(suite, name)()
        try:
            benchmark.setup(*case)
        except NotImplementedError:
            continue
        for method in (getattr(benchmark, found) for found in dir(benchmark) if found.startswith("time_")):
            method(*case)
            ran += 1
    assert ran >= 4


def test_compile_time_is_tracked(suite: ModuleType) -> None:
    assert 0 < suite.Compile().track_cached_s("scalar") < suite.Compile().track_cold_s("scalar")
