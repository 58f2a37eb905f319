"""What most programs need: a client with a server's address, for streams and for whole recordings."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, AsyncIterable, Iterable
from typing import Any

from amira_client.messages import Final, Partial, Start
from amira_client.stream import Retry, Stream, StreamOptions


class AsyncClient:
    """A server and how to reach it."""

    def __init__(
        self,
        url: str = "ws://localhost:8080",
        *,
        token: str | None = None,
        ssl_context: ssl.SSLContext | None = None,
        retry: Retry | None = None,
    ) -> None:
        self._url, self._token, self._ssl, self._retry = url, token, ssl_context, retry or Retry()

    def stream(self, sample_rate: int, *, headers: dict[str, str] | None = None, **start: Any) -> Stream:
        """A session: `async with client.stream(16_000) as stream: ...`.

        Args:
            sample_rate: Samples per second of the audio that will be sent.
            headers: More headers of the handshake, e.g. `traceparent`.
            start: Fields of the protocol's `start`: encoding, language, partials, words, ...
        """
        message = Start(sample_rate=sample_rate, **start)
        return Stream(StreamOptions(self._url, message, self._token, headers or {}, self._ssl, self._retry))

    async def events(
        self, audio: AsyncIterable[bytes] | Iterable[bytes], sample_rate: int, **start: Any
    ) -> AsyncGenerator[Partial | Final, None]:
        """Send all of `audio` and give what the server says, as it says it.

        Raises:
            AmiraClientError: The session failed for good.
        """
        async with self.stream(sample_rate, **start) as stream:

            async def feed() -> None:
                if isinstance(audio, AsyncIterable):
                    async for part in audio:
                        await stream.send(part)
                else:
                    for part in audio:
                        await stream.send(part)
                await stream.finish()

            feeder = asyncio.create_task(feed())
            try:
                async for event in stream:
                    yield event
                await feeder
            finally:
                feeder.cancel()
                await asyncio.gather(feeder, return_exceptions=True)

    async def transcribe(self, audio: bytes, sample_rate: int, **start: Any) -> str:
        """The text of a recording that is at hand as a whole."""
        step = max(1, sample_rate // 5) * 2
        parts = (audio[at : at + step] for at in range(0, len(audio), step))
        events = self.events(parts, sample_rate, partials=False, **start)
        return " ".join([event.text async for event in events if isinstance(event, Final) and event.text])
