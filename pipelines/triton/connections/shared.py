"""`connection/shm`: tensors go through system shared memory, only their places over a pooled connection."""

from __future__ import annotations

import math
import mmap
import os
from itertools import count
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt
from tritonclient.grpc import service_pb2 as protocol

from pipelines.errors import AmiraError
from pipelines.resilience import DeadlineExceededError, ServiceError, ServiceFailedError
from pipelines.triton import process
from pipelines.triton.connections import wire
from pipelines.triton.connections.base import Call, Channel, Reply
from pipelines.triton.connections.pool import HEALTH_TIMEOUT_S
from pipelines.triton.connections.unary import PooledConnection

_ALIGN = 64
_numbers = count()
"""Makes the names of this process's regions differ."""


class Region:
    """A region of POSIX shared memory that others open by its name."""

    def __init__(self, name: str, size: int) -> None:
        self.name = name
        self._path = process.SHARED_MEMORY / name
        descriptor = os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        try:
            # Not just sized: a region that the machine has no memory for must fail here, not with a bus error later.
            os.posix_fallocate(descriptor, 0, size)
            self._map = mmap.mmap(descriptor, size)
        except OSError as error:
            self._path.unlink()
            raise AmiraError(
                f"{size / 2**20:.1f} MiB of shared memory cannot be had: {error.strerror}. Give "
                f"{process.SHARED_MEMORY} more, or use less: options region_mib and size of the connection"
            ) from error
        finally:
            os.close(descriptor)
        self.bytes: npt.NDArray[np.uint8] = np.frombuffer(self._map, np.uint8)

    def close(self) -> None:
        """Remove it; memory goes when the last who has it open lets go."""
        self._path.unlink(missing_ok=True)


class SharedChannel(Channel):
    """A client with two regions of shared memory of its own, one for inputs and one for outputs."""

    def __init__(self, url: str, limit_bytes: int, region_bytes: int) -> None:
        self._url, self._bytes = url, region_bytes
        self._client = wire.Client(url, limit_bytes)
        self._tell = wire.method(self._client.channel, "SystemSharedMemoryRegister")
        self._untell = wire.method(self._client.channel, "SystemSharedMemoryUnregister")
        prefix = process.shared_memory_prefix("shm") + str(next(_numbers))
        self._names = (f"{prefix}-in", f"{prefix}-out")
        self._inputs, self._outputs = (Region(name, region_bytes) for name in self._names)

    def connect(self) -> None:
        """Tell the server of the regions. One that is away is told with the first call that reaches it."""
        try:
            self._register(HEALTH_TIMEOUT_S)
        except (ServiceFailedError, DeadlineExceededError):
            return

    def infer(self, call: Call) -> Reply:
        """See `Channel.infer`. A server that was restarted has forgotten the regions and is told again."""
        reply = Reply()
        request = wire.message(call, self._place_inputs(call), self._place_outputs(call))
        reply.mark("serialised")
        try:
            response = self._client.send(call, request)
        except ServiceError as error:
            if "shared memory region" not in str(error).lower() or error.retryable:
                raise
            self._register(call.deadline.remaining_s)
            response = self._client.send(call, request)
        reply.mark("received")
        self._take(response, call, reply)
        return reply

    def healthy(self, within_s: float) -> bool:
        """Whether the server answers."""
        return self._client.alive(within_s)

    def close(self) -> None:
        """Have the server forget the regions, remove them and close the connection."""
        for name in self._names:
            try:
                self._forget(name, HEALTH_TIMEOUT_S)
            except grpc.RpcError:
                break  # the server is away, and its knowledge with it
        self._inputs.close()
        self._outputs.close()
        self._client.close()

    def _register(self, within_s: float) -> None:
        try:
            for name in self._names:
                self._forget(name, within_s)
                region = protocol.SystemSharedMemoryRegisterRequest(
                    name=name, key=f"/{name}", offset=0, byte_size=self._bytes
                )
                self._tell(region, timeout=within_s)
        except grpc.RpcError as error:
            raise wire.failure(error, self._url, "shared memory") from error

    def _forget(self, name: str, within_s: float) -> None:
        self._untell(protocol.SystemSharedMemoryUnregisterRequest(name=name), timeout=within_s)

    def _place_inputs(self, call: Call) -> list[Any]:
        tensors, at = [], 0
        for name, value in call.inputs.items():
            if at + value.nbytes > self._bytes:
                raise ValueError(
                    f"the inputs of model '{call.model}' do not fit the shared memory of {self._bytes / 2**20:.1f} "
                    "MiB. Send less at once, or make it larger: option region_mib of the connection"
                )
            place = self._inputs.bytes[at : at + value.nbytes].view(value.dtype).reshape(value.shape)
            np.copyto(place, value)
            tensors.append(_placed(wire.input_tensor(name, value), self._names[0], value.nbytes, at))
            at += -(-value.nbytes // _ALIGN) * _ALIGN
        return tensors

    def _place_outputs(self, call: Call) -> list[Any]:
        """An equal share of the region for each output: how large it will be only the server knows."""
        share = self._bytes // len(call.outputs) // _ALIGN * _ALIGN
        return [
            _placed(wire.output_tensor(name), self._names[1], share, index * share)
            for index, name in enumerate(call.outputs)
        ]

    def _take(self, response: Any, call: Call, reply: Reply) -> None:
        found = {tensor.name: tensor for tensor in response.outputs}
        share = self._bytes // len(call.outputs) // _ALIGN * _ALIGN
        for index, name in enumerate(call.outputs):
            output = found.get(name)
            if output is None:
                raise ServiceFailedError(f"Triton at {self._url} answered '{call.model}' without output '{name}'")
            dtype = np.dtype(wire.dtype(output))
            size = math.prod(output.shape) * dtype.itemsize
            view = self._outputs.bytes[index * share : index * share + size].view(dtype)
            # A copy, since the next call of this channel overwrites the region.
            reply.outputs[name] = view.reshape(tuple(output.shape)).copy()


def _placed(tensor: Any, region: str, size: int, offset: int) -> Any:
    """A tensor whose bytes lie in a region, not in the message."""
    tensor.parameters["shared_memory_region"].string_param = region
    tensor.parameters["shared_memory_byte_size"].int64_param = size
    if offset:
        tensor.parameters["shared_memory_offset"].int64_param = offset
    return tensor


class SharedConnection(PooledConnection):
    """See the module."""

    channel = SharedChannel
