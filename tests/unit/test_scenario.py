"""When the requests of each scenario arrive, and what a plan may say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harness.plan import parse_plan
from harness.scenario import NS_PER_S, Scenario, schedule
from pipelines.errors import AmiraError

PLAN = """
name = "a"
title = "A"
corpus = "c"
{}
[[case]]
id = "x"
title = "X"
variants = {{ peer = "moonshine-cpp" }}
"""


def test_a_server_gets_poisson_arrivals() -> None:
    [group] = schedule(Scenario(kind="server", arrivals_per_s=50), 20_000, seed=3)
    places, at = zip(*group, strict=True)
    gaps = np.diff(np.array(at)) / NS_PER_S
    assert places == tuple(range(20_000))
    assert gaps.mean() == pytest.approx(1 / 50, rel=0.03)
    assert gaps.std() == pytest.approx(1 / 50, rel=0.05)  # an exponential distribution has the deviation of its mean
    assert schedule(Scenario(kind="server", arrivals_per_s=50), 9, 3) == [group[:9]]
    assert schedule(Scenario(kind="server", arrivals_per_s=50), 9, 4) != [group[:9]]


def test_offline_is_all_at_once_and_multi_stream_group_by_group() -> None:
    assert schedule(Scenario(kind="offline"), 3, 0) == [[(0, 0), (1, 0), (2, 0)]]
    assert schedule(Scenario(kind="multi-stream", streams=2), 5, 0) == [[(0, 0), (1, 0)], [(2, 0), (3, 0)], [(4, 0)]]


@pytest.mark.parametrize(
    ("scenario", "message"),
    [
        ("kind = 'server'", "scenario 'server' needs 'arrivals_per_s'"),
        ("kind = 'multi-stream'", "scenario 'multi-stream' needs 'streams'"),
        ("streams = 2", "'streams' belongs to scenario 'multi-stream'"),
        ("workers = 2", "a single stream has one request at a time"),
        ("kind = 'batch'", "scenario.kind = 'batch'"),
        ("kind = 'server'\narrivals_per_s = 0", "scenario.arrivals_per_s = 0"),
        ("rate = 3", "key 'rate' does not exist; have: arrivals_per_s, kind"),
    ],
)
def test_a_scenario_that_makes_no_sense_is_refused_with_its_key(scenario: str, message: str) -> None:
    with pytest.raises(AmiraError, match=message):
        parse_plan(PLAN.format(f"[scenario]\n{scenario}"), Path("plan.toml"))


def test_a_plan_without_a_scenario_is_single_stream() -> None:
    assert parse_plan(PLAN.format(""), Path("plan.toml")).scenario == Scenario()
    with pytest.raises(AmiraError, match="readers of an expected text"):
        text = 'expected_text = "reference"\n[scenario]\nkind = "offline"'
        parse_plan(PLAN.format(text), Path("plan.toml"))
