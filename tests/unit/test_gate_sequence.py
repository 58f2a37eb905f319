"""The gate never turns red on one look, goes on while it is unsure, and stops."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import count

import numpy as np
import pytest

from harness.gate.config import GateConfig, Repeats
from harness.gate.evidence import Evidence, Metric, Paired
from harness.gate.sequence import NOT_CONFIRMED, decide

CONFIG = GateConfig(repeats=Repeats(batch=8, most=32, budget_s=100))
LATENCY = Metric("latency")


class Machine:
    """Measures cases whose true change is known: batch by batch, or as each batch is told."""

    def __init__(self, changes: dict[str, list[float]], noise: float = 0.004, seed: int = 0) -> None:
        self._changes, self._noise, self._rng = changes, noise, np.random.default_rng(seed)
        self.asked: list[set[str]] = []

    def __call__(self, names: Collection[str] | None) -> dict[str, Evidence]:
        wanted = set(self._changes if names is None else names)
        self.asked.append(wanted)
        return {name: self._evidence(name) for name in self._changes if name in wanted}

    def _evidence(self, name: str) -> Evidence:
        batch = sum(name in asked for asked in self.asked) - 1
        changes = self._changes[name]
        change = changes[min(batch, len(changes) - 1)]
        if np.isnan(change):
            return Evidence(name, name, problem="the candidate failed: boom", broken=True)
        return Evidence(name, name, {LATENCY: Paired(self._rng.normal(np.log1p(change), self._noise, 8))})


def ticking() -> Iterator[float]:
    return (float(tick) for tick in count())


def verdicts(machine: Machine, config: GateConfig = CONFIG, step_s: float = 1.0) -> dict[str, str]:
    clock = count(step=step_s)
    return {case.case: case.verdict for case in decide(machine, config, now=lambda: next(clock)).cases}


def test_a_fine_case_is_measured_once() -> None:
    machine = Machine({"a": [0.0], "b": [0.0]})
    assert verdicts(machine) == {"a": "fine", "b": "fine"}
    assert machine.asked == [{"a", "b"}]


def test_a_regression_is_red_after_a_repeat_of_that_case_alone() -> None:
    machine = Machine({"a": [0.1], "b": [0.0]})
    assert verdicts(machine) == {"a": "worse", "b": "fine"}
    assert machine.asked == [{"a", "b"}, {"a"}]


def test_an_accident_in_one_batch_is_not_red() -> None:
    machine = Machine({"a": [0.1, 0.0]})
    assert verdicts(machine) != {"a": "worse"}
    assert len(machine.asked) > 1


def test_a_red_that_there_was_no_time_to_confirm_is_unclear() -> None:
    machine = Machine({"a": [0.1]})
    decision = decide(machine, CONFIG, now=iter([0.0, 99.0, 99.0, 99.0]).__next__)
    [case] = decision.cases
    assert case.verdict == "unclear"
    assert NOT_CONFIRMED in str(case.rows[0].note)
    assert len(machine.asked) == 1


def test_what_a_batch_did_not_come_to_is_unclear_and_takes_nothing_back() -> None:
    late = Evidence("a", "a", problem="the time was up before it was measured", late=True)
    [never] = decide(lambda _: {"a": late}, CONFIG, now=iter([0.0, 101.0, 101.0]).__next__).cases
    assert never.verdict == "unclear"
    assert "the time was up" in never.reason

    machine = Machine({"a": [0.1]})
    batches = iter([machine, lambda _: {"a": late}])
    clock = iter([0.0, 1.0, 1.0, 1.0, 100.0, 101.0]).__next__
    [once] = decide(lambda names: next(batches)(names), CONFIG, now=clock).cases
    assert once.verdict == "unclear", "a red that the cut-off batch could not confirm is none"
    assert NOT_CONFIRMED in str(once.rows[0].note)


def test_an_unsure_case_is_measured_until_it_is_sure_or_the_repeats_are_spent() -> None:
    machine = Machine({"a": [0.0]}, noise=0.06)
    assert verdicts(machine) == {"a": "fine"}
    assert len(machine.asked) > 1
    hopeless = Machine({"a": [0.0]}, noise=0.5)
    assert verdicts(hopeless) == {"a": "unclear"}
    assert len(hopeless.asked) == 4


def test_a_crash_is_red_only_where_it_happens_again() -> None:
    assert verdicts(Machine({"a": [np.nan, np.nan]})) == {"a": "broken"}
    once = Machine({"a": [np.nan, 0.0]})
    decision = decide(once, CONFIG)
    assert decision.cases[0].verdict == "fine"
    assert "failed once and not again: the candidate failed: boom" in decision.cases[0].notes


@pytest.mark.parametrize(("change", "least"), [(0.06, 0.95), (0.10, 0.99)])
def test_power(change: float, least: float) -> None:
    found = [verdicts(Machine({"a": [change]}, 0.015, seed))["a"] for seed in range(150)]
    assert np.mean([word == "worse" for word in found]) >= least


def test_false_alarms() -> None:
    """No red in 600 comparisons of a thing with itself, on a machine so noisy that most want several batches."""
    found = [verdicts(Machine({"a": [0.0]}, 0.04, seed))["a"] for seed in range(600)]
    assert found.count("worse") == 0
    assert found.count("fine") > 500


def test_a_seven_per_cent_gain_is_better() -> None:
    assert verdicts(Machine({"a": [-0.07]})) == {"a": "better"}
