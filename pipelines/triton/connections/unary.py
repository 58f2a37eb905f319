"""Connections of one request and one answer at a time: a fresh channel for each call, or a pool of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from pipelines.resilience import Deadline
from pipelines.triton.connections import wire
from pipelines.triton.connections.base import Call, Channel, Connection, Reply, check
from pipelines.triton.connections.pool import HEALTH_TIMEOUT_S, Pool


class _FreshChannel(Channel):
    def __init__(self, url: str, limit_bytes: int) -> None:
        self._url, self._limit_bytes = url, limit_bytes
        self.opened = 0

    def infer(self, call: Call) -> Reply:
        check(call, self._limit_bytes)
        reply = Reply()
        client = wire.Client(self._url, self._limit_bytes)
        self.opened += 1
        try:
            client.infer(call, reply)
        finally:
            client.close()
        return reply


class FreshConnection(Connection):
    """A new TCP and HTTP/2 connection for every call."""

    def __init__(self, url: str, limit_bytes: int) -> None:
        super().__init__(url)
        self._channel = _FreshChannel(url, limit_bytes)

    @contextmanager
    def lease(self, deadline: Deadline) -> Iterator[Channel]:
        """See `Connection.lease`."""
        yield self._channel

    def counters(self) -> dict[str, int]:
        """Connections that were opened so far."""
        return {"opened": self._channel.opened}

    def _close_impl(self) -> None:
        return


class PooledChannel(Channel):
    """A client that stays open."""

    def __init__(self, url: str, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._client = wire.Client(url, limit_bytes)

    def infer(self, call: Call) -> Reply:
        """See `Channel.infer`."""
        check(call, self._limit_bytes)
        reply = Reply()
        self._client.infer(call, reply)
        return reply

    def connect(self) -> None:
        """Make the connection now, so that no first call pays for it; a server that is away is no error yet."""
        self.healthy(HEALTH_TIMEOUT_S)

    def healthy(self, within_s: float) -> bool:
        """Whether the server answers on it."""
        return self._client.alive(within_s)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


class PooledConnection(Connection):
    """A bounded pool of channels, each with a TCP connection of its own."""

    channel: type[Any] = PooledChannel
    """What the pool holds."""

    def __init__(self, url: str, limit_bytes: int, size: int, warm: int, **settings: Any) -> None:
        super().__init__(url)
        self._warm = warm
        kind = self.channel
        self._pool: Pool[Any] = Pool(lambda: kind(url, limit_bytes, **settings), kind.close, kind.healthy, size)

    def lease(self, deadline: Deadline) -> AbstractContextManager[Channel]:
        """See `Connection.lease`."""
        return self._pool.lease(deadline)

    def _open_impl(self) -> None:
        self._pool.warm(self._warm, self.channel.connect)

    def counters(self) -> dict[str, int]:
        """The pool's counters."""
        return self._pool.counters()

    def _close_impl(self) -> None:
        self._pool.close()
