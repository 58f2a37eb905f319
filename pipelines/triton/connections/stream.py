"""`connection/stream`: a pool of bidirectional streams, so that a call is one message on a stream that stays open."""

from __future__ import annotations

import queue
from typing import Any

from pipelines.resilience import DeadlineExceededError
from pipelines.triton.connections import wire
from pipelines.triton.connections.base import Call, Channel, Reply, check
from pipelines.triton.connections.failures import translate
from pipelines.triton.connections.pool import HEALTH_TIMEOUT_S
from pipelines.triton.connections.unary import PooledConnection


class StreamChannel(Channel):
    """A client with one open stream. Its calls go one after the other."""

    def __init__(self, url: str, limit_bytes: int) -> None:
        self._url, self._limit_bytes = url, limit_bytes
        self._client = wire.open_client(url, limit_bytes)
        self._answers: queue.SimpleQueue[tuple[Any, Any]] = queue.SimpleQueue()
        self._client.start_stream(lambda result, error: self._answers.put((result, error)))

    def connect(self) -> None:
        """Make the connection now, so that no first call pays for it."""
        self.healthy(HEALTH_TIMEOUT_S)

    def infer(self, call: Call) -> Reply:
        """See `Channel.infer`. A call without an answer leaves the stream unusable: its pool then closes it."""
        from tritonclient.utils import InferenceServerException

        check(call, self._limit_bytes)
        reply = Reply()
        tensors, wanted = wire.inputs(call), wire.outputs(call)
        times = wire.timeouts(call)
        reply.mark("serialised")
        try:
            self._client.async_stream_infer(
                call.model, tensors, outputs=wanted, timeout=times["timeout"], **wire.sequence(call)
            )
            result, error = self._answers.get(timeout=times["client_timeout"])
        except queue.Empty:
            raise DeadlineExceededError(
                f"Triton at {self._url} did not answer the call to '{call.model}' in time. Allow more time, or see "
                "whether it hangs: amira triton status"
            ) from None
        except InferenceServerException as gone:
            raise translate(gone, self._url, call.model) from gone
        reply.mark("received")
        if error is not None:
            raise translate(error, self._url, call.model) from error
        wire.take(result, call, self._url, reply)
        return reply

    def healthy(self, within_s: float) -> bool:
        """Whether the server answers and the stream is open."""
        return self._answers.empty() and wire.alive(self._client, within_s)

    def close(self) -> None:
        """End the stream, answers that are under way with it, and close the connection."""
        self._client.stop_stream(cancel_requests=True)
        self._client.close()


class StreamConnection(PooledConnection):
    """See the module."""

    channel = StreamChannel
