"""The ledger gives back the effects that a run was made with, and says what it cannot tell apart."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
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


FOUR = AXES | {"pages": ("pages/normal", "pages/huge")}
Levels = tuple[int, ...]


def factorial(folder: Path, levels: list[Levels], repeats: int = 6) -> dict[str, Any]:
    """A run in which the kernel does nothing, pooling gains 20 %, the allocator loses 10 %, both together gain 5 %."""
    return planted(folder, levels, lambda each: 1.2 ** each[1] * 0.9 ** each[2] * 1.05 ** (each[1] * each[2]), repeats)


def planted(
    folder: Path,
    levels: list[Levels],
    speed: Callable[[Levels], float],
    repeats: int = 6,
    axes: Mapping[str, Sequence[str]] = AXES,
    stages: Callable[[Levels], dict[str, float]] = lambda _: {"ingest": 0.001, "acoustic": 0.3, "decode": 0.68},
) -> dict[str, Any]:
    """The ledger of a run with these combinations, each with its speed and the shares of its stages."""
    cases = [
        FakeCase("".join(map(str, each)), "x", 0.05 / speed(each), rung=False, stages=stages(each)) for each in levels
    ]
    path = write_run(folder, FakeRun(cases, repeats=repeats, process_noise=0.003, sample_noise=0.005))
    manifest = json.loads((path / "manifest.json").read_text())
    for entry, each in zip(manifest["cases"], levels, strict=True):
        variants = {axis: names[level] for (axis, names), level in zip(axes.items(), each, strict=True)}
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


def test_what_half_a_plan_cannot_tell_apart_is_said(tmp_path: Path) -> None:
    """In half of three axes each main effect holds the interaction of the other two (Box, Hunter and Hunter)."""
    found = factorial(tmp_path, [levels for levels in product((0, 1), repeat=3) if sum(levels) % 2 == 0])
    effects = {row["term"]: row for row in found["effects"]}
    assert list(effects) == ["kernel/avx512", "memory/pooled", "allocator/jemalloc"]
    assert effects["kernel/avx512"]["or"] == ["memory/pooled and allocator/jemalloc"]
    assert {(row["term"], *row["with"]) for row in found["aliased"]} == {
        ("memory/pooled and allocator/jemalloc", "kernel/avx512"),
        ("kernel/avx512 and allocator/jemalloc", "memory/pooled"),
        ("kernel/avx512 and memory/pooled", "allocator/jemalloc"),
    }
    assert "kernel/avx512 or memory/pooled and allocator/jemalloc" in found["findings"][0]
    assert "Not to be told apart in this plan: memory/pooled and allocator/jemalloc and kernel/avx512." in markdown(
        found
    )


def test_half_of_four_axes_tells_single_changes_from_pairs(tmp_path: Path) -> None:
    """The main effects are clean: each alias is a pair with a pair."""
    levels = [each for each in product((0, 1), repeat=4) if sum(each) % 2 == 0]
    found = planted(tmp_path, levels, lambda each: 1.2 ** each[1] * 0.9 ** each[2], axes=FOUR)
    effects = {row["term"]: row for row in found["effects"]}
    assert [effects[name]["or"] for name in effects if " and " not in name] == [[], [], [], []]
    assert effects["memory/pooled"]["ratio"] == pytest.approx(1.2, rel=0.01)
    assert effects["pages/huge"]["verdict"] == "no effect"
    assert len(found["aliased"]) == 3


def test_one_change_at_a_time_is_no_factorial_plan(tmp_path: Path) -> None:
    with pytest.raises(AmiraError, match="no factorial plan"):
        factorial(tmp_path, [(0, 0, 0), (1, 0, 0), (1, 1, 0), (1, 1, 1), (0, 1, 0)][:4])


def test_findings_say_faster_harmful_and_no_effect_as_plainly(tmp_path: Path) -> None:
    findings = factorial(tmp_path, list(product((0, 1), repeat=3)))["findings"]
    assert findings[0].startswith("kernel/avx512 has no effect (")
    assert findings[1].startswith("memory/pooled is faster: 1.23 times")
    assert findings[2].startswith("allocator/jemalloc is harmful: 0.92 times")
    assert any("memory/pooled and allocator/jemalloc help each other: 1.0" in each for each in findings)
    assert "1.13 (" in findings[-1]


def test_the_gains_of_the_stages_add_up_to_the_whole(tmp_path: Path) -> None:
    """A kernel that halves a stage of 30 % makes a request 1 / (0.7 + 0.15) times as fast: Amdahl's law."""
    found = planted(
        tmp_path,
        list(product((0, 1), repeat=2)),
        lambda each: 1 / (0.7 + 0.3 / 2) if each[0] else 1.0,
        axes={name: AXES[name] for name in ("kernel", "memory")},
        stages=lambda each: {"acoustic": (0.15 if each[0] else 0.3) / (0.85 if each[0] else 1.0), "decode": 0.0},
    )
    kernel, pooling = found["effects"][:2]
    assert kernel["stages"]["acoustic"]["ratio"] == pytest.approx(2, rel=0.01)
    assert kernel["amdahl"]["shares"]["acoustic"] == pytest.approx(0.3, rel=0.01)
    assert kernel["amdahl"]["promised"]["ratio"] == pytest.approx(1 / 0.85, rel=0.01)
    assert kernel["amdahl"]["measured_over_promised"]["ratio"] == pytest.approx(1, rel=0.01)
    assert kernel["amdahl"]["holds"]
    assert pooling["amdahl"]["promised"]["ratio"] == pytest.approx(1, rel=0.01)
    assert "they add up" in markdown(found)


def test_a_sum_that_does_not_add_up_is_said(tmp_path: Path) -> None:
    """A stage that takes no part in what its clock says: the request is slower, and no stage shows why."""
    found = planted(
        tmp_path,
        list(product((0, 1), repeat=2)),
        lambda each: 0.8 if each[0] else 1.0,
        axes={name: AXES[name] for name in ("kernel", "memory")},
        stages=lambda each: {"acoustic": 0.8 if each[0] else 1.0},
    )
    kernel = found["effects"][0]
    assert not kernel["amdahl"]["holds"]
    assert kernel["amdahl"]["promised"]["ratio"] == pytest.approx(1, rel=0.01)
    assert "they do not add up" in markdown(found)


def test_a_missing_combination_leaves_out_what_it_hides(tmp_path: Path) -> None:
    found = factorial(tmp_path, list(product((0, 1), repeat=3))[:6])
    assert "kernel/avx512 and memory/pooled" in {row["term"] for row in found["aliased"]}
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
