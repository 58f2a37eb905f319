"""A bounded pool of anything that is slow to open. Knows nothing of what it holds."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from threading import Condition, Lock
from time import perf_counter_ns
from types import TracebackType
from typing import Generic, TypeVar

from pipelines.resilience import Deadline, OverloadedError, ServiceError
from pipelines.resilience.deadline import Clock

T = TypeVar("T")
HEALTH_TIMEOUT_S = 0.5


@dataclass(slots=True)
class PoolCounters:
    """What a pool counts.

    Attributes:
        opened: Resources that were opened so far.
        closed: Resources that were closed so far.
        in_use: Leased now, or being opened for somebody.
        idle: Open and free now.
        leases: Leases that were given so far.
        hits: Those that got a resource that was open already.
        waited: Leases that had to wait.
        waited_ns: How long, all together.
        timed_out: Callers that waited in vain.
        unhealthy: Idle resources that a check found dead.
    """

    opened: int = 0
    closed: int = 0
    in_use: int = 0
    idle: int = 0
    leases: int = 0
    hits: int = 0
    waited: int = 0
    waited_ns: int = 0
    timed_out: int = 0
    unhealthy: int = 0


class _Lease(Generic[T]):
    """A resource for the time of a block. A class, not a generator: it is on the way of every call."""

    __slots__ = ("_deadline", "_pool", "_resource")

    def __init__(self, pool: Pool[T], deadline: Deadline) -> None:
        self._pool, self._deadline = pool, deadline

    def __enter__(self) -> T:
        self._resource = self._pool._take(self._deadline)
        return self._resource

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or (isinstance(error, ServiceError) and not error.counts):
            self._pool._give_back(self._resource)
        else:
            self._pool._discard(self._resource)


class Pool(Generic[T]):
    """Leases each resource to one caller at a time. Thread-safe; the longest unused one rests, so that few stay warm.

    `open_one` must not wait for anybody: only the first use of a resource does, within its caller's deadline. One that
    was idle for `check_after_s` is checked before it is leased; `healthy` is told how long that may take. One whose
    lease ends with a `ServiceError` that counts against the endpoint, or with any other error than a `ServiceError`,
    is closed.
    """

    def __init__(
        self,
        open_one: Callable[[], T],
        close_one: Callable[[T], None],
        healthy: Callable[[T, float], bool],
        size: int,
        check_after_s: float = 10.0,
        clock: Clock = perf_counter_ns,
    ) -> None:
        if size < 1:
            raise ValueError(f"a pool needs room for at least 1, got {size}")
        self._open_one, self._close_one, self._healthy = open_one, close_one, healthy
        self._size, self._check_after_ns, self._clock = size, round(check_after_s * 1e9), clock
        self._idle: deque[tuple[T, int]] = deque()
        """What is free, and the clock's time since which it is."""
        self._counters = PoolCounters()
        self._open = 0
        self._closed = False
        self._changed = Condition(Lock())

    def warm(self, count: int, connect: Callable[[T], object]) -> None:
        """Open resources until `count` are there, and have each pay for its first use with `connect`."""
        while True:
            with self._changed:
                if self._open >= min(count, self._size):
                    return
                self._open += 1
            resource = self._new()
            connect(resource)
            self._give_back(resource)

    def lease(self, deadline: Deadline) -> AbstractContextManager[T]:
        """A resource for the time of the block.

        Raises:
            OverloadedError: All are leased until the deadline.
        """
        return _Lease(self, deadline)

    def counters(self) -> dict[str, int]:
        """The counters now."""
        with self._changed:
            counters = self._counters
            counters.idle = len(self._idle)
            counters.in_use = self._open - counters.idle
            return asdict(counters)

    def close(self) -> None:
        """Close everything that is idle, and what is leased when it comes back."""
        with self._changed:
            self._closed = True
            idle = [resource for resource, _ in self._idle]
            self._idle.clear()
            self._open -= len(idle)
            self._counters.closed += len(idle)
            self._changed.notify_all()
        for resource in idle:
            self._close_one(resource)

    def _take(self, deadline: Deadline) -> T:
        while True:
            with self._changed:
                if not self._idle and self._open >= self._size:
                    self._wait(deadline)
                if self._closed:
                    raise RuntimeError("the pool is closed")
                resource: T | None = None
                if self._idle:
                    resource, since_ns = self._idle.pop()
                    if self._clock() - since_ns < self._check_after_ns:
                        self._counters.leases += 1
                        self._counters.hits += 1
                        return resource
                else:
                    self._open += 1
            if resource is None:
                return self._leased(self._new(), hits=0)
            if self._healthy(resource, min(HEALTH_TIMEOUT_S, deadline.remaining_s)):
                return self._leased(resource, hits=1)
            with self._changed:
                self._counters.unhealthy += 1
            self._discard(resource)

    def _leased(self, resource: T, hits: int) -> T:
        with self._changed:
            self._counters.leases += 1
            self._counters.hits += hits
        return resource

    def _wait(self, deadline: Deadline) -> None:
        counters, started_ns = self._counters, self._clock()
        counters.waited += 1
        free = self._changed.wait_for(
            lambda: self._idle or self._open < self._size or self._closed, deadline.remaining_s
        )
        counters.waited_ns += self._clock() - started_ns
        if not free:
            counters.timed_out += 1
            raise OverloadedError(
                f"all {self._size} connections of the pool were in use until the deadline. "
                "Send less at once, or make the pool larger: option size of the connection"
            )

    def _new(self) -> T:
        try:
            resource = self._open_one()
        except BaseException:
            with self._changed:
                self._open -= 1
                self._changed.notify()
            raise
        with self._changed:
            self._counters.opened += 1
        return resource

    def _give_back(self, resource: T) -> None:
        with self._changed:
            if not self._closed:
                self._idle.append((resource, self._clock()))
                self._changed.notify()
                return
        self._discard(resource)

    def _discard(self, resource: T) -> None:
        with self._changed:
            self._open -= 1
            self._counters.closed += 1
            self._changed.notify()
        self._close_one(resource)
