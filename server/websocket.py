"""Hands WebSocket upgrades from uvicorn to picows, on the same port as HTTP."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

from picows import WSAutoPingStrategy, WSUpgradeRequest, WSUpgradeResponse, WSUpgradeResponseWithListener
from picows.picows import WSProtocol  # type: ignore[attr-defined]

from server.admission import STREAM_PATH, SUBPROTOCOL, origin_allowed
from server.connection import Connection
from server.gateway import Gateway

_READ_BUFFER_BYTES = 4_096
"""Of an idle connection; it grows with the messages."""
_quiet = logging.LoggerAdapter(
    logging.getLogger("picows.server"), {}
)  # a plain logger would get a child per connection


def upgrade_protocol(gateway: Gateway) -> type[WSProtocol]:
    """The class that uvicorn makes for each upgrade; uvicorn gives it the request and then the socket."""
    frame_bytes = 2 * gateway.settings.limits.max_message_bytes + 1_024

    class Upgraded(WSProtocol):  # type: ignore[misc]
        def __init__(self, config: Any, server_state: Any, app_state: dict[str, Any]) -> None:
            super().__init__(
                None, None, False, lambda request: accept(gateway, request), _quiet, True, 5.0,
                False, 10.0, 10.0, WSAutoPingStrategy.PING_WHEN_IDLE, True, frame_bytes, None, _READ_BUFFER_BYTES,
            )  # fmt: skip

        def data_received(self, data: bytes) -> None:
            """The request that uvicorn has read already."""
            view = memoryview(data)
            while view:
                buffer = self.get_buffer(-1)
                count = min(len(buffer), len(view))
                buffer[:count] = view[:count]
                self.buffer_updated(count)
                view = view[count:]

    return Upgraded


def accept(gateway: Gateway, request: WSUpgradeRequest) -> WSUpgradeResponseWithListener:
    """Answer a handshake: a connection, or a status that says what is wrong."""
    headers = request.headers
    path = request.path.partition(b"?")[0].decode("latin-1")
    offered = [name.strip() for name in headers.get("sec-websocket-protocol", "").split(",")]
    if path != STREAM_PATH:
        return _refused(HTTPStatus.NOT_FOUND, f"there is no WebSocket here; connect to {STREAM_PATH}")
    if not origin_allowed(gateway.settings, headers.get("origin"), headers.get("host")):
        return _refused(HTTPStatus.FORBIDDEN, "pages of this origin may not connect; see allowed_origins")
    if SUBPROTOCOL not in offered:
        return _refused(HTTPStatus.BAD_REQUEST, f"offer the subprotocol {SUBPROTOCOL}")
    if gateway.full():
        return _refused(HTTPStatus.SERVICE_UNAVAILABLE, "too many connections; try again in a second")
    connection = Connection(gateway, headers.get("authorization"), headers.get("traceparent"))
    response = WSUpgradeResponse.create_101_response(extra_headers={"Sec-WebSocket-Protocol": SUBPROTOCOL})
    return WSUpgradeResponseWithListener(response, connection)


def _refused(status: HTTPStatus, message: str) -> WSUpgradeResponseWithListener:
    return WSUpgradeResponseWithListener(WSUpgradeResponse.create_error_response(status, message.encode()), None)
