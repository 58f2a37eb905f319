"""The same without asyncio: an event loop on a thread of its own does the work."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Iterator
from threading import Thread
from types import TracebackType
from typing import Any, TypeVar

from amira_client.client import AsyncClient
from amira_client.messages import Final, Partial

T = TypeVar("T")


class Client:
    """A server and how to reach it; use it as a context manager, or `close` it.

    with Client("ws://localhost:8080") as client:
        for event in client.events(chunks, sample_rate=16_000):
            print(event.text)
    """

    def __init__(self, url: str = "ws://localhost:8080", **options: Any) -> None:
        """Take the options of `AsyncClient`."""
        self._client = AsyncClient(url, **options)
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="amira-client", daemon=True)
        self._thread.start()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the thread."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def transcribe(self, audio: bytes, sample_rate: int, **start: Any) -> str:
        """The text of a recording that is at hand as a whole."""
        return self._wait(self._client.transcribe(audio, sample_rate, **start))

    def events(self, audio: Iterable[bytes], sample_rate: int, **start: Any) -> Iterator[Partial | Final]:
        """Send `audio` while it comes and give what the server says, as it says it.

        `audio` is iterated on another thread and may block, like a microphone.

        Raises:
            AmiraClientError: The session failed for good.
        """
        parts = iter(audio)

        async def pulled() -> Any:
            while (part := await asyncio.to_thread(next, parts, None)) is not None:
                yield part

        events = self._client.events(pulled(), sample_rate, **start)
        try:
            while True:
                event: Partial | Final | None = self._wait(anext(events, None))
                if event is None:
                    return
                yield event
        finally:
            self._wait(events.aclose())

    def _wait(self, coroutine: Coroutine[Any, Any, T] | Any) -> T:
        async def run() -> T:
            result: T = await coroutine
            return result

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result()
