"""All connections: who gets in, who is watched, and how everybody gets out when the server shuts down."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from time import perf_counter_ns

from server.connection import ENDED, WAITING, Connection
from server.engine import Engine
from server.failures import Refusal
from server.lane import Lane
from server.metrics import Metrics
from server.settings import Settings
from server.tracing import Tracing

log = logging.getLogger(__name__)

WATCH_S = 0.25


class Gateway:
    """The doors of the server."""

    def __init__(
        self, settings: Settings, engine: Engine, lane: Lane, metrics: Metrics, tracing: Tracing, model: str
    ) -> None:
        self.settings, self.limits, self.engine, self.lane = settings, settings.limits, engine, lane
        self.metrics, self.tracing, self.model = metrics, tracing, model
        self.loop = asyncio.get_running_loop()
        self.draining = False
        self.started_ns = perf_counter_ns()
        self._connections: set[Connection] = set()
        self._sessions: set[Connection] = set()
        self._watcher = self.loop.create_task(self._watch())
        self._empty = asyncio.Event()
        self._empty.set()
        metrics.ready.set(1)
        metrics.buffered.set_function(lambda: engine.held.bytes)

    @property
    def ready(self) -> bool:
        """Whether a new session would be taken."""
        return not self.draining and len(self._sessions) < self.settings.limits.max_sessions

    @property
    def session_count(self) -> int:
        """Sessions that are open."""
        return len(self._sessions)

    @property
    def connection_count(self) -> int:
        """Connections that are open."""
        return len(self._connections)

    def full(self) -> bool:
        """Whether one more connection would be one too many."""
        return len(self._connections) >= self.settings.limits.max_connections

    def connected(self, connection: Connection) -> None:
        """A connection is open."""
        self._connections.add(connection)
        self._empty.clear()
        self.metrics.connections.set(len(self._connections))
        if self.draining:
            connection.draining(0)

    def disconnected(self, connection: Connection) -> None:
        """A connection is gone."""
        self._connections.discard(connection)
        self.metrics.connections.set(len(self._connections))
        if not self._connections:
            self._empty.set()

    def admit(self, connection: Connection) -> None:
        """Give a connection its session.

        Raises:
            Refusal: There is none to give.
        """
        limit = self.settings.limits.max_sessions
        if self.draining:
            raise Refusal("draining", "the server shuts down; connect again")
        if len(self._sessions) >= limit:
            raise Refusal("at_capacity", f"all {limit} sessions of this server are taken; try again in a second")
        self._sessions.add(connection)
        self.metrics.active_streams.set(len(self._sessions))

    def released(self, connection: Connection, outcome: str, audio_s: float) -> None:
        """A session ended."""
        self._sessions.discard(connection)
        self.metrics.active_streams.set(len(self._sessions))
        self.metrics.sessions.labels(outcome).inc()
        self.metrics.audio_s.inc(audio_s)

    async def drain(self) -> None:
        """Take nobody new; let the sessions finish within the grace time, then end those that are left."""
        self.draining = True
        self.metrics.ready.set(0)
        grace_ms = self.settings.grace_ms
        log.info("draining: %d sessions have %d ms to finish", len(self._sessions), grace_ms)
        for connection in list(self._connections):
            connection.draining(grace_ms)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._empty.wait(), grace_ms / 1_000)
        left = [connection for connection in self._connections if connection.state not in (WAITING, ENDED)]
        for connection in left:
            connection.failed("draining", f"the server shut down after {grace_ms} ms of grace; connect again")
        with suppress(TimeoutError):
            await asyncio.wait_for(self._empty.wait(), 3.0)
        log.info("drained; %d sessions were cut off", len(left))

    async def close(self) -> None:
        """End what runs in the background."""
        self._watcher.cancel()
        with suppress(asyncio.CancelledError):
            await self._watcher
        await asyncio.to_thread(self.engine.stop)
        await asyncio.to_thread(self.lane.close)
        await asyncio.to_thread(self.tracing.close)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(WATCH_S)
            now_ns = perf_counter_ns()
            for connection in list(self._connections):
                connection.watch(now_ns)
