"""Errors of a service that another process provides."""

from __future__ import annotations

from pipelines.errors import AmiraError


class ServiceError(AmiraError):
    """A call that the service did not answer.

    Attributes:
        retryable: Whether the same call may work a little later.
        counts: Whether it speaks against the endpoint's health, so that its breaker counts it.
        retry_after_s: When to try again at the earliest, where that is known.
    """

    retryable = False
    counts = False

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class OverloadedError(ServiceError):
    """Turned away before any work was done, because too many calls are under way."""

    retryable = True


class CircuitOpenError(ServiceError):
    """Turned away because the endpoints failed too often lately."""

    retryable = True


class DeadlineExceededError(ServiceError):
    """The answer did not come in time. Whether the service did the work is unknown."""

    counts = True


class ServiceFailedError(ServiceError):
    """The endpoint cannot be reached, broke the connection, or failed inside."""

    retryable = True
    counts = True
