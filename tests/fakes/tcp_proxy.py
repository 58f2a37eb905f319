"""A TCP proxy between a client and a real server that counts connections and can be told to misbehave."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self


class TcpProxy:
    """Forwards `127.0.0.1:port` to a target. Its faults can be changed while connections are open."""

    def __init__(self, target: str) -> None:
        host, _, port = target.partition(":")
        self._target = (host, int(port))
        self.accepted = 0
        """Connections that were accepted so far."""
        self.delay_s = 0.0
        """How long each piece of data is held back, in both directions."""
        self.trickle = False
        """Whether data goes on byte by byte, a few hundred a second."""
        self.silent = False
        """Whether what arrives is swallowed."""
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    @property
    def open(self) -> int:
        """Client connections that are open now."""
        return len(self._writers) // 2

    def cut(self) -> None:
        """Close all connections in an orderly way."""
        self._do(self._end(reset=False))

    def reset(self) -> None:
        """Reset all connections, as a crashed machine's router would."""
        self._do(self._end(reset=True))

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = self._do(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.url = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._do(self._stop_listening())
        self.cut()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _stop_listening(self) -> None:
        self._server.close()

    def _do(self, what: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(what, self._loop).result()

    async def _end(self, reset: bool) -> None:
        for writer in list(self._writers):
            if reset:
                linger = struct.pack("ii", 1, 0)
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                writer.transport.abort()
            else:
                writer.close()
        await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        try:
            there, back = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, back}
        pumps = [asyncio.create_task(self._pump(*pair)) for pair in ((reader, back), (there, writer))]
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
        for end in (writer, back):
            end.close()
        self._writers -= {writer, back}

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            if self.silent:
                continue
            if self.trickle:
                for byte in data:
                    writer.write(bytes([byte]))
                    await asyncio.sleep(0.004)
            else:
                writer.write(data)
            await writer.drain()
