"""`connection/shm`: tensors go through system shared memory, only their places over a kept HTTP/1.1 connection."""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Mapping
from itertools import count
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.errors import AmiraError
from pipelines.resilience import Deadline, DeadlineExceededError, ServiceError, ServiceFailedError
from pipelines.triton import process
from pipelines.triton.connections import wire
from pipelines.triton.connections.base import Call, Reply
from pipelines.triton.connections.http import HttpChannel, tensor
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


class SharedChannel(HttpChannel):
    """A connection with two regions of shared memory of its own, one for inputs and one for outputs."""

    def __init__(self, url: str, limit_bytes: int, region_bytes: int) -> None:
        super().__init__(url, limit_bytes)
        self._region_bytes = region_bytes
        prefix = process.shared_memory_prefix("shm") + str(next(_numbers))
        self._names = (f"{prefix}-in", f"{prefix}-out")
        self._in, self._out = (Region(name, region_bytes) for name in self._names)

    def connect(self) -> None:
        """Tell the server of the regions. One that is away is told with the first call that reaches it."""
        try:
            self._register(Deadline.after(HEALTH_TIMEOUT_S))
        except (ServiceFailedError, DeadlineExceededError):
            return

    def infer(self, call: Call) -> Reply:
        """See `Channel.infer`. A server that was restarted has forgotten the regions and is told again."""
        try:
            return super().infer(call)
        except ServiceError as error:
            if "shared memory region" not in str(error).lower() or error.retryable:
                raise
            self._register(call.deadline)
            return super().infer(call)

    def close(self) -> None:
        """Have the server forget the regions, remove them and close the connection."""
        try:
            for name in self._names:
                self._ask(name, "unregister", {}, Deadline.after(HEALTH_TIMEOUT_S))
        except ServiceError:
            pass  # the server is away, and its knowledge with it
        finally:
            self._in.close()
            self._out.close()
            super().close()

    def _register(self, deadline: Deadline) -> None:
        for name in self._names:
            self._ask(name, "unregister", {}, deadline)
            region = {"key": f"/{name}", "offset": 0, "byte_size": self._region_bytes}
            self._ask(name, "register", region, deadline)

    def _ask(self, name: str, what: str, asked: Mapping[str, Any], deadline: Deadline) -> None:
        self.post(f"/v2/systemsharedmemory/region/{name}/{what}", asked, deadline, "shared memory")

    def _inputs(self, call: Call) -> tuple[list[Any], list[bytes]]:
        described, at = [], 0
        for name, value in call.inputs.items():
            if at + value.nbytes > self._region_bytes:
                raise ValueError(
                    f"the inputs of model '{call.model}' do not fit the shared memory of "
                    f"{self._region_bytes / 2**20:.1f} MiB. Send less at once, or make it larger: option region_mib "
                    "of the connection"
                )
            place = self._in.bytes[at : at + value.nbytes].view(value.dtype).reshape(value.shape)
            np.copyto(place, value)
            described.append(tensor(name, value, **_placed(self._names[0], value.nbytes, at)))
            at += -(-value.nbytes // _ALIGN) * _ALIGN
        return described, []

    def _outputs(self, call: Call) -> list[Any]:
        """An equal share of the region for each output: how large it will be only the server knows."""
        share = self._share(call)
        return [
            {"name": name, "parameters": _placed(self._names[1], share, index * share)}
            for index, name in enumerate(call.outputs)
        ]

    def _array(self, call: Call, index: int, given: Mapping[str, Any], packed: memoryview) -> npt.NDArray[Any]:
        dtype, start = np.dtype(wire.array_type(given["datatype"])), index * self._share(call)
        view = self._out.bytes[start : start + math.prod(given["shape"]) * dtype.itemsize].view(dtype)
        # A copy, since the next call of this channel overwrites the region.
        return view.reshape(given["shape"]).copy()

    def _share(self, call: Call) -> int:
        return self._region_bytes // len(call.outputs) // _ALIGN * _ALIGN


def _placed(region: str, size: int, offset: int) -> dict[str, Any]:
    """What says that a tensor's bytes lie in a region, not in the message."""
    return {
        "shared_memory_region": region,
        "shared_memory_byte_size": size,
        **({"shared_memory_offset": offset} if offset else {}),
    }


class SharedConnection(PooledConnection):
    """See the module."""

    channel = SharedChannel
