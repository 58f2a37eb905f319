"""Resilience: every part decides by itself, told the time by a clock of ours."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.resilience import (
    AsyncBulkhead,
    Attempts,
    Backoff,
    Breaker,
    BreakerPolicy,
    BreakerState,
    Bulkhead,
    CallPolicy,
    CircuitOpenError,
    Deadline,
    DeadlineExceededError,
    Endpoints,
    OverloadedError,
    RetryBudget,
    ServiceError,
    ServiceFailedError,
    call,
    call_async,
    hedged,
)

POLICY = BreakerPolicy(window=10, min_calls=4, failure_rate=0.5, open_s=1.0)


class Clock:
    def __init__(self) -> None:
        self.now_ns = 0

    def __call__(self) -> int:
        return self.now_ns

    def pass_s(self, seconds: float) -> None:
        self.now_ns += round(seconds * 1e9)


def breaker(clock: Clock) -> tuple[Breaker, list[str]]:
    seen: list[str] = []
    return Breaker("there", POLICY, clock, lambda before, after: seen.append(f"{before}>{after}")), seen


def fail(it: Breaker, times: int) -> None:
    for _ in range(times):
        it.acquire().failed()


def test_a_deadline_runs_out() -> None:
    clock = Clock()
    deadline = Deadline.after(2.0, clock)
    clock.pass_s(1.5)
    assert deadline.remaining_s == 0.5
    assert deadline.check("the call") == 0.5
    clock.pass_s(1.5)
    assert deadline.remaining_s == 0
    with pytest.raises(DeadlineExceededError, match="before the call was made"):
        deadline.check("the call was made")


def test_a_breaker_opens_probes_once_and_closes() -> None:
    clock = Clock()
    it, seen = breaker(clock)
    fail(it, 3)
    assert it.state is BreakerState.CLOSED  # not enough calls to judge
    fail(it, 1)
    assert it.state is BreakerState.OPEN
    with pytest.raises(CircuitOpenError, match=r"there failed too often .* Try again in 1.00 s") as told:
        it.acquire()
    assert told.value.retry_after_s == 1.0
    clock.pass_s(1.0)
    assert it.allows()
    probe = it.acquire()
    assert it.state is BreakerState.HALF_OPEN
    assert not it.allows()
    with pytest.raises(CircuitOpenError, match="half-open"):
        it.acquire()
    probe.succeeded()
    assert it.state is BreakerState.CLOSED
    assert seen == ["closed>open", "open>half-open", "half-open>closed"]
    fail(it, 3)
    assert it.state is BreakerState.CLOSED  # what was before the probe is forgotten


def test_a_failed_probe_opens_for_the_full_time_and_an_abandoned_one_lets_the_next_probe() -> None:
    clock = Clock()
    it, _ = breaker(clock)
    fail(it, 4)
    clock.pass_s(1.0)
    it.acquire().failed()
    assert it.remaining_s() == 1.0
    clock.pass_s(1.0)
    it.acquire().abandoned()
    assert it.remaining_s() == 0
    it.acquire().succeeded()
    assert it.state is BreakerState.CLOSED


def test_late_outcomes_do_not_count() -> None:
    clock = Clock()
    it, _ = breaker(clock)
    late = [it.acquire() for _ in range(4)]
    fail(it, 4)
    clock.pass_s(1.0)
    it.acquire().succeeded()
    for permit in late:
        permit.failed()
    assert it.state is BreakerState.CLOSED
    with pytest.raises(RuntimeError, match="ended twice"):
        late[0].succeeded()


def test_few_failures_among_many_successes_do_not_open() -> None:
    it, _ = breaker(Clock())
    for _ in range(20):
        it.acquire().succeeded()
        it.acquire().succeeded()
        it.acquire().failed()
    assert it.state is BreakerState.CLOSED


def test_of_many_threads_exactly_one_probes() -> None:
    clock = Clock()
    it, _ = breaker(clock)
    fail(it, 4)
    clock.pass_s(1.0)
    start = threading.Barrier(16)
    permits = []

    def knock() -> None:
        start.wait()
        try:
            permits.append(it.acquire())
        except CircuitOpenError:
            return

    threads = [threading.Thread(target=knock) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(permits) == 1


@given(st.lists(st.sampled_from(["good", "bad", "give up", "wait"]), max_size=60))
def test_a_breaker_never_lets_two_probes_in_and_never_stays_shut(steps: list[str]) -> None:
    clock = Clock()
    it, seen = breaker(clock)
    for step in steps:
        if step == "wait":
            clock.pass_s(1.0)
        elif it.allows():
            permit = it.acquire()
            if it.state is BreakerState.HALF_OPEN:
                assert not it.allows()
            {"good": permit.succeeded, "bad": permit.failed, "give up": permit.abandoned}[step]()
    clock.pass_s(1.0)
    assert it.allows()
    assert all(before.split(">")[1] == after.split(">")[0] for before, after in pairwise(seen))


def test_backoff_has_full_jitter_under_a_cap() -> None:
    backoff, rng = Backoff(attempts=6, base_s=0.1, cap_s=0.3), Random(0)
    for failures, longest in ((1, 0.1), (2, 0.2), (3, 0.3), (5, 0.3)):
        waits = [backoff.delay_s(failures, rng) or 0.0 for _ in range(300)]
        assert 0 <= min(waits) < longest * 0.05
        assert longest * 0.95 < max(waits) <= longest
    assert backoff.delay_s(6, rng) is None


def test_retries_are_at_most_a_part_of_the_calls() -> None:
    budget = RetryBudget(ratio=0.1, reserve=5)
    made = 0
    for _ in range(1_000):
        budget.called()
        made += budget.take()
    assert 5 + 90 <= made <= 5 + 100
    with pytest.raises(ValueError, match="ratio"):
        RetryBudget(ratio=2)


def test_a_bulkhead_bounds_what_is_under_way_and_what_waits() -> None:
    clock = Clock()
    bulkhead = Bulkhead(2, 1, clock)
    soon = Deadline.after(60)
    with ExitStack() as stack:
        stack.enter_context(bulkhead.enter(soon))
        stack.enter_context(bulkhead.enter(soon))
        done = threading.Event()

        def wait() -> None:
            with bulkhead.enter(soon):
                done.set()

        waiter = threading.Thread(target=wait)
        waiter.start()
        while not bulkhead.slots.waiting:
            done.wait(0.001)
        with pytest.raises(OverloadedError, match=r"2 calls are under way \(limit 2\) and 1 wait") as told:
            bulkhead.enter(soon).__enter__()
        assert told.value.retryable
        assert not done.is_set()
    waiter.join(5)
    assert done.is_set()
    assert (bulkhead.slots.in_flight, bulkhead.slots.waiting, bulkhead.slots.shed) == (0, 0, 1)


def test_a_caller_that_would_wait_past_its_deadline_is_turned_away_at_once() -> None:
    clock = Clock()
    bulkhead = Bulkhead(1, 10, clock)
    with bulkhead.enter(Deadline.after(60)):
        clock.pass_s(0.5)
    with bulkhead.enter(Deadline.after(60)), pytest.raises(OverloadedError) as told:
        bulkhead.enter(Deadline.after(0.4, clock)).__enter__()
    assert told.value.retry_after_s == pytest.approx(0.5)


def test_who_waits_in_vain_leaves_nothing_behind() -> None:
    bulkhead = Bulkhead(1, 10)
    with bulkhead.enter(Deadline.after(60)):
        with pytest.raises(OverloadedError):
            bulkhead.enter(Deadline.after(0.01)).__enter__()
        assert bulkhead.slots.waiting == 0
    with bulkhead.enter(Deadline.after(60)):
        assert bulkhead.slots.in_flight == 1


def test_the_same_on_an_event_loop() -> None:
    async def scenario() -> list[str]:
        bulkhead, seen = AsyncBulkhead(1, 2), []

        async def worker(name: str, release: asyncio.Event, seconds: float = 60) -> None:
            try:
                async with bulkhead.enter(Deadline.after(seconds)):
                    seen.append(name)
                    await release.wait()
            except OverloadedError:
                seen.append(f"{name} turned away")

        release = asyncio.Event()
        tasks = [asyncio.create_task(worker("first", release))]
        await asyncio.sleep(0)
        tasks += [asyncio.create_task(worker("second", release)), asyncio.create_task(worker("late", release, 0.01))]
        await asyncio.sleep(0)
        tasks.append(asyncio.create_task(worker("fourth", release)))
        await tasks[2]
        release.set()
        cancelled = asyncio.create_task(worker("cancelled", release))
        await asyncio.sleep(0)
        cancelled.cancel()
        await asyncio.gather(*tasks)
        assert (bulkhead.slots.in_flight, bulkhead.slots.waiting) == (0, 0)
        return seen

    seen = asyncio.run(scenario())
    assert seen[:4] == ["first", "fourth turned away", "late turned away", "second"]


def attempts(
    clock: Clock, names: str = "a", idempotent: bool = True, seconds: float = 10.0, **policy: object
) -> Attempts[str]:
    endpoints = Endpoints([(name, name) for name in names], POLICY, clock)
    settings = CallPolicy(rng=Random(0), **policy)  # type: ignore[arg-type]
    return Attempts(endpoints, settings, Deadline.after(seconds, clock), idempotent)


def failing(times: int, error: Callable[[], Exception], log: list[str]) -> Callable[[str], str]:
    def make(target: str) -> str:
        log.append(target)
        if len(log) <= times:
            raise error()
        return f"answer of {target}"

    return make


def broken() -> ServiceError:
    return ServiceFailedError("connection reset")


def test_a_call_that_may_be_repeated_goes_to_another_endpoint() -> None:
    log: list[str] = []
    waits: list[float] = []
    assert call(attempts(Clock(), "ab"), failing(1, broken, log), waits.append) == "answer of b"
    assert log == ["a", "b"]
    assert len(waits) == 1


def test_a_call_that_is_not_idempotent_is_made_once() -> None:
    log: list[str] = []
    with pytest.raises(ServiceFailedError, match="reset"):
        call(attempts(Clock(), "ab", idempotent=False), failing(1, broken, log), pytest.fail)
    assert log == ["a"]


def test_retries_end_with_the_attempts_the_budget_and_the_deadline() -> None:
    empty = RetryBudget(ratio=0, reserve=1)
    assert empty.take()
    for settings, made in (({}, 3), ({"budget": empty}, 1), ({"seconds": 1e-9}, 1)):
        log: list[str] = []
        with pytest.raises(ServiceFailedError):
            call(attempts(Clock(), **settings), failing(9, broken, log), lambda _: None)  # type: ignore[arg-type]
        assert len(log) == made


def test_the_callers_own_mistake_is_not_repeated_and_does_not_open_the_breaker() -> None:
    clock = Clock()
    endpoints = Endpoints([("a", "a")], POLICY, clock)
    for _ in range(20):
        with pytest.raises(ServiceError, match="wrong shape"):
            call(
                Attempts(endpoints, CallPolicy(), Deadline.after(1, clock), True),
                failing(1, lambda: ServiceError("wrong shape"), []),
            )
    assert endpoints.all[0].breaker.state is BreakerState.CLOSED
    assert endpoints.all[0].in_flight == 0


def test_calls_go_to_the_least_loaded_endpoint_and_round_one_that_is_out() -> None:
    clock = Clock()
    endpoints = Endpoints([(name, name) for name in "abc"], POLICY, clock)
    held = [endpoints.pick() for _ in range(5)]
    assert sorted(pick.endpoint.name for pick in held) == ["a", "a", "b", "b", "c"]
    for pick in held:
        pick.succeeded()
    out = endpoints.all[1]
    while out.breaker.state is BreakerState.CLOSED:
        fail(out.breaker, 1)
    picked = out.picked
    for _ in range(30):
        endpoints.pick().succeeded()
    assert out.picked == picked
    clock.pass_s(1.0)
    endpoints.pick().succeeded()
    assert out.picked == picked + 1  # the least picked one: it is asked whether it is back
    assert out.breaker.state is BreakerState.CLOSED


def test_when_all_are_out_the_error_says_when_to_come_back() -> None:
    clock = Clock()
    endpoints = Endpoints([(name, name) for name in "ab"], POLICY, clock)
    for endpoint in endpoints.all:
        fail(endpoint.breaker, 4)
    clock.pass_s(0.25)
    with pytest.raises(CircuitOpenError, match=r"breakers of a, b are open. Try again in 0.75 s"):
        endpoints.pick()


def test_asynchronous_calls_keep_the_same_rules_and_a_cancelled_one_frees_its_probe() -> None:
    clock = Clock()
    endpoints = Endpoints([("a", "a")], POLICY, clock)
    fail(endpoints.all[0].breaker, 4)
    clock.pass_s(1.0)

    async def scenario() -> str:
        async def hang(target: str) -> str:
            await asyncio.Event().wait()
            return target

        probe = asyncio.create_task(call_async(Attempts(endpoints, CallPolicy(), Deadline.after(9), True), hang))
        await asyncio.sleep(0)
        probe.cancel()
        with pytest.raises(asyncio.CancelledError):
            await probe
        log: list[str] = []

        async def make(target: str) -> str:
            return failing(1, broken, log)(target)

        with pytest.raises(CircuitOpenError):  # the second probe failed, so there is no third attempt
            await call_async(Attempts(endpoints, CallPolicy(), Deadline.after(9), True), make)
        clock.pass_s(1.0)
        return await call_async(Attempts(endpoints, CallPolicy(), Deadline.after(9), True), make)

    assert asyncio.run(scenario()) == "answer of a"


@pytest.mark.parametrize(
    ("first", "second", "wanted"),
    [("late", "good", "second"), ("late", "broken", "first"), ("broken", "good", None), ("good", "good", "first")],
)
def test_a_late_call_is_made_once_more_and_the_first_answer_counts(first: str, second: str, wanted: str | None) -> None:
    acts, release, made = iter([("first", first), ("second", second)]), threading.Event(), []

    def make() -> str:
        name, act = next(acts)
        made.append(name)
        if act == "late":
            release.wait(0.3)
        if act == "broken":
            raise broken()
        return name

    with ThreadPoolExecutor(4) as executor:
        if wanted is None:  # an error in time is the answer: whether to repeat it is for the retries to say
            with pytest.raises(ServiceFailedError):
                hedged(make, 0.05, RetryBudget(), executor)
        else:
            assert hedged(make, 0.05, RetryBudget(), executor) == wanted
        release.set()
    assert len(made) == (2 if first == "late" else 1)


def test_hedging_takes_from_the_budget() -> None:
    budget, made = RetryBudget(ratio=0, reserve=1), []
    assert budget.take()

    def make() -> str:
        made.append(1)
        threading.Event().wait(0.05)
        return "answer"

    with ThreadPoolExecutor(4) as executor:
        assert hedged(make, 0.01, budget, executor) == "answer"
    assert len(made) == 1
