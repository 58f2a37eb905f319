"""One WebSocket connection that speaks the protocol; nothing is kept and nothing is retried here."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections import deque
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

import msgspec
from picows import WSError, WSFrame, WSHandshakeError, WSListener, WSMsgType, WSTransport, ws_connect

from amira_client.errors import ConnectionLostError, HandshakeError
from amira_client.messages import ClientMessage, ServerMessage

SUBPROTOCOL = "amira.asr.v1"
_decoder = msgspec.json.Decoder(ServerMessage)
_encoder = msgspec.json.Encoder()
_quiet = logging.LoggerAdapter(logging.getLogger("amira_client.picows"), {})
logging.getLogger("amira_client.picows").addHandler(logging.NullHandler())

OnMessage = Callable[[ServerMessage], None]


class Connection(WSListener):
    """Open one with `Connection.open`. Messages go to `on_message`, or wait for `receive` where there is none."""

    def __init__(self, on_message: OnMessage | None = None) -> None:
        self._on_message = on_message
        self._messages: deque[ServerMessage] = deque()
        self._waiting: asyncio.Future[None] | None = None
        self._transport: WSTransport | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._error: Exception | None = None
        self.closed = asyncio.Event()
        self.close_code: int | None = None

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
        ssl_context: ssl.SSLContext | None = None,
        timeout_s: float = 10.0,
        on_message: OnMessage | None = None,
    ) -> Connection:
        """Connect.

        Args:
            url: The server, e.g. `ws://localhost:8080`; the path may be left out.
            token: Bearer token.
            headers: More headers of the handshake, e.g. `traceparent`.
            ssl_context: For `wss://` with certificates of one's own.
            timeout_s: For the whole handshake.
            on_message: Called with each message as it comes; it must not block.

        Raises:
            HandshakeError: The server refused.
            ConnectionLostError: It cannot be reached.
        """
        wanted = {"Sec-WebSocket-Protocol": SUBPROTOCOL, **(headers or {})}
        if token is not None:
            wanted["Authorization"] = f"Bearer {token}"
        connection = cls(on_message)
        try:
            async with asyncio.timeout(timeout_s):
                await ws_connect(
                    lambda: connection,
                    full_url(url),
                    ssl_context=ssl_context,
                    websocket_handshake_timeout=timeout_s,
                    logger_name=_quiet,
                    extra_headers=wanted,
                    max_redirects=0,
                    read_buffer_init_size=4_096,
                )
        except WSHandshakeError as error:
            raise HandshakeError(_refusal(url, error)) from error
        except TimeoutError as error:
            raise ConnectionLostError(f"{url} did not answer the handshake within {timeout_s} s") from error
        except (OSError, WSError) as error:
            raise ConnectionLostError(f"{url} cannot be reached: {error}") from error
        return connection

    def send(self, message: ClientMessage) -> None:
        """Send a message.

        Raises:
            ConnectionLostError: The connection is closed.
        """
        self._open_transport().send(WSMsgType.TEXT, _encoder.encode(message))

    def send_audio(self, data: bytes) -> None:
        """Send audio. Heed `writable` to give a slow network time.

        Raises:
            ConnectionLostError: The connection is closed.
        """
        self._open_transport().send(WSMsgType.BINARY, data)

    async def writable(self) -> None:
        """Wait until the socket takes more."""
        if not self._writable.is_set():
            await self._writable.wait()

    async def receive(self) -> ServerMessage:
        """The next message.

        Raises:
            ConnectionLostError: The connection is closed and everything was received.
        """
        while not self._messages:
            if self.closed.is_set():
                raise self._lost()
            self._waiting = asyncio.get_running_loop().create_future()
            await self._waiting
        return self._messages.popleft()

    async def close(self) -> None:
        """Close the connection, two seconds at most for the other side to say goodbye."""
        transport = self._transport
        if transport is None or self.closed.is_set():
            return
        transport.send_close(1000)  # type: ignore[arg-type]  # picows takes any number
        try:
            async with asyncio.timeout(2.0):
                await self.closed.wait()
        except TimeoutError:
            transport.disconnect(False)

    def abort(self) -> None:
        """Drop the connection without a word."""
        if self._transport is not None:
            self._transport.disconnect(False)

    @property
    def transport(self) -> WSTransport:
        """The connection of picows below, for what this class has no word for."""
        return self._open_transport()

    def _open_transport(self) -> WSTransport:
        if self._transport is None or self._transport.is_disconnected:
            raise self._lost()
        return self._transport

    def _lost(self) -> Exception:
        return self._error or ConnectionLostError(f"the connection is closed (code {self.close_code})", self.close_code)

    # Called by picows.

    def on_ws_connected(self, transport: WSTransport) -> None:
        """The handshake is done."""
        self._transport = transport

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """A frame came."""
        if frame.msg_type == WSMsgType.TEXT:
            try:
                message = _decoder.decode(frame.get_payload_as_memoryview())
            except msgspec.DecodeError as error:
                self._error = ConnectionLostError(f"the server sent what is not a message of the protocol: {error}")
                transport.disconnect(False)
                return
            if self._on_message is not None:
                self._on_message(message)
            else:
                self._messages.append(message)
                self._wake()
        elif frame.msg_type == WSMsgType.CLOSE:
            self.close_code = int(frame.get_close_code())  # type: ignore[call-overload]  # an IntEnum
            transport.send_close(frame.get_close_code())
            transport.disconnect()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """The connection is gone."""
        self.closed.set()
        self._writable.set()
        self._wake()

    def pause_writing(self) -> None:
        """The socket is full."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """The socket takes more."""
        self._writable.set()

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)


def full_url(url: str) -> str:
    """The address of the stream below a server's address.

    Raises:
        HandshakeError: It is no WebSocket address.
    """
    parts = urlsplit(url)
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
    if scheme not in ("ws", "wss") or not parts.netloc:
        raise HandshakeError(f"'{url}' is not the address of a server; it looks like ws://localhost:8080")
    path = parts.path if parts.path not in ("", "/") else "/v1/stream"
    return f"{scheme}://{parts.netloc}{path}" + (f"?{parts.query}" if parts.query else "")


def _refusal(url: str, error: WSHandshakeError) -> str:
    body = getattr(error, "raw_body", None) or b""
    return f"{url} refused the connection: {error}. {body[:500].decode('utf-8', 'replace')}".strip()
