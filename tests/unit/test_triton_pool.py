"""The pool, on resources that are no connections and a clock of ours."""

from __future__ import annotations

import threading
from contextlib import ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.resilience import Deadline, OverloadedError, ServiceError, ServiceFailedError
from pipelines.triton.connections.pool import Pool


class World:
    """Counts what is open; resources are numbers."""

    def __init__(self) -> None:
        self.now_ns = 0
        self.made = 0
        self.open: set[int] = set()
        self.sick: set[int] = set()

    def make(self) -> int:
        self.made += 1
        self.open.add(self.made)
        return self.made

    def pool(self, size: int) -> Pool[int]:
        return Pool(
            self.make,
            self.open.remove,
            lambda resource, within_s: resource not in self.sick,
            size,
            check_after_s=10,
            clock=lambda: self.now_ns,
        )


def soon() -> Deadline:
    return Deadline.after(5)


def test_it_opens_no_more_than_it_needs_and_closes_all() -> None:
    world = World()
    pool = world.pool(3)
    for _ in range(5):
        with pool.lease(soon()) as one:
            assert one == 1
    with pool.lease(soon()), pool.lease(soon()):
        pass
    assert world.made == 2
    pool.close()
    assert world.open == set()
    assert pool.counters() == {
        "opened": 2,
        "closed": 2,
        "in_use": 0,
        "idle": 0,
        "leases": 7,
        "hits": 5,
        "waited": 0,
        "waited_ns": 0,
        "timed_out": 0,
        "unhealthy": 0,
    }
    with pytest.raises(RuntimeError, match="closed"), pool.lease(soon()):
        pass


def test_what_was_idle_for_long_is_checked() -> None:
    world = World()
    pool = world.pool(2)
    with pool.lease(soon()):
        pass
    world.sick = {1}
    with pool.lease(soon()) as still:
        assert still == 1  # it was in use a moment ago
    world.now_ns = 11 * 10**9
    with pool.lease(soon()) as other:
        assert other == 2
    assert world.open == {2}
    assert pool.counters()["unhealthy"] == 1


@pytest.mark.parametrize(
    ("error", "kept"),
    [(ServiceError("wrong shape"), True), (ServiceFailedError("reset"), False), (KeyboardInterrupt(), False)],
)
def test_a_resource_goes_when_its_call_broke_it(error: BaseException, kept: bool) -> None:
    world = World()
    pool = world.pool(1)
    with pytest.raises(type(error)), pool.lease(soon()):
        raise error
    assert world.open == ({1} if kept else set())
    with pool.lease(soon()) as next_one:
        assert next_one == (1 if kept else 2)


def test_who_waits_gets_what_comes_back_or_is_told() -> None:
    world = World()
    pool = world.pool(1)
    got: list[int] = []

    def wait() -> None:
        with pool.lease(soon()) as one:
            got.append(one)

    with ExitStack() as stack:
        stack.enter_context(pool.lease(soon()))
        with (
            pytest.raises(OverloadedError, match="all 1 connections of the pool were in use"),
            pool.lease(Deadline.after(0.01)),
        ):
            pass
        waiter = threading.Thread(target=wait)
        waiter.start()
        while pool.counters()["waited"] < 2:
            waiter.join(0.001)
    waiter.join(5)
    assert got == [1]
    assert pool.counters()["timed_out"] == 1


def test_a_resource_that_does_not_open_leaves_its_place_free() -> None:
    world = World()
    failures = iter([True, False])

    def make() -> int:
        if next(failures):
            raise ServiceFailedError("no such host")
        return world.make()

    pool: Pool[int] = Pool(make, world.open.remove, lambda *_: True, 1)
    with pytest.raises(ServiceFailedError), pool.lease(soon()):
        pass
    with pool.lease(soon()) as one:
        assert one == 1


def test_warming_opens_at_most_the_size_and_lets_each_connect() -> None:
    world = World()
    connected: list[int] = []
    pool = world.pool(2)
    pool.warm(9, connected.append)
    assert connected == [1, 2]
    assert pool.counters()["idle"] == 2


@given(st.lists(st.sampled_from(["use", "break", "wrong", "idle"]), max_size=40))
def test_nothing_is_ever_lost_or_leased_twice(steps: list[str]) -> None:
    world = World()
    pool = world.pool(3)
    for step in steps:
        if step == "idle":
            world.now_ns += 11 * 10**9
            world.sick |= set(list(world.open)[:1])
            continue
        error = {"break": ServiceFailedError("x"), "wrong": ServiceError("x")}.get(step)
        try:
            with pool.lease(soon()) as one, pool.lease(soon()) as two:
                assert one != two
                assert {one, two} <= world.open
                if error is not None:
                    raise error
        except ServiceError:
            assert error is not None
    counters = pool.counters()
    assert counters["in_use"] == 0
    assert counters["idle"] == len(world.open) == counters["opened"] - counters["closed"]
    pool.close()
    assert world.open == set()
