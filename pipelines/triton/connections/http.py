"""`connection/http`: a pool of kept HTTP/1.1 connections. A message is JSON with the tensors' bytes behind it.

The caller's own thread writes to the socket and waits for it, and what a call runs through is small. That matters where
a model's step has just emptied the processor's caches: experiments/020-triton-connections.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy.typing as npt

from pipelines.resilience import Deadline, ServiceError, ServiceFailedError
from pipelines.triton.connections import wire
from pipelines.triton.connections.base import Call, Channel, Reply, check
from pipelines.triton.connections.failures import translate
from pipelines.triton.connections.pool import HEALTH_TIMEOUT_S
from pipelines.triton.connections.unary import PooledConnection

_STATUS = {400: "INVALID_ARGUMENT", 404: "NOT_FOUND", 499: "CANCELLED", 501: "UNIMPLEMENTED", 503: "UNAVAILABLE"}
"""gRPC's names of what Triton says over HTTP; every other code is the model's own failure."""
_HEAD_BYTES = 16 << 10
"""More than the head of an answer of Triton's ever has."""
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class HttpChannel(Channel):
    """One connection. It connects with its first call; after one without an answer the next connects anew."""

    def __init__(self, url: str, limit_bytes: int) -> None:
        self._url, self._limit_bytes = url, limit_bytes
        host, _, port = url.removeprefix("http://").rpartition(":")
        self._address = (host.strip("[]"), int(port))
        self._socket: socket.socket | None = None
        self._buffer = bytearray(4 * _HEAD_BYTES)

    def connect(self) -> None:
        """Make the connection now, so that no first call pays for it; a server that is away is no error yet."""
        self.healthy(HEALTH_TIMEOUT_S)

    def infer(self, call: Call) -> Reply:
        """See `Channel.infer`."""
        check(call, self._limit_bytes)
        reply = Reply()
        message = self._request(call)
        reply.mark("serialised")
        head, body = self._exchange(message, call.deadline, call.model)
        reply.mark("received")
        self._take(head, body, call, reply)
        return reply

    def healthy(self, within_s: float) -> bool:
        """Whether the server answers on it."""
        message = f"GET /v2/health/live HTTP/1.1\r\nHost: {self._url}\r\n\r\n".encode("ascii")
        try:
            head, _ = self._exchange([message], Deadline.after(within_s), "")
        except ServiceError:
            return False
        return _code(head) == 200

    def close(self) -> None:
        """Close the connection."""
        self._disconnect()

    def _disconnect(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _request(self, call: Call) -> list[bytes]:
        """The head of a request with its JSON, and the bytes of every tensor."""
        inputs, contents = self._inputs(call)
        parameters: dict[str, Any] = {
            "timeout": max(1, round(call.deadline.check(f"model '{call.model}' was called") * 1e6))
        }
        if call.turn is not None:
            parameters["sequence_id"] = call.turn.sequence
            parameters["sequence_start"] = call.turn.start
            parameters["sequence_end"] = call.turn.end
        asked = {"inputs": inputs, "outputs": self._outputs(call), "parameters": parameters}
        if call.request_id:
            asked["id"] = call.request_id
        json = _encode(asked)
        trace = "" if call.traceparent is None else f"traceparent: {call.traceparent}\r\n"
        head = (
            f"POST /v2/models/{call.model}/infer HTTP/1.1\r\nHost: {self._url}\r\n{trace}"
            f"Inference-Header-Content-Length: {len(json)}\r\n"
            f"Content-Length: {len(json) + sum(map(len, contents))}\r\n\r\n"
        )
        return [head.encode("ascii") + json, *contents]

    def _inputs(self, call: Call) -> tuple[list[Any], list[bytes]]:
        """Descriptions of the inputs, and the bytes that follow the JSON."""
        contents = [wire.content(value) for value in call.inputs.values()]
        described = [
            tensor(name, value, binary_data_size=len(content))
            for (name, value), content in zip(call.inputs.items(), contents, strict=True)
        ]
        return described, contents

    def _outputs(self, call: Call) -> list[Any]:
        """Wishes for the outputs."""
        return [{"name": name, "parameters": {"binary_data": True}} for name in call.outputs]

    def post(self, path: str, asked: Mapping[str, Any], deadline: Deadline, what: str) -> None:
        """Have the server do something else than a call.

        Raises:
            ServiceError: It does not, or does not answer.
        """
        json = _encode(asked)
        head = f"POST {path} HTTP/1.1\r\nHost: {self._url}\r\nContent-Length: {len(json)}\r\n\r\n"
        self._check(*self._exchange([head.encode("ascii"), json], deadline, what), what)

    def _exchange(self, message: list[bytes], deadline: Deadline, model: str) -> tuple[bytes, bytes]:
        """The head of the answer to a message, in lower case, and its body."""
        try:
            if self._socket is None:
                self._socket = socket.create_connection(self._address, max(deadline.remaining_s, 1e-3))
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket.settimeout(max(deadline.remaining_s, 1e-3))
            self._socket.sendall(b"".join(message))
            return self._receive(self._socket, deadline)
        except TimeoutError as error:
            self._disconnect()
            raise translate("DEADLINE_EXCEEDED", "", self._url, model) from error
        except (OSError, EOFError, ValueError) as error:
            self._disconnect()
            raise translate("UNAVAILABLE", str(error) or type(error).__name__, self._url, model) from error

    def _receive(self, connection: socket.socket, deadline: Deadline) -> tuple[bytes, bytes]:
        """Read one answer.

        Raises:
            ValueError: It is none of HTTP, or larger than a message may be.
        """
        have, end = 0, -1
        while end < 0:
            if have > _HEAD_BYTES:
                raise ValueError("the answer is not HTTP's")
            have += self._more(connection, have, deadline)
            end = self._buffer.find(b"\r\n\r\n", 0, have)
        head = bytes(self._buffer[: end + 2]).lower()
        start, size = end + 4, _number(head, b"content-length")
        if not head.startswith(b"http/1.1 ") or size is None:
            raise ValueError("the answer is not that of a Triton's HTTP port (8000 as a rule)")
        if size > max(self._limit_bytes, 4 << 20) and self._limit_bytes > 0:
            raise ValueError(f"the answer has {size} bytes, more than a message may have: max_message_mib")
        if start + size > len(self._buffer):
            self._buffer.extend(bytes(start + size - len(self._buffer)))
        while have < start + size:
            have += self._more(connection, have, deadline)
        with memoryview(self._buffer) as view:
            return head, bytes(view[start : start + size])

    def _more(self, connection: socket.socket, have: int, deadline: Deadline) -> int:
        if have:  # the first piece has the whole of what is left, as it was set before
            connection.settimeout(max(deadline.remaining_s, 1e-3))
        with memoryview(self._buffer) as view:
            count = connection.recv_into(view[have:])
        if not count:
            raise EOFError("Socket closed")
        return count

    def _take(self, head: bytes, body: bytes, call: Call, reply: Reply) -> None:
        """Put the arrays of an answer into the reply."""
        self._check(head, body, call.model)
        found, at = {}, _number(head, b"inference-header-content-length") or len(body)
        for given in _decode(body[:at])["outputs"]:
            size = given.get("parameters", {}).get("binary_data_size", 0)
            found[given["name"]] = (given, memoryview(body)[at : at + size])
            at += size
        for index, name in enumerate(call.outputs):
            if name not in found:
                raise ServiceFailedError(
                    f"Triton at {self._url} answered the call to '{call.model}' without output '{name}'"
                )
            reply.outputs[name] = self._array(call, index, *found[name])

    def _check(self, head: bytes, body: bytes, model: str) -> None:
        """Raise what an answer says went wrong."""
        code = _code(head)
        if code != 200:
            raise translate(_STATUS.get(code, "INTERNAL"), _said(body), self._url, model)

    def _array(self, call: Call, index: int, given: Mapping[str, Any], packed: memoryview) -> npt.NDArray[Any]:
        """The array of the output of that number."""
        return wire.array(given["datatype"], given["shape"], packed)


def tensor(name: str, value: npt.NDArray[Any], **parameters: Any) -> dict[str, Any]:
    """The description of an input."""
    return {"name": name, "datatype": wire.dtype_name(value.dtype), "shape": value.shape, "parameters": parameters}


def _code(head: bytes) -> int:
    return int(head[9:12])


def _number(head: bytes, name: bytes) -> int | None:
    """A header's number; `None` where it is not there."""
    _, found, rest = head.partition(b"\r\n" + name + b":")
    return int(rest.partition(b"\r\n")[0]) if found else None


def _said(body: bytes) -> str:
    """What Triton says went wrong."""
    try:
        return str(_decode(body)["error"])
    except (msgspec.DecodeError, KeyError, TypeError):
        return body[:200].decode("utf-8", "replace")


class HttpConnection(PooledConnection):
    """See the module."""

    channel = HttpChannel
