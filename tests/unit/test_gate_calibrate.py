"""The calibration finds what was planted, and finds nothing where nothing was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harness.gate.calibrate import accuracy_table, real, simulate, speed_table
from harness.gate.calibration import calibration, markdown
from harness.gate.config import GateConfig, Repeats
from harness.gate.evidence import Evidence, Metric, Paired
from harness.store import open_run
from pipelines.errors import NothingMeasuredError
from tests.synthetic import FakeCase, FakeRun, write_run

CONFIG = GateConfig(repeats=Repeats(batch=8, most=32))


def recorded(noise: float, pairs: int = 40) -> list[Evidence]:
    rng = np.random.default_rng(3)
    process = rng.normal(0, noise, pairs)
    effects = {
        Metric("latency"): Paired(process),
        Metric("stage", "acoustic"): Paired(process + rng.normal(0, noise / 2, pairs)),
        Metric("stage", "decode"): Paired(process + rng.normal(0, noise / 2, pairs)),
    }
    return [Evidence("a", "A", effects, {}, {"acoustic": 0.4, "decode": 0.6})]


def test_the_table_has_few_false_alarms_and_names_the_planted_stage() -> None:
    rows = {(row["what"], row["slowdown"]): row for row in speed_table(recorded(0.01), CONFIG, 200, 0)}
    assert rows["no change", 0.0]["red"]["value"] <= 0.01
    assert rows["decode slower", 0.1]["red"]["value"] >= 0.99
    assert rows["decode slower", 0.1]["stage_named"]["value"] >= 0.99
    assert rows["decode slower", 0.02]["red"]["value"] < rows["decode slower", 0.1]["red"]["value"]
    low, high = rows["no change", 0.0]["red"]["low"], rows["no change", 0.0]["red"]["high"]
    assert low == 0 < high < 0.03


def test_a_noisy_machine_is_called_noisy_and_not_red() -> None:
    decisions = simulate(recorded(0.2), CONFIG, 100, 1)
    words = [decision.cases[0].verdict for decision in decisions]
    assert words.count("worse") <= 2
    assert words.count("unclear") > 50


def test_a_gating_that_is_played_ends_with_its_budget() -> None:
    noisy = recorded(0.2)
    slow = simulate(noisy, CONFIG, 20, 1, pair_s=CONFIG.repeats.budget_s / CONFIG.repeats.batch / 2.5)
    assert {decision.batches for decision in slow} == {2}
    assert max(decision.batches for decision in simulate(noisy, CONFIG, 20, 1)) == 4


def test_real_comparisons_use_each_pair_once() -> None:
    decisions = real(recorded(0.004, pairs=40), CONFIG)
    assert sum(decision.batches for decision in decisions) <= 5
    assert {decision.cases[0].verdict for decision in decisions} == {"fine"}


def test_planted_word_errors_are_caught_and_other_errors_are_not(tmp_path: Path) -> None:
    case = FakeCase("a", "A", 0.05, slip=0.01)
    run = open_run(write_run(tmp_path, FakeRun((case,), repeats=1, utterances=400, speakers=40)))
    rows = {row["planted_points"]: row for row in accuracy_table(run, "a", CONFIG, 8, 0)}
    assert rows[2.0]["worse"]["value"] == 1
    assert rows[0.0]["worse"]["value"] == 0
    assert rows[1.0]["worse"]["value"] + rows[1.0]["unclear"]["value"] == 1


def test_a_point_that_small_corpora_leave_unclear_shows_in_all_of_them_together(tmp_path: Path) -> None:
    case = FakeCase("a", "A", 0.05, slip=0.01)
    corpora = ("one", "two", "three", "four")
    run = open_run(write_run(tmp_path, FakeRun((case,), repeats=1, utterances=480, speakers=None, corpora=corpora)))
    rows = {(row["corpus"], row["planted_points"]): row for row in accuracy_table(run, "a", CONFIG, 8, 0)}
    assert rows["all corpora", 1.0]["worse"]["value"] == 1
    assert all(rows[corpus, 0.0]["worse"]["value"] == 0 for corpus in (*corpora, "all corpora"))


def test_a_run_without_sides_cannot_calibrate(tmp_path: Path) -> None:
    with pytest.raises(NothingMeasuredError, match="no case that was measured on two sides"):
        calibration([open_run(write_run(tmp_path))], CONFIG, simulations=1)


def test_the_document_says_pairs_and_intervals() -> None:
    found = {
        "machine": {"cpu": "A CPU", "cores": 2},
        "pairs": 40,
        "pair_s": 5.0,
        "run": "r",
        "config": CONFIG.model_dump(mode="json"),
        "planted": {},
        "real": speed_table(recorded(0.01), CONFIG, 20, 0)[0],
        "simulated": speed_table(recorded(0.01), CONFIG, 20, 0),
        "accuracy": [],
    }
    text = markdown(found)
    assert "40 pairs of fresh processes" in text
    assert "decode slower by 5%, simulated" in text
    assert "none that would end after 8 minutes" in text
