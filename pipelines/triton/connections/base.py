"""What every way of reaching a Triton has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from time import perf_counter_ns
from types import TracebackType
from typing import Any, Self

import numpy.typing as npt

from pipelines.resilience import Deadline

Tensors = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Turn:
    """The place of a call in its sequence, for models that keep state.

    Attributes:
        sequence: Id of the sequence, not 0.
        start: Whether this is its first call.
        end: Whether this is its last call.
    """

    sequence: int
    start: bool = False
    end: bool = False


@dataclass(frozen=True, slots=True)
class Call:
    """One inference.

    Attributes:
        model: Name of the model on the server.
        inputs: Input tensors by name, C-contiguous.
        outputs: Names of the outputs that are wanted.
        deadline: By when the answer must be there; the server is told, too.
        turn: Its place in a sequence; `None` for a model without state.
        request_id: Shows in the server's log and traces.
        traceparent: W3C trace context for the server's own spans; a stream's messages cannot have one.
    """

    model: str
    inputs: Tensors
    outputs: tuple[str, ...]
    deadline: Deadline
    turn: Turn | None = None
    request_id: str = ""
    traceparent: str | None = None

    @property
    def metadata(self) -> tuple[tuple[str, str], ...] | None:
        """What goes with the request beside its message."""
        return None if self.traceparent is None else (("traceparent", self.traceparent),)


@dataclass(slots=True)
class Reply:
    """The answer to a call.

    Attributes:
        outputs: Output tensors by name; they may be read only, and are the caller's.
        marks_ns: `perf_counter_ns` of the client's own steps, by name: `start` (the call came in), `leased` (a
            connection was at hand), `serialised` (the request was ready), `received` (the answer was there), `end`.
    """

    outputs: dict[str, npt.NDArray[Any]] = field(default_factory=dict)
    marks_ns: dict[str, int] = field(default_factory=dict)

    def mark(self, name: str) -> None:
        """Note the time."""
        self.marks_ns[name] = perf_counter_ns()


class Channel(ABC):
    """A way to the server that one caller has for itself, for one call or a chain of them."""

    @abstractmethod
    def infer(self, call: Call) -> Reply:
        """Make a call.

        Raises:
            ServiceError: There was no answer, or the server says that the call is wrong.
        """


class Connection(ABC):
    """A way of reaching one endpoint. A context manager: what it opened is closed at the end of the block."""

    def __init__(self, url: str) -> None:
        self.url = url

    def infer(self, call: Call) -> Reply:
        """Make one call.

        Raises:
            ServiceError: There was no answer, or the server says that the call is wrong.
        """
        start_ns = perf_counter_ns()
        with self.lease(call.deadline) as channel:
            leased_ns = perf_counter_ns()
            reply = channel.infer(call)
        reply.marks_ns |= {"start": start_ns, "leased": leased_ns, "end": perf_counter_ns()}
        return reply

    @abstractmethod
    def lease(self, deadline: Deadline) -> AbstractContextManager[Channel]:
        """A channel for a chain of calls that belong together.

        Raises:
            ServiceError: There is none before the deadline.
        """

    def counters(self) -> dict[str, int]:
        """What the connection counts, by name; for metrics."""
        return {}

    def __enter__(self) -> Self:
        self._open_impl()
        return self

    def _open_impl(self) -> None:  # noqa: B027 - nothing to get ready is fine
        """Get ready for the first call."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close_impl()

    @abstractmethod
    def _close_impl(self) -> None:
        """Close everything."""


def check(call: Call, limit_bytes: int) -> None:
    """See that a call can be sent.

    Raises:
        ValueError: A tensor is not C-contiguous, or all together are too large for one message.
    """
    size = 0
    for name, value in call.inputs.items():
        if not value.flags.c_contiguous:
            raise ValueError(f"input '{name}' of model '{call.model}' must be C-contiguous")
        size += value.nbytes
    if size > limit_bytes:
        raise ValueError(
            f"the inputs of model '{call.model}' are {size / 2**20:.1f} MiB, more than one message may have "
            f"({limit_bytes / 2**20:.1f} MiB). Send less at once, or raise max_message_mib of the connection"
        )
