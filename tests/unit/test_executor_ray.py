"""What the Ray executor decides without a Ray: who measures what, and what it says where it cannot."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.executor import Work
from harness.executor_ray import RayExecutor, _placed
from harness.plan import Plan
from harness.records import Case
from harness.scratch import Scratch
from harness.station import Block
from pipelines.errors import AmiraError
from tests.fakes.world import plan_of


def _plan(*compared: tuple[str, str | None]) -> Plan:
    """Cases with what they are compared with."""
    plan = plan_of("moonshine-cpp")
    (case,) = plan.cases
    cases = tuple(case.model_copy(update={"id": name, "compare_to": other}) for name, other in compared)
    return plan.model_copy(update={"cases": cases})


def _work(plan: Plan, placed: dict[str, list[str]] | None = None) -> Work:
    return Work(plan, Scratch(Path("audio"), (), ()), Path("models"), Path("run"), {}, placed or {})


def _blocks(*cases: Case, repeats: int = 2) -> list[Block]:
    return [((case, repeat),) for repeat in range(repeats) for case in cases]


def _where(plan: Plan, workers: list[str], placed: dict[str, list[str]] | None = None) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for block, worker in _placed(_blocks(*plan.cases), _work(plan, placed), workers):
        found.setdefault(block[0][0].id, set()).add(worker)
    return found


def test_cases_that_are_compared_over_any_number_of_steps_share_one_worker() -> None:
    plan = _plan(("a", None), ("b", "a"), ("c", "b"), ("x", None), ("y", "x"), ("z", None))

    where = _where(plan, ["w1", "w2", "w3"])

    assert all(len(workers) == 1 for workers in where.values())
    assert where["a"] == where["b"] == where["c"]
    assert where["x"] == where["y"]
    assert len({frozenset(where[name]) for name in ("a", "x", "z")}) == 3, "groups without a comparison spread"


def test_on_one_worker_the_order_is_the_local_one() -> None:
    plan = _plan(("a", None), ("b", "a"), ("x", None))
    blocks = _blocks(plan.cases[2], plan.cases[0], plan.cases[1])

    assert list(_placed(blocks, _work(plan), ["w"])) == [(block, "w") for block in blocks]


def test_a_group_that_was_begun_stays_on_its_worker_or_is_refused() -> None:
    plan = _plan(("a", None), ("b", "a"))

    assert _where(plan, ["w1", "w2"], {"b": ["w2"]}) == {"a": {"w2"}, "b": {"w2"}}
    with pytest.raises(AmiraError, match="measured on w9, which this cluster has not"):
        _where(plan, ["w1", "w2"], {"b": ["w9"]})


def test_without_ray_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(AmiraError, match=r"executor 'ray' needs the package ray.*pip install -e '\.\[ray\]'") as caught:
        RayExecutor().__enter__()
    assert caught.value.exit_code == 2


def test_an_address_of_ray_s_client_is_refused() -> None:
    with pytest.raises(AmiraError, match="Give it as HOST:PORT"):
        RayExecutor("ray://head:10001").__enter__()


def _amira(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "harness.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "COLUMNS": "200"}, timeout=120)


def test_the_command_explains_itself_and_refuses_an_address_without_ray() -> None:
    shown = _amira("bench", "--help").stdout
    assert all(
        word in shown for word in ("--executor", "local|ray", "--ray-address", "--shard-minutes", "amira_timing")
    )

    refused = _amira("bench", "default", "--ray-address", "auto")
    assert refused.returncode == 2
    assert "Add --executor ray" in refused.stderr
