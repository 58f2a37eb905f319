"""A circuit breaker: after too many failures it turns calls away at once, and lets one probe find out when to stop."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from threading import Lock
from time import perf_counter_ns

from pipelines.resilience.deadline import Clock
from pipelines.resilience.errors import CircuitOpenError


class BreakerState(StrEnum):
    """Closed lets calls through, open turns them away, half-open waits for the one probe that is under way."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """When a breaker opens, and for how long.

    Attributes:
        window: Outcomes that are remembered.
        min_calls: Outcomes that must be there before it may open.
        failure_rate: It opens when this part of them failed.
        open_s: How long it stays open before a probe.
    """

    window: int = 20
    min_calls: int = 5
    failure_rate: float = 0.5
    open_s: float = 0.5


Listener = Callable[[BreakerState, BreakerState], None]
"""Is told the old and the new state of a breaker, while the breaker is locked: it must be quick and not call it."""


class Permit:
    """The right to make one call. Exactly one of its methods must be called when the call ends."""

    __slots__ = ("_breaker", "_epoch", "_probe", "_used")

    def __init__(self, breaker: Breaker, epoch: int, probe: bool) -> None:
        self._breaker, self._epoch, self._probe, self._used = breaker, epoch, probe, False

    def succeeded(self) -> None:
        """The endpoint answered, if only to say that the request was wrong."""
        self._end(True)

    def failed(self) -> None:
        """The endpoint did not answer as it should."""
        self._end(False)

    def abandoned(self) -> None:
        """The call ended without saying anything about the endpoint."""
        self._end(None)

    def _end(self, good: bool | None) -> None:
        if self._used:
            raise RuntimeError("a breaker's permit was ended twice")
        self._used = True
        self._breaker._ended(good, self._epoch, self._probe)


class Breaker:
    """Thread-safe. What a call says counts only as long as the breaker is in the state in which the call began."""

    def __init__(
        self,
        name: str,
        policy: BreakerPolicy | None = None,
        clock: Clock = perf_counter_ns,
        listener: Listener | None = None,
    ) -> None:
        self._name, self._policy, self._clock, self._listener = name, policy or BreakerPolicy(), clock, listener
        self._outcomes: deque[bool] = deque(maxlen=self._policy.window)
        self._state = BreakerState.CLOSED
        self._opened_ns = 0
        self._epoch = 0
        self._lock = Lock()

    @property
    def state(self) -> BreakerState:
        """Its state; an open one whose time is over still says `open` until a probe starts."""
        return self._state

    def remaining_s(self) -> float:
        """Seconds until a probe may start; 0 when one may start now or the breaker is not open."""
        with self._lock:
            return self._remaining_s()

    def allows(self) -> bool:
        """Whether `acquire` would give a permit now."""
        with self._lock:
            return self._state is BreakerState.CLOSED or (self._state is BreakerState.OPEN and self._remaining_s() == 0)

    def acquire(self) -> Permit:
        """The right to call.

        Raises:
            CircuitOpenError: It is open, or half-open with its probe under way.
        """
        with self._lock:
            if self._state is BreakerState.CLOSED:
                return Permit(self, self._epoch, probe=False)
            wait_s = self._remaining_s()
            if self._state is BreakerState.OPEN and wait_s == 0:
                self._enter(BreakerState.HALF_OPEN)
                return Permit(self, self._epoch, probe=True)
            raise CircuitOpenError(
                f"{self._name} failed too often and its circuit breaker is {self._state}. "
                f"Try again in {max(wait_s, 0.05):.2f} s",
                retry_after_s=wait_s,
            )

    def _remaining_s(self) -> float:
        if self._state is not BreakerState.OPEN:
            return 0.0
        return max(0.0, self._policy.open_s - (self._clock() - self._opened_ns) / 1e9)

    def _ended(self, good: bool | None, epoch: int, probe: bool) -> None:
        with self._lock:
            if epoch != self._epoch:
                return
            if probe:
                self._probed(good)
            elif good is not None:
                self._outcomes.append(good)
                failures = self._outcomes.count(False)
                if (
                    not good
                    and len(self._outcomes) >= self._policy.min_calls
                    and failures >= self._policy.failure_rate * len(self._outcomes)
                ):
                    self._open()

    def _probed(self, good: bool | None) -> None:
        if good:
            self._outcomes.clear()
            self._enter(BreakerState.CLOSED)
        elif good is None:
            # The probe was given up before it said anything: the next caller may probe at once.
            self._enter(BreakerState.OPEN)
        else:
            self._open()

    def _open(self) -> None:
        self._opened_ns = self._clock()
        self._enter(BreakerState.OPEN)

    def _enter(self, state: BreakerState) -> None:
        before, self._state = self._state, state
        self._epoch += 1
        if self._listener is not None:
            self._listener(before, state)
