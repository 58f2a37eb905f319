"""`connection/shm`: tensors go through system shared memory, only their places over a pooled connection."""

from __future__ import annotations

import math
import mmap
import os
from itertools import count
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.errors import AmiraError
from pipelines.resilience import DeadlineExceededError, ServiceError, ServiceFailedError
from pipelines.triton import process
from pipelines.triton.connections import wire
from pipelines.triton.connections.base import Call, Channel, Reply, dtype_name
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
        self._client = wire.open_client(url, limit_bytes)
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
        tensors = self._place_inputs(call)
        wanted = self._place_outputs(call)
        reply.mark("serialised")
        try:
            result = wire.send(self._client, self._url, call, tensors, wanted)
        except ServiceError as error:
            if "shared memory region" not in str(error).lower() or error.retryable:
                raise
            self._register(call.deadline.remaining_s)
            result = wire.send(self._client, self._url, call, tensors, wanted)
        reply.mark("received")
        self._take(result, call, reply)
        return reply

    def healthy(self, within_s: float) -> bool:
        """Whether the server answers."""
        return wire.alive(self._client, within_s)

    def close(self) -> None:
        """Have the server forget the regions, remove them and close the connection."""
        from tritonclient.utils import InferenceServerException

        for name in self._names:
            try:
                self._client.unregister_system_shared_memory(name, client_timeout=HEALTH_TIMEOUT_S)
            except InferenceServerException:
                break  # the server is away, and its knowledge with it
        self._inputs.close()
        self._outputs.close()
        self._client.close()

    def _register(self, within_s: float) -> None:
        from tritonclient.utils import InferenceServerException

        from pipelines.triton.connections.failures import translate

        try:
            for name in self._names:
                self._client.unregister_system_shared_memory(name, client_timeout=within_s)
                self._client.register_system_shared_memory(name, f"/{name}", self._bytes, client_timeout=within_s)
        except InferenceServerException as error:
            raise translate(error, self._url, "shared memory") from error

    def _place_inputs(self, call: Call) -> list[Any]:
        from tritonclient.grpc import InferInput

        tensors, at = [], 0
        for name, value in call.inputs.items():
            if at + value.nbytes > self._bytes:
                raise ValueError(
                    f"the inputs of model '{call.model}' do not fit the shared memory of {self._bytes / 2**20:.1f} "
                    "MiB. Send less at once, or make it larger: option region_mib of the connection"
                )
            place = self._inputs.bytes[at : at + value.nbytes].view(value.dtype).reshape(value.shape)
            np.copyto(place, value)
            tensor = InferInput(name, list(value.shape), dtype_name(value))
            tensor.set_shared_memory(self._names[0], value.nbytes, offset=at)
            tensors.append(tensor)
            at += -(-value.nbytes // _ALIGN) * _ALIGN
        return tensors

    def _place_outputs(self, call: Call) -> list[Any]:
        """An equal share of the region for each output: how large it will be only the server knows."""
        from tritonclient.grpc import InferRequestedOutput

        share = self._bytes // len(call.outputs) // _ALIGN * _ALIGN
        wanted = []
        for index, name in enumerate(call.outputs):
            output = InferRequestedOutput(name)
            output.set_shared_memory(self._names[1], share, offset=index * share)
            wanted.append(output)
        return wanted

    def _take(self, result: Any, call: Call, reply: Reply) -> None:
        from tritonclient.utils import triton_to_np_dtype

        share = self._bytes // len(call.outputs) // _ALIGN * _ALIGN
        for index, name in enumerate(call.outputs):
            output = result.get_output(name)
            if output is None:
                raise ServiceFailedError(f"Triton at {self._url} answered '{call.model}' without output '{name}'")
            dtype = triton_to_np_dtype(output.datatype)
            count = math.prod(output.shape)
            view = self._outputs.bytes[index * share : index * share + count * np.dtype(dtype).itemsize].view(dtype)
            # A copy, since the next call of this channel overwrites the region.
            reply.outputs[name] = view.reshape(tuple(output.shape)).copy()


class SharedConnection(PooledConnection):
    """See the module."""

    channel = SharedChannel
