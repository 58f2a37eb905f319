"""`connection/stream`: a pool of bidirectional streams, so that a call is one message on a stream that stays open."""

from __future__ import annotations

import queue
import threading
from typing import Any

import grpc

from pipelines.resilience import DeadlineExceededError
from pipelines.triton.connections import wire
from pipelines.triton.connections.base import Call, Channel, Reply, check
from pipelines.triton.connections.failures import translate
from pipelines.triton.connections.pool import HEALTH_TIMEOUT_S
from pipelines.triton.connections.unary import PooledConnection


class StreamChannel(Channel):
    """A client with one open stream. Its calls go one after the other.

    A thread of its own takes the answers: one that waits for a message of a stream cannot be told until when.
    """

    def __init__(self, url: str, limit_bytes: int) -> None:
        self._url, self._limit_bytes = url, limit_bytes
        self._client = wire.Client(url, limit_bytes)
        self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._stream = wire.stream(self._client.channel, iter(self._requests.get, None))
        self._reader = threading.Thread(target=self._read, name="triton-stream", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        try:
            for answer in self._stream:
                self._answers.put(answer)
        except grpc.RpcError as error:
            self._answers.put(error)

    def connect(self) -> None:
        """Make the connection now, so that no first call pays for it."""
        self.healthy(HEALTH_TIMEOUT_S)

    def infer(self, call: Call) -> Reply:
        """See `Channel.infer`. A call without an answer leaves the stream unusable: its pool then closes it."""
        check(call, self._limit_bytes)
        reply = Reply()
        request = wire.request(call)
        remaining_s = wire.limited(request, call)
        reply.mark("serialised")
        self._requests.put(request)
        try:
            answer = self._answers.get(timeout=remaining_s)
        except queue.Empty:
            raise DeadlineExceededError(
                f"Triton at {self._url} did not answer the call to '{call.model}' in time. Allow more time, or see "
                "whether it hangs: amira triton status"
            ) from None
        reply.mark("received")
        if isinstance(answer, grpc.RpcError):
            raise wire.failure(answer, self._url, call.model) from answer
        if answer.error_message:
            raise translate("", answer.error_message, self._url, call.model)
        wire.take(answer.infer_response, call, self._url, reply)
        return reply

    def healthy(self, within_s: float) -> bool:
        """Whether the server answers and the stream is open."""
        return self._answers.empty() and self._reader.is_alive() and self._client.alive(within_s)

    def close(self) -> None:
        """End the stream, answers that are under way with it, and close the connection."""
        self._requests.put(None)
        self._stream.cancel()
        self._reader.join()
        self._client.close()


class StreamConnection(PooledConnection):
    """See the module."""

    channel = StreamChannel
