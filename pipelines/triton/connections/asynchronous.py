"""`connection/aio`: one asyncio client whose calls share a connection; threads hand their calls to its loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc.aio

from pipelines.resilience import Deadline
from pipelines.triton.connections import wire
from pipelines.triton.connections.base import Call, Channel, Connection, Reply, check


class AsyncClient:
    """For code that runs on an event loop. Open and close it on the loop that uses it."""

    def __init__(self, url: str, limit_bytes: int) -> None:
        self.url, self._limit_bytes = url, limit_bytes
        self._channel: Any = None
        self._infer: Any = None

    async def __aenter__(self) -> AsyncClient:
        self._channel = grpc.aio.insecure_channel(self.url, options=wire.channel_arguments(self._limit_bytes))
        self._infer = wire.method(self._channel, "ModelInfer")
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._channel.close()

    async def infer(self, call: Call) -> Reply:
        """As `Channel.infer`.

        Raises:
            ServiceError: There was no answer, or the server says that the call is wrong.
        """
        check(call, self._limit_bytes)
        reply = Reply()
        request = wire.request(call)
        reply.mark("serialised")
        try:
            response = await self._infer(request, timeout=wire.limited(request, call), metadata=call.metadata)
        except grpc.RpcError as error:
            raise wire.failure(error, self.url, call.model) from error
        reply.mark("received")
        wire.take(response, call, self.url, reply)
        return reply


class _LoopChannel(Channel):
    def __init__(self, client: AsyncClient, loop: asyncio.AbstractEventLoop) -> None:
        self._client, self._loop = client, loop

    def infer(self, call: Call) -> Reply:
        return asyncio.run_coroutine_threadsafe(self._client.infer(call), self._loop).result()


class AsyncConnection(Connection):
    """The asyncio client on a loop of its own thread, for callers that block."""

    def __init__(self, url: str, limit_bytes: int) -> None:
        super().__init__(url)
        self._client = AsyncClient(url, limit_bytes)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="triton-aio", daemon=True)
        self._channel = _LoopChannel(self._client, self._loop)

    def _open_impl(self) -> None:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._client.__aenter__(), self._loop).result()

    @contextmanager
    def lease(self, deadline: Deadline) -> Iterator[Channel]:
        """See `Connection.lease`."""
        yield self._channel

    def tasks(self) -> int:
        """Calls that are under way."""
        return len(asyncio.all_tasks(self._loop))

    def _close_impl(self) -> None:
        asyncio.run_coroutine_threadsafe(self._client.__aexit__(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
