"""Triton's inference protocol over gRPC: channels, requests and answers, the same for every connection.

The messages are those of `tritonclient`; its client classes are not on the way of a call. They take three times as long
to write a request and to read an answer, the same bytes: experiments/020-triton-connections.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt
from tritonclient.grpc import service_pb2 as protocol
from tritonclient.utils import (
    deserialize_bytes_tensor,
    np_to_triton_dtype,
    serialize_byte_tensor,
    triton_to_np_dtype,
)

from pipelines.resilience import ServiceError, ServiceFailedError
from pipelines.triton.connections.base import Call, Reply
from pipelines.triton.connections.failures import translate

_SERVICE = "/inference.GRPCInferenceService/"
_UNLIMITED = 2**31 - 1
_BYTES = "BYTES"


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
        # What is made again is decided in `pipelines.resilience`; gRPC's own way to do so costs every call 3 %.
        ("grpc.enable_retries", 0),
    ]


def open_client(url: str, limit_bytes: int) -> Any:
    """The package's client with a channel of its own, for everything but inference; it connects with its first call."""
    from tritonclient.grpc import InferenceServerClient

    return InferenceServerClient(url, channel_args=channel_arguments(limit_bytes))


def method(channel: Any, name: str) -> Any:
    """A call of the protocol with one request and one answer, on a blocking or an asyncio channel."""
    return channel.unary_unary(
        _SERVICE + name,
        request_serializer=getattr(protocol, f"{name}Request").SerializeToString,
        response_deserializer=getattr(protocol, f"{name}Response").FromString,
    )


def stream(channel: Any, requests: Iterable[Any]) -> Any:
    """The stream of answers to a stream of inference requests."""
    open_stream = channel.stream_stream(
        _SERVICE + "ModelStreamInfer",
        request_serializer=protocol.ModelInferRequest.SerializeToString,
        response_deserializer=protocol.ModelStreamInferResponse.FromString,
    )
    return open_stream(requests)


class Client:
    """One channel to one endpoint, with a TCP connection of its own. It connects with its first call."""

    def __init__(self, url: str, limit_bytes: int) -> None:
        self.url = url
        self.channel = grpc.insecure_channel(url, options=channel_arguments(limit_bytes))
        self._infer = method(self.channel, "ModelInfer")

    def infer(self, call: Call, reply: Reply) -> None:
        """Make a call with its tensors inside the message, and fill the reply in.

        Raises:
            ServiceError: There was no answer, or the server says that the call is wrong.
        """
        message = request(call)
        reply.mark("serialised")
        response = self.send(call, message)
        reply.mark("received")
        take(response, call, self.url, reply)

    def send(self, call: Call, message: Any) -> Any:
        """The answer to a request.

        Raises:
            ServiceError: As `infer`.
        """
        try:
            return self._infer(message, timeout=limited(message, call), metadata=call.metadata)
        except grpc.RpcError as error:
            raise failure(error, self.url, call.model) from error

    def alive(self, within_s: float) -> bool:
        """Whether the server answers."""
        try:
            return bool(method(self.channel, "ServerLive")(protocol.ServerLiveRequest(), timeout=within_s).live)
        except grpc.RpcError:
            return False

    def close(self) -> None:
        """Close the connection; calls that are under way fail."""
        self.channel.close()


def failure(error: Any, url: str, model: str) -> ServiceError:
    """Our error for one of gRPC's."""
    return translate(error.code().name, error.details() or "", url, model)


def request(call: Call) -> Any:
    """The request of a call, its tensors' bytes inside."""
    inputs = [input_tensor(name, value) for name, value in call.inputs.items()]
    contents = [content(value) for value in call.inputs.values()]
    return message(call, inputs, [output_tensor(name) for name in call.outputs], contents)


def message(call: Call, inputs: Iterable[Any], outputs: Iterable[Any], contents: Sequence[bytes] = ()) -> Any:
    """The request of a call with input and output tensors that are described already."""
    made = protocol.ModelInferRequest(
        model_name=call.model, id=call.request_id, inputs=inputs, outputs=outputs, raw_input_contents=contents
    )
    if call.turn is not None:
        made.parameters["sequence_id"].int64_param = call.turn.sequence
        made.parameters["sequence_start"].bool_param = call.turn.start
        made.parameters["sequence_end"].bool_param = call.turn.end
    return made


def limited(message: Any, call: Call) -> float:
    """Write into a request how long Triton's queue may keep it; returns the seconds that gRPC may take.

    Raises:
        DeadlineExceededError: There is no time left.
    """
    remaining_s = call.deadline.check(f"model '{call.model}' was called")
    message.parameters["timeout"].int64_param = max(1, round(remaining_s * 1e6))
    return remaining_s


def input_tensor(name: str, value: npt.NDArray[Any]) -> Any:
    """The description of an input."""
    return protocol.ModelInferRequest.InferInputTensor(name=name, datatype=dtype_name(value.dtype), shape=value.shape)


def output_tensor(name: str) -> Any:
    """The wish for an output."""
    return protocol.ModelInferRequest.InferRequestedOutputTensor(name=name)


def take(response: Any, call: Call, url: str, reply: Reply) -> None:
    """Put the arrays of an answer into the reply; they look at the answer's own bytes and are read only.

    Raises:
        ServiceFailedError: One is missing.
    """
    contents = response.raw_output_contents
    found = {tensor.name: index for index, tensor in enumerate(response.outputs)}
    for name in call.outputs:
        index = found.get(name)
        if index is None or index >= len(contents):
            raise ServiceFailedError(f"Triton at {url} answered the call to '{call.model}' without output '{name}'")
        tensor = response.outputs[index]
        reply.outputs[name] = array(tensor.datatype, tensor.shape, contents[index])


def array(datatype: str, shape: Sequence[int], packed: bytes | memoryview) -> npt.NDArray[Any]:
    """The array that a tensor's bytes are, by Triton's name of its type; it looks at them and is read only."""
    flat = deserialize_bytes_tensor(packed) if datatype == _BYTES else np.frombuffer(packed, array_type(datatype))
    return flat.reshape(tuple(shape))


def content(value: npt.NDArray[Any]) -> bytes:
    """The bytes of a tensor."""
    if value.dtype.kind in "OSU":
        packed = serialize_byte_tensor(value)
        return packed.item() if packed.size else b""
    return value.tobytes()


@cache
def array_type(name: str) -> npt.DTypeLike:
    """The array type that Triton has that name for."""
    return triton_to_np_dtype(name)  # type: ignore[no-any-return]


@cache
def dtype_name(array_type: np.dtype[Any]) -> str:
    """Triton's name of an array's type."""
    name = np_to_triton_dtype(array_type)
    if name is None:
        raise ValueError(f"Triton has no type for arrays of {array_type}")
    return str(name)
