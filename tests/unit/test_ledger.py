"""The ledger gives back the effects that a run was made with, and says what it cannot tell apart."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from harness.ledger import ledger
from harness.ledger_text import markdown
from harness.plan import parse_plan
from harness.prices import Prices, load_prices
from harness.store import open_run
from pipelines.errors import AmiraError
from tests.synthetic import FakeCase, FakeRun, write_run

AXES = {
    "kernel": ("kernel/numpy", "kernel/avx512"),
    "memory": ("memory/fresh", "memory/pooled"),
    "allocator": ("allocator/glibc", "allocator/jemalloc"),
}


def factorial(folder: Path, combinations: list[tuple[int, ...]], repeats: int = 6) -> dict[str, Any]:
    """A run in which the kernel does nothing, pooling gains 20 %, the allocator loses 10 %, both together gain 5 %."""
    cases = []
    for kernel, memory, allocator in combinations:
        speed = 1.2**memory * 0.9**allocator * 1.05 ** (memory * allocator)
        cases.append(FakeCase(f"{kernel}{memory}{allocator}", "x", 0.05 / speed, rung=False))
    path = write_run(folder, FakeRun(cases, repeats=repeats, process_noise=0.003, sample_noise=0.005))
    manifest = json.loads((path / "manifest.json").read_text())
    for entry, levels in zip(manifest["cases"], combinations, strict=True):
        variants = {axis: names[level] for (axis, names), level in zip(AXES.items(), levels, strict=True)}
        entry["case"]["pipeline"]["variants"] |= variants
    (path / "manifest.json").write_text(json.dumps(manifest))
    return ledger(open_run(path), Prices(core_hour=0.036))


def test_main_effects_and_interactions_are_found(tmp_path: Path) -> None:
    found = factorial(tmp_path, list(product((0, 1), repeat=3)))
    effects = {row["term"]: row for row in found["effects"]}
    assert [row["kind"] for row in found["effects"]] == ["main"] * 3 + ["interaction"] * 3
    assert effects["kernel/avx512"]["verdict"] == "no effect"
    assert effects["memory/pooled"]["ratio"] == pytest.approx(1.2 * 1.05**0.5, rel=0.01)
    assert effects["memory/pooled"]["verdict"] == "faster"
    assert effects["allocator/jemalloc"]["ratio"] == pytest.approx(0.9 * 1.05**0.5, rel=0.01)
    assert effects["allocator/jemalloc"]["verdict"] == "harmful"
    both = effects["memory/pooled and allocator/jemalloc"]
    assert both["ratio"] == pytest.approx(1.05, rel=0.01)
    assert both["verdict"] == "faster"
    assert set(both["stages"]) == {"ingest", "acoustic", "decode"}
    assert effects["memory/pooled"]["stages"]["decode"]["ratio"] == pytest.approx(1.2 * 1.05**0.5, rel=0.01)
    assert effects["memory/pooled"]["cpu"]["ratio"] == pytest.approx(1.2 * 1.05**0.5, rel=0.01)
    assert found["aliased"] == []


def test_the_sum_of_the_changes_is_held_against_what_was_measured(tmp_path: Path) -> None:
    together = factorial(tmp_path, list(product((0, 1), repeat=3)))["together"]
    assert together["measured"]["ratio"] == pytest.approx(1.2 * 0.9 * 1.05, rel=0.02)
    assert together["promised"]["ratio"] == pytest.approx(1.2 * 0.9 * 1.05, rel=0.02)
    assert together["changes"] == ["kernel/avx512", "memory/pooled", "allocator/jemalloc"]


def test_half_a_plan_of_three_axes_cannot_tell_pairs_apart(tmp_path: Path) -> None:
    half = [levels for levels in product((0, 1), repeat=3) if sum(levels) % 2 == 0]
    with pytest.raises(AmiraError, match="no factorial plan: 4 measured cases vary 3 axes"):
        factorial(tmp_path, half)


def test_a_missing_combination_leaves_out_what_it_hides(tmp_path: Path) -> None:
    found = factorial(tmp_path, list(product((0, 1), repeat=3))[:6])
    assert "kernel/avx512 and memory/pooled" in found["aliased"]
    assert "kernel/avx512" in {row["term"] for row in found["effects"]}


def test_costs_follow_from_cpu_time_and_price(tmp_path: Path) -> None:
    found = factorial(tmp_path, list(product((0, 1), repeat=3)))
    for row in found["costs"]:
        cpu, money = row["cpu_s_per_audio_hour"], row["money_per_audio_hour"]
        assert money["value"] == pytest.approx(cpu["value"] / 3600 * 0.036)
        assert money["low"] < money["value"] < money["high"]
    assert "USD an hour of audio" in markdown(found)


def test_a_run_that_is_no_factorial_plan_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AmiraError, match=r"write a \[matrix\] into the plan"):
        ledger(open_run(write_run(tmp_path)))


def test_one_repeat_has_no_interval(tmp_path: Path) -> None:
    found = factorial(tmp_path, list(product((0, 1), repeat=3)), repeats=1)
    assert {(row["low"], row["verdict"]) for row in found["effects"]} == {(None, "unclear")}
    assert "unclear" in markdown(found)


@pytest.mark.parametrize(
    ("text", "message"),
    [("core_hour = 0", "core_hour"), ("core_hours = 1", "core_hour"), ("core_hour =", "is not TOML")],
)
def test_a_wrong_price_table_is_one_clear_message(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "prices.toml").write_text(text)
    with pytest.raises(AmiraError, match=message):
        load_prices(tmp_path / "prices.toml")


HALF = """
name = "half"
title = "Half"
corpus = "starter"
[base.variants]
acoustic = "ort@int8"
decoder = "aed-greedy"
[matrix]
kernel = ["numpy", "scalar"]
memory = ["fresh", "pooled"]
allocator = ["glibc", "mimalloc"]
half = true
"""


def test_half_of_a_matrix_changes_an_even_number_of_axes(tmp_path: Path) -> None:
    plan = parse_plan(HALF, tmp_path / "plan.toml")
    assert [case.id for case in plan.cases] == [
        "numpy+fresh+glibc",
        "numpy+pooled+mimalloc",
        "scalar+fresh+mimalloc",
        "scalar+pooled+glibc",
    ]
    with pytest.raises(AmiraError, match=r"matrix\.half needs"):
        parse_plan(HALF.replace('"scalar"]', '"scalar", "avx2"]'), tmp_path / "plan.toml")
