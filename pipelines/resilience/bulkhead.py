"""A bulkhead: a bounded number of calls under way, a bounded number waiting, everyone else turned away at once.

A call is also turned away when its deadline would pass while it waits. How long it would wait is estimated from how
long calls took lately (an exponential average), so that an overloaded service does no work that nobody waits for.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from threading import Condition
from time import perf_counter_ns

from pipelines.resilience.deadline import Clock, Deadline
from pipelines.resilience.errors import OverloadedError

_SMOOTHING = 0.2
"""Weight of the latest call in the average of how long calls take."""


@dataclass(slots=True)
class Slots:
    """The bookkeeping of a bulkhead, without locks and waiting.

    Attributes:
        limit: Calls under way at most.
        max_waiting: Callers that wait at most.
        in_flight: Calls under way.
        waiting: Callers that wait.
        shed: Callers that were turned away.
        service_s: How long a call takes, on average; 0 as long as that is unknown.
    """

    limit: int
    max_waiting: int
    in_flight: int = 0
    waiting: int = 0
    shed: int = 0
    service_s: float = 0.0

    def __post_init__(self) -> None:
        if self.limit < 1 or self.max_waiting < 0:
            raise ValueError(f"a bulkhead needs limit >= 1 and max_waiting >= 0, got {self.limit}, {self.max_waiting}")

    def admit(self, deadline: Deadline) -> bool:
        """Whether the caller may go ahead now; if not, it may wait.

        Raises:
            OverloadedError: It may not even wait.
        """
        if self.in_flight < self.limit and not self.waiting:
            self.in_flight += 1
            return True
        wait_s = self.expected_wait_s()
        if self.waiting >= self.max_waiting or wait_s > deadline.remaining_s:
            raise self.turned_away(wait_s)
        self.waiting += 1
        return False

    def expected_wait_s(self) -> float:
        """How long one more caller would wait."""
        return self.service_s * (self.waiting + 1) / self.limit

    def turned_away(self, wait_s: float) -> OverloadedError:
        """Count a caller that is turned away; the error that says so."""
        self.shed += 1
        return OverloadedError(
            f"{self.in_flight} calls are under way (limit {self.limit}) and {self.waiting} wait "
            f"(at most {self.max_waiting}). Try again later, or send less at once",
            retry_after_s=wait_s,
        )

    def finished(self, took_s: float) -> None:
        """A call under way has ended."""
        self.in_flight -= 1
        self.service_s += (took_s - self.service_s) * (_SMOOTHING if self.service_s else 1.0)


class Bulkhead:
    """For threads. Callers that wait are served in the order in which they came."""

    def __init__(self, limit: int, max_waiting: int, clock: Clock = perf_counter_ns) -> None:
        self.slots = Slots(limit, max_waiting)
        self._clock = clock
        self._queue: deque[object] = deque()
        self._changed = Condition()

    @contextmanager
    def enter(self, deadline: Deadline) -> Iterator[None]:
        """One of the slots for the time of the block.

        Raises:
            OverloadedError: There is none, and none before the deadline.
        """
        with self._changed:
            if not self.slots.admit(deadline):
                self._wait(deadline)
        started_ns = self._clock()
        try:
            yield
        finally:
            with self._changed:
                self.slots.finished((self._clock() - started_ns) / 1e9)
                self._changed.notify_all()

    def _wait(self, deadline: Deadline) -> None:
        slots, ticket = self.slots, object()
        self._queue.append(ticket)
        try:
            if not self._changed.wait_for(
                lambda: self._queue[0] is ticket and slots.in_flight < slots.limit, deadline.remaining_s
            ):
                raise slots.turned_away(slots.expected_wait_s())
            slots.in_flight += 1
        finally:
            self._queue.remove(ticket)
            slots.waiting -= 1
            self._changed.notify_all()


class AsyncBulkhead:
    """For asyncio: the same rules, on one event loop."""

    def __init__(self, limit: int, max_waiting: int, clock: Clock = perf_counter_ns) -> None:
        self.slots = Slots(limit, max_waiting)
        self._clock = clock
        self._queue: deque[asyncio.Future[None]] = deque()

    @asynccontextmanager
    async def enter(self, deadline: Deadline) -> AsyncIterator[None]:
        """One of the slots for the time of the block.

        Raises:
            OverloadedError: There is none, and none before the deadline.
        """
        if not self.slots.admit(deadline):
            await self._wait(deadline)
        started_ns = self._clock()
        try:
            yield
        finally:
            self.slots.finished((self._clock() - started_ns) / 1e9)
            self._hand_on()

    async def _wait(self, deadline: Deadline) -> None:
        slots = self.slots
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append(turn)
        try:
            async with asyncio.timeout(deadline.remaining_s):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                slots.in_flight -= 1  # the slot was handed over in the very moment in which we gave up
                self._hand_on()
            else:
                self._queue.remove(turn)
            if isinstance(error, TimeoutError):
                raise slots.turned_away(slots.expected_wait_s()) from error
            raise
        finally:
            slots.waiting -= 1

    def _hand_on(self) -> None:
        while self._queue and self.slots.in_flight < self.slots.limit:
            turn = self._queue.popleft()
            if not turn.done():
                self.slots.in_flight += 1
                turn.set_result(None)
