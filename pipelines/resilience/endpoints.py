"""Several endpoints of one service: calls go to the least loaded, and round those whose breaker is open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock
from time import perf_counter_ns
from typing import Generic, TypeVar

from pipelines.resilience.breaker import Breaker, BreakerPolicy, Listener, Permit
from pipelines.resilience.deadline import Clock
from pipelines.resilience.errors import CircuitOpenError, ServiceError

T = TypeVar("T")


@dataclass(slots=True)
class Endpoint(Generic[T]):
    """One place that serves calls.

    Attributes:
        name: For messages and metrics, e.g. its address.
        target: What a call needs to reach it, e.g. a pool of connections.
        breaker: Its own circuit breaker.
        in_flight: Calls that are under way to it.
        picked: Calls that went to it so far.
    """

    name: str
    target: T
    breaker: Breaker
    in_flight: int = 0
    picked: int = 0


@dataclass(slots=True)
class Pick(Generic[T]):
    """An endpoint for one call. Exactly one of its methods must be called when the call ends."""

    endpoint: Endpoint[T]
    _permit: Permit
    _lock: Lock

    def succeeded(self) -> None:
        """The endpoint answered."""
        self._left()
        self._permit.succeeded()

    def failed(self, error: BaseException) -> None:
        """The call failed; whether that speaks against the endpoint, the error says."""
        self._left()
        if not isinstance(error, ServiceError):
            self._permit.abandoned()
        elif error.counts:
            self._permit.failed()
        else:
            self._permit.succeeded()  # it answered, if only that the request was wrong

    def _left(self) -> None:
        with self._lock:
            self.endpoint.in_flight -= 1


class Endpoints(Generic[T]):
    """Thread-safe choice among endpoints."""

    def __init__(
        self,
        targets: Sequence[tuple[str, T]],
        policy: BreakerPolicy | None = None,
        clock: Clock = perf_counter_ns,
        listener: Listener | None = None,
    ) -> None:
        if not targets:
            raise ValueError("a service needs at least one endpoint")
        self.all = tuple(Endpoint(name, target, Breaker(name, policy, clock, listener)) for name, target in targets)
        self._lock = Lock()

    def pick(self, tried: Sequence[Endpoint[T]] = (), only: Endpoint[T] | None = None) -> Pick[T]:
        """The least loaded endpoint that may be called; of equals the one that was picked least.

        Args:
            tried: Endpoints that this call tried before; they come last.
            only: The one that it must be.

        Raises:
            CircuitOpenError: None may be called.
        """
        among = self.all if only is None else (only,)
        with self._lock:
            for endpoint in sorted(among, key=lambda item: (item in tried, item.in_flight, item.picked)):
                try:
                    permit = endpoint.breaker.acquire()
                except CircuitOpenError:
                    continue
                endpoint.in_flight += 1
                endpoint.picked += 1
                return Pick(endpoint, permit, self._lock)
        names = ", ".join(endpoint.name for endpoint in among)
        wait_s = min(endpoint.breaker.remaining_s() for endpoint in among)
        raise CircuitOpenError(
            f"no endpoint may be called, the circuit breakers of {names} are open. Try again in {wait_s:.2f} s, "
            "and see whether they run: amira triton status",
            retry_after_s=wait_s,
        )
