"""One call to a service, with everything around it: deadline, endpoint, breaker, retries under a budget."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from random import Random
from typing import Generic, TypeVar

from pipelines.resilience.deadline import Deadline
from pipelines.resilience.endpoints import Endpoint, Endpoints, Pick
from pipelines.resilience.errors import ServiceError
from pipelines.resilience.retry import Backoff, RetryBudget

T = TypeVar("T")
R = TypeVar("R")


@dataclass(slots=True)
class CallPolicy:
    """What the callers of one service share."""

    backoff: Backoff = field(default_factory=Backoff)
    budget: RetryBudget = field(default_factory=RetryBudget)
    rng: Random = field(default_factory=Random)


class Attempts(Generic[T]):
    """The attempts of one call: which endpoint is next, and how long to wait before it. Does no I/O."""

    def __init__(
        self,
        endpoints: Endpoints[T],
        policy: CallPolicy,
        deadline: Deadline,
        idempotent: bool,
        only: Endpoint[T] | None = None,
    ) -> None:
        """Call one of `endpoints`, or `only` that one."""
        self._endpoints, self._policy, self._deadline, self._idempotent = endpoints, policy, deadline, idempotent
        self._only = only
        self.tried: list[Endpoint[T]] = []
        """The endpoints of the attempts so far."""
        policy.budget.called()

    def next(self) -> Pick[T]:
        """The endpoint of the next attempt.

        Raises:
            ServiceError: The deadline has passed, or no endpoint may be called.
        """
        self._deadline.check("the call was made")
        pick = self._endpoints.pick(self.tried, self._only)
        self.tried.append(pick.endpoint)
        return pick

    def wait_s(self, error: ServiceError) -> float | None:
        """How long to wait before trying again; `None` when `error` is the call's answer.

        A call that is not idempotent is never repeated: whether the service did the work is unknown.
        """
        if not (self._idempotent and error.retryable):
            return None
        delay_s = self._policy.backoff.delay_s(len(self.tried), self._policy.rng)
        if delay_s is None or delay_s >= self._deadline.remaining_s or not self._policy.budget.take():
            return None
        return delay_s


def call(attempts: Attempts[T], make: Callable[[T], R], sleep: Callable[[float], None] = time.sleep) -> R:
    """Make a call until it is answered or must not be repeated.

    Args:
        attempts: Whom to call, and how often.
        make: Makes the call; failures of the service must be `ServiceError`.
        sleep: Waits between attempts.

    Raises:
        ServiceError: The last attempt's error.
    """
    while True:
        pick = attempts.next()
        try:
            result = make(pick.endpoint.target)
        except ServiceError as error:
            pick.failed(error)
            wait_s = attempts.wait_s(error)
            if wait_s is None:
                raise
        except BaseException as error:
            pick.failed(error)
            raise
        else:
            pick.succeeded()
            return result
        sleep(wait_s)


async def call_async(attempts: Attempts[T], make: Callable[[T], Awaitable[R]]) -> R:
    """As `call`, on an event loop.

    Raises:
        ServiceError: The last attempt's error.
    """
    while True:
        pick = attempts.next()
        try:
            result = await make(pick.endpoint.target)
        except ServiceError as error:
            pick.failed(error)
            wait_s = attempts.wait_s(error)
            if wait_s is None:
                raise
        except BaseException as error:
            pick.failed(error)
            raise
        else:
            pick.succeeded()
            return result
        await asyncio.sleep(wait_s)
