"""Triton as its callers see it: one or several endpoints behind deadlines, retries, breakers and a bulkhead."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from pipelines.resilience import (
    Attempts,
    BreakerPolicy,
    Bulkhead,
    CallPolicy,
    Deadline,
    Endpoint,
    Endpoints,
    call,
    hedged,
)
from pipelines.resilience.breaker import Listener
from pipelines.triton.connections.base import Call, Connection, Reply, Tensors, Turn
from pipelines.triton.server import TritonServer
from pipelines.triton.tracing import TRACER


@dataclass(frozen=True, slots=True)
class ServicePolicy:
    """How callers of a service are kept whole.

    Attributes:
        deadline_s: How long a call may take where its caller does not say.
        max_in_flight: Calls under way at most.
        max_waiting: Callers that wait at most; more are turned away.
        breaker: When an endpoint is left alone.
        calls: Retries and their budget.
        hedge_after_s: When a call that may be repeated goes out a second time; `None` for never.
    """

    deadline_s: float = 30.0
    max_in_flight: int = 64
    max_waiting: int = 256
    breaker: BreakerPolicy = field(default_factory=BreakerPolicy)
    calls: CallPolicy = field(default_factory=CallPolicy)
    hedge_after_s: float | None = None


class TritonService:
    """A context manager: it opens its connections, and closes them.

    A call without a sequence is idempotent: the same tensors give the same answer, and nothing is kept. It may be
    repeated, and so may the first call of a sequence, which starts it anew. Any other call of a sequence moves the
    server's state: it is made once, at the endpoint where its sequence started.
    """

    def __init__(
        self,
        connections: Sequence[Connection],
        policy: ServicePolicy | None = None,
        server: TritonServer | None = None,
        listener: Listener | None = None,
    ) -> None:
        """Call through `connections`, one for each endpoint; `server` is the embedded one, if there is one."""
        self.policy = policy or ServicePolicy()
        self.connections = tuple(connections)
        self._server = server
        self.endpoints = Endpoints(
            [(connection.url, connection) for connection in connections], self.policy.breaker, listener=listener
        )
        self.bulkhead = Bulkhead(self.policy.max_in_flight, self.policy.max_waiting)
        self._homes: dict[int, Endpoint[Connection]] = {}
        """Where each sequence lives."""
        self._stack = ExitStack()
        # Threads start when a hedged call needs them: without hedging there is none.
        self._hedges = ThreadPoolExecutor(2 * self.policy.max_in_flight, thread_name_prefix="triton-hedge")

    def need(self, model: str) -> None:
        """See that a model can be called: an embedded server loads it.

        Raises:
            AmiraError: It cannot load it. (Of an endpoint elsewhere the first call finds out.)
        """
        if self._server is not None:
            self._server.load(model)

    def infer(
        self,
        model: str,
        inputs: Tensors,
        outputs: tuple[str, ...],
        deadline: Deadline | None = None,
        turn: Turn | None = None,
        request_id: str = "",
    ) -> Reply:
        """Call a model; see `Call` for the arguments.

        Raises:
            ServiceError: There was no answer, or the server says that the call is wrong.
        """
        by = deadline or Deadline.after(self.policy.deadline_s)
        tracer = TRACER.get()
        with nullcontext() if tracer is None else tracer.call(model) as traceparent:
            return self._infer(Call(model, inputs, outputs, by, turn, request_id, traceparent))

    def _infer(self, request: Call) -> Reply:
        by, turn = request.deadline, request.turn
        hedge_after_s = self.policy.hedge_after_s

        def make() -> Reply:
            attempts = Attempts(self.endpoints, self.policy.calls, by, idempotent=True)
            return call(attempts, lambda connection: connection.infer(request))

        with self.bulkhead.enter(by):
            if turn is not None:
                return self._move(request, turn)
            if hedge_after_s is None:
                return make()
            return hedged(make, hedge_after_s, self.policy.calls.budget, self._hedges)

    def _move(self, request: Call, turn: Turn) -> Reply:
        """Make a call of a sequence."""
        home = None if turn.start else self._homes.get(turn.sequence)
        attempts = Attempts(self.endpoints, self.policy.calls, request.deadline, idempotent=turn.start, only=home)
        try:
            reply = call(attempts, lambda connection: connection.infer(request))
        except BaseException:
            self._homes.pop(turn.sequence, None)  # where its state is, nobody knows
            raise
        if turn.end:
            self._homes.pop(turn.sequence, None)
        elif turn.start:
            self._homes[turn.sequence] = attempts.tried[-1]
        return reply

    def counters(self) -> dict[str, dict[str, int]]:
        """Counters of every endpoint's connection, by endpoint; for metrics."""
        return {connection.url: connection.counters() for connection in self.connections}

    def __enter__(self) -> Self:
        for connection in self.connections:
            self._stack.enter_context(connection)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hedges.shutdown()
        self._stack.close()
