"""A session that survives interruptions: audio in, partials and finals out, reconnected and resumed as needed."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections import deque
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic
from types import TracebackType
from typing import Any

import msgspec

from amira_client.connection import Connection
from amira_client.errors import AmiraClientError, ConnectionLostError, ServerError
from amira_client.messages import Closing, Error, Final, Finish, Flush, Partial, Ready, ServerMessage, Start
from amira_client.replay import Replay

_WIDTHS = {"pcm_s16le": 2, "pcm_f32le": 4, "mulaw": 1, "alaw": 1}
_AHEAD_MARGIN = 0.8
"""How much of the allowed head start is used: clocks differ, and messages take time."""


@dataclass(frozen=True, slots=True)
class Retry:
    """How a broken connection is opened again.

    Attributes:
        attempts: Failures in a row before the error is raised; a message of the server sets them back.
        base_s: Longest wait before the first new attempt; it doubles with each failure.
        cap_s: Longest wait of all.
    """

    attempts: int = 6
    base_s: float = 0.2
    cap_s: float = 5.0

    def delay_s(self, failures: int) -> float:
        """A random wait: clients that were cut off together must not come back together."""
        return random.uniform(0.0, min(self.cap_s, self.base_s * 2.0 ** (failures - 1)))


@dataclass(slots=True)
class StreamOptions:
    """Where a stream connects and what it asks for.

    Attributes:
        url: The server, e.g. `ws://localhost:8080`.
        start: The first message; see the protocol.
        token: Bearer token.
        headers: More headers of the handshake.
        ssl_context: For `wss://` with certificates of one's own.
        retry: How a broken connection is opened again.
    """

    url: str
    start: Start
    token: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    ssl_context: ssl.SSLContext | None = None
    retry: Retry = field(default_factory=Retry)


class Stream:
    """Use it as an async context manager: `send` audio, iterate over what the server says, `finish`."""

    def __init__(self, options: StreamOptions) -> None:
        self._options = options
        start = options.start
        width = _WIDTHS.get(start.encoding, 1)  # the server says what is wrong with one that does not exist
        self._bytes_per_s = start.sample_rate * width
        self._replay = Replay(start.sample_rate, width)
        self._connection: Connection | None = None
        self._ready: Ready | None = None
        self._outgoing: deque[bytes | str] = deque()
        self._changed = asyncio.Event()  # there is something to send
        self._progress = asyncio.Event()  # something was sent, or nothing will be any more
        self._events: asyncio.Queue[Partial | Final | None] = asyncio.Queue()
        self._runner: asyncio.Task[None] | None = None
        self._failure: BaseException | None = None
        self._finishing = False
        self._sent_bytes = 0
        self._ready_at = 0.0
        self.reconnects = 0
        """How often the connection was opened again."""

    @property
    def session(self) -> str | None:
        """Id of the session on the server, once it is ready."""
        return self._ready.session if self._ready else None

    async def __aenter__(self) -> Stream:
        self._runner = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Drop the session; `finish` first to hear the rest."""
        if self._runner is not None:
            self._runner.cancel()
            await asyncio.gather(self._runner, return_exceptions=True)
        if self._connection is not None:
            await self._connection.close()
            self._connection = None

    async def send(self, audio: bytes) -> None:
        """Send audio; waits while it would be too far ahead of real time, or the network does not take it.

        Raises:
            AmiraClientError: The session failed for good.
        """
        self._put(audio)
        while len(self._outgoing) > 1 and self._failure is None:
            self._progress.clear()
            await self._progress.wait()
        self._raise()

    async def flush(self) -> None:
        """End the running segment; a final with cause `flush` will come."""
        self._put("flush")

    async def finish(self) -> None:
        """There is no more audio; after the last final the iteration ends."""
        self._finishing = True
        self._put("finish")

    def __aiter__(self) -> AsyncIterator[Partial | Final]:
        return self

    async def __anext__(self) -> Partial | Final:
        event = await self._events.get()
        if event is None:
            self._events.put_nowait(None)
            self._raise()
            raise StopAsyncIteration
        return event

    def _put(self, item: bytes | str) -> None:
        self._raise()
        self._replay.add(item)
        self._outgoing.append(item)
        self._changed.set()

    def _raise(self) -> None:
        if self._failure is not None:
            raise self._failure

    async def _run(self) -> None:
        failures = 0
        try:
            while True:
                before = self._replay.start_ms, self._ready
                try:
                    await self._converse()
                    return
                except (ConnectionLostError, ServerError) as error:
                    if isinstance(error, ServerError) and not error.retryable:
                        raise
                    progressed = (self._replay.start_ms, self._ready) != before
                    failures = 1 if progressed else failures + 1
                    if failures > self._options.retry.attempts:
                        raise
                    await asyncio.sleep(self._delay_s(error, failures))
                    self.reconnects += 1
        except AmiraClientError as error:
            self._failure = error
        finally:
            self._events.put_nowait(None)
            self._progress.set()

    def _delay_s(self, error: AmiraClientError, failures: int) -> float:
        least_ms = error.retry_after_ms if isinstance(error, ServerError) else None
        return (least_ms or 0) / 1_000 + self._options.retry.delay_s(failures)

    async def _converse(self) -> None:
        options = self._options
        connection = await Connection.open(
            options.url, token=options.token, headers=options.headers, ssl_context=options.ssl_context
        )
        self._connection = connection
        sender: asyncio.Task[Any] | None = None
        try:
            with suppress(ConnectionLostError):  # refused already: what it says about that is received below
                connection.send(
                    msgspec.structs.replace(
                        options.start, resume_ms=self._replay.start_ms, resume_segment=self._replay.segment
                    )
                )
            # What was not settled is sent again, and what was never sent is the end of it.
            self._outgoing = deque(self._replay.items)
            while True:
                message = await connection.receive()
                if isinstance(message, Ready):
                    self._ready, self._sent_bytes, self._ready_at = message, 0, monotonic()
                    sender = asyncio.create_task(self._send_all(connection, message))
                elif self._heard(message):
                    return
        finally:
            if sender is not None:
                sender.cancel()
                await asyncio.gather(sender, return_exceptions=True)
            await connection.close()
            self._connection = None

    def _heard(self, message: ServerMessage) -> bool:
        """Take a message; whether it was the last."""
        if isinstance(message, Error):
            raise ServerError(message.code, message.message, message.retryable, message.retry_after_ms)
        if isinstance(message, Closing):
            return message.reason == "finished"
        if isinstance(message, Final):
            self._replay.settled(message)
        if isinstance(message, Partial | Final):
            self._events.put_nowait(message)
        return False

    async def _send_all(self, connection: Connection, ready: Ready) -> None:
        try:
            while True:
                while self._outgoing:
                    item = self._outgoing[0]
                    await connection.writable()
                    if isinstance(item, bytes):
                        await self._pace(len(item), ready)
                        for at in range(0, len(item), ready.max_message_bytes):
                            connection.send_audio(item[at : at + ready.max_message_bytes])
                        self._sent_bytes += len(item)
                    else:
                        connection.send(Flush() if item == "flush" else Finish())
                    self._outgoing.popleft()
                    self._progress.set()
                self._changed.clear()
                await self._changed.wait()
        except ConnectionLostError:
            return  # the receiving side has noticed, too, and knows why

    async def _pace(self, count: int, ready: Ready) -> None:
        ahead_s = (self._sent_bytes + count) / self._bytes_per_s - (monotonic() - self._ready_at)
        allowed_s = ready.max_ahead_ms / 1_000 * _AHEAD_MARGIN
        if ahead_s > allowed_s:
            await asyncio.sleep(ahead_s - allowed_s)
