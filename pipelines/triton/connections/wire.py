"""Requests and answers through `tritonclient`, the same for every connection."""

from __future__ import annotations

from typing import Any

from pipelines.resilience import ServiceFailedError
from pipelines.triton.connections.base import Call, Reply, dtype_name
from pipelines.triton.connections.failures import translate

_UNLIMITED = 2**31 - 1


def channel_arguments(limit_bytes: int) -> list[tuple[str, Any]]:
    """Options that make a channel have a TCP connection of its own: gRPC would share one under the hood.

    They replace the client's own, so that its message sizes are set here, too.
    """
    return [
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.max_send_message_length", _UNLIMITED),
        ("grpc.max_receive_message_length", _UNLIMITED if limit_bytes <= 0 else max(limit_bytes, 4 << 20)),
        # A server that was away is tried again soon; by default gRPC would wait for up to two minutes.
        ("grpc.initial_reconnect_backoff_ms", 50),
        ("grpc.min_reconnect_backoff_ms", 2000),  # in truth how long one attempt may take
        ("grpc.max_reconnect_backoff_ms", 500),
    ]


def open_client(url: str, limit_bytes: int) -> Any:
    """A client with a channel of its own; it connects with its first call."""
    from tritonclient.grpc import InferenceServerClient

    return InferenceServerClient(url, channel_args=channel_arguments(limit_bytes))


def inputs(call: Call) -> list[Any]:
    """The request's input tensors, their bytes inside."""
    from tritonclient.grpc import InferInput

    tensors = []
    for name, value in call.inputs.items():
        tensor = InferInput(name, list(value.shape), dtype_name(value))
        tensor.set_data_from_numpy(value)
        tensors.append(tensor)
    return tensors


def outputs(call: Call) -> list[Any]:
    """The outputs that are asked for."""
    from tritonclient.grpc import InferRequestedOutput

    return [InferRequestedOutput(name) for name in call.outputs]


def sequence(call: Call) -> dict[str, Any]:
    """Arguments of the client that name the call and its place in a sequence."""
    given: dict[str, Any] = {"request_id": call.request_id}
    if call.turn is not None:
        turn = call.turn
        given |= {"sequence_id": turn.sequence, "sequence_start": turn.start, "sequence_end": turn.end}
    return given


def timeouts(call: Call) -> dict[str, Any]:
    """The deadline as the client takes it: seconds for gRPC, microseconds for Triton's queue."""
    remaining_s = call.deadline.check(f"model '{call.model}' was called")
    return {"client_timeout": remaining_s, "timeout": max(1, round(remaining_s * 1e6))}


def infer(client: Any, url: str, call: Call, reply: Reply) -> None:
    """Make the call through a blocking client and fill the reply in.

    Raises:
        ServiceError: There was no answer, or the server says that the call is wrong.
    """
    tensors, wanted = inputs(call), outputs(call)
    reply.mark("serialised")
    result = send(client, url, call, tensors, wanted)
    reply.mark("received")
    take(result, call, url, reply)


def send(client: Any, url: str, call: Call, tensors: list[Any], wanted: list[Any]) -> Any:
    """The client's result.

    Raises:
        ServiceError: As `infer`.
    """
    from tritonclient.utils import InferenceServerException

    try:
        return client.infer(call.model, tensors, outputs=wanted, **sequence(call), **timeouts(call))
    except InferenceServerException as error:
        raise translate(error, url, call.model) from error


def take(result: Any, call: Call, url: str, reply: Reply) -> None:
    """Put the result's arrays into the reply.

    Raises:
        ServiceFailedError: One is missing.
    """
    for name in call.outputs:
        array = result.as_numpy(name)
        if array is None:
            raise ServiceFailedError(f"Triton at {url} answered the call to '{call.model}' without output '{name}'")
        reply.outputs[name] = array


def alive(client: Any, timeout_s: float) -> bool:
    """Whether the server answers."""
    from tritonclient.utils import InferenceServerException

    try:
        return bool(client.is_server_live(client_timeout=timeout_s))
    except InferenceServerException:
        return False
