"""What keeps a caller whole when a service is slow, full or gone: deadlines, retries, breakers, bulkheads, endpoints.

Every part decides without doing I/O or sleeping: it is told the time by a clock and says what to do. `caller.py` puts
them together for threads and for asyncio.
"""

from pipelines.resilience.breaker import Breaker, BreakerPolicy, BreakerState, Permit
from pipelines.resilience.bulkhead import AsyncBulkhead, Bulkhead
from pipelines.resilience.caller import Attempts, CallPolicy, call, call_async
from pipelines.resilience.deadline import Deadline
from pipelines.resilience.endpoints import Endpoint, Endpoints
from pipelines.resilience.errors import (
    CircuitOpenError,
    DeadlineExceededError,
    OverloadedError,
    ServiceError,
    ServiceFailedError,
)
from pipelines.resilience.hedge import hedged
from pipelines.resilience.retry import Backoff, RetryBudget

__all__ = [
    "AsyncBulkhead",
    "Attempts",
    "Backoff",
    "Breaker",
    "BreakerPolicy",
    "BreakerState",
    "Bulkhead",
    "CallPolicy",
    "CircuitOpenError",
    "Deadline",
    "DeadlineExceededError",
    "Endpoint",
    "Endpoints",
    "OverloadedError",
    "Permit",
    "RetryBudget",
    "ServiceError",
    "ServiceFailedError",
    "call",
    "call_async",
    "hedged",
]
