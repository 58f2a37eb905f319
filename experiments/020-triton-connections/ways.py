"""The ways of calling that are compared, and what is called with."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from tritonclient.grpc import InferInput, InferRequestedOutput
from tritonclient.grpc import service_pb2 as protocol

from pipelines.acoustic.open_ctc import open_ctc as open_here
from pipelines.acoustic.ort import OrtOptions
from pipelines.acoustic.sessions import open_session
from pipelines.acoustic.triton import open_ctc as open_there
from pipelines.contracts import AudioBatch
from pipelines.paths import models_dir
from pipelines.registry import Context
from pipelines.resilience import Deadline
from pipelines.triton import repository
from pipelines.triton.connections import wire
from pipelines.triton.connections.base import Call, Reply
from pipelines.triton.connections.http import HttpConnection
from pipelines.triton.connections.shared import SharedConnection
from pipelines.triton.connections.stream import StreamConnection
from pipelines.triton.connections.unary import FreshConnection, PooledConnection
from pipelines.triton.server import TritonServer
from pipelines.triton.service import TritonService

LIMIT = 64 << 20
STREAMING = "stream-ctc-server"
SAMPLES = {"small": 16, "chunk": 2_560}
"""Samples of a call's audio: a small tensor, and 160 ms."""
KINDS: dict[str, type[Any]] = {
    "pooled": PooledConnection,
    "stream": StreamConnection,
    "shm": SharedConnection,
    "http": HttpConnection,
}
OVER_HTTP = ("http", "shm")
Way = Callable[[Call], Any]


@contextmanager
def one_core() -> Iterator[None]:
    """Everything on one core, what is started meanwhile included: how the harness runs a pipeline of one thread."""
    before = os.sched_getaffinity(0)
    try:
        _pin({max(before)})
        yield
    finally:
        _pin(before)


def _pin(cores: set[int]) -> None:
    """Keep every thread of this process to some cores."""
    for task in Path("/proc/self/task").iterdir():
        with suppress(ProcessLookupError):  # one that ends meanwhile
            os.sched_setaffinity(int(task.name), cores)


def call_of(payload: str, request_id: str = "") -> Call:
    """A call with audio of one of the sizes."""
    pcm = np.arange(SAMPLES[payload], dtype=np.int16)[None]
    return Call("preprocessor", {"pcm": pcm}, ("waveform",), Deadline.after(30), None, request_id)


class Raw:
    """A client that was opened once, with no pool around it."""

    def __init__(self, url: str) -> None:
        self.client = wire.Client(url, LIMIT)

    def infer(self, call: Call) -> Reply:
        """Make a call."""
        reply = Reply()
        self.client.infer(call, reply)
        return reply


def package(client: Any, call: Call) -> Any:
    """The same through `tritonclient`'s own client, as its examples do it."""
    [(name, value)] = call.inputs.items()
    tensor = InferInput(name, list(value.shape), "INT16")
    tensor.set_data_from_numpy(value)
    wanted = [InferRequestedOutput(output) for output in call.outputs]
    return client.infer(call.model, [tensor], outputs=wanted, client_timeout=30).as_numpy(call.outputs[0])


@dataclass(frozen=True, slots=True)
class Urls:
    """Where a server listens."""

    grpc: str
    http: str = ""

    @classmethod
    def of(cls, server: TritonServer) -> Self:
        """Those of a server of our own."""
        return cls(server.url, server.http_url)


def connection(kind: str, urls: Urls, size: int) -> AbstractContextManager[Any]:
    """A connection of a kind with room for so many callers."""
    url = urls.http if kind in OVER_HTTP else urls.grpc
    if kind == "raw":
        return nullcontext(Raw(url))
    if kind == "fresh":
        return FreshConnection(url, LIMIT)
    more = {"region_bytes": 1 << 20} if kind == "shm" else {}
    return KINDS[kind](url, LIMIT, size, size, **more)


@contextmanager
def one_caller(urls: Urls) -> Iterator[dict[str, Way]]:
    """Every way by name, for one caller, all open at once."""
    session = open_session(repository.served() / "preprocessor" / "1" / "model.onnx", 1)
    client = wire.open_client(urls.grpc, LIMIT)
    bare = wire.method(wire.Client(urls.grpc, LIMIT).channel, "ServerLive")
    nothing = protocol.ServerLiveRequest()

    def package_fresh(call: Call) -> None:
        fresh = wire.open_client(urls.grpc, LIMIT)
        package(fresh, call)
        fresh.close()

    with ExitStack() as stack:
        names = ("raw", *KINDS, "fresh")
        ways: dict[str, Way] = {name: stack.enter_context(connection(name, urls, 1)).infer for name in names}
        ways["in process"] = lambda call: session.run(["waveform"], {"pcm": call.inputs["pcm"]})
        ways["tritonclient"] = lambda call: package(client, call)
        ways["tritonclient, fresh"] = package_fresh
        ways["gRPC alone"] = lambda call: bare(nothing, timeout=30)
        yield ways


@contextmanager
def streaming(urls: Urls) -> Iterator[dict[str, Any]]:
    """A streaming model, in process and on Triton: a function for each that moves a stream on by one chunk."""
    context = Context(models_dir(), STREAMING, 1, {})
    with ExitStack() as stack:
        models = {"in process": stack.enter_context(open_here(context, "fp32", OrtOptions()))}
        for kind in KINDS:
            service = stack.enter_context(TritonService([connection(kind, urls, 1)]))
            there = Context(models_dir(), STREAMING, 1, {"connection": service})
            models[kind] = stack.enter_context(open_there(there, STREAMING, None))
        size = models["in process"].chunk_samples
        noise = (np.random.default_rng(0).standard_normal((1, size)) * 0.05).astype(np.float32)
        chunk = AudioBatch(noise, np.array([size]))

        def stepper(model: Any) -> Callable[[], Any]:
            states = [model.open()]
            return lambda: model.infer_chunk(states, chunk)

        yield {name: stepper(model) for name, model in models.items()}
