"""Who wants to see the calls to Triton: set around a piece of work, found by the calls that are made in it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import Protocol


class CallTracer(Protocol):
    """Leaves a span for each call."""

    def call(self, model: str) -> AbstractContextManager[str | None]:
        """A span around a call; yields its W3C `traceparent`, for Triton to put its own spans below."""
        ...


TRACER: ContextVar[CallTracer | None] = ContextVar("triton-tracer", default=None)
"""Of the work that this thread does."""
