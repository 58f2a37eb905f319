"""The `connection` axis: how a pipeline reaches its Triton, one of its own or one elsewhere."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from pipelines.registry import Context, Unavailable, Variant

URL_VARIABLE = "AMIRA_TRITON_URL"
"""Endpoints of a Triton that runs already, separated by commas; without it, a server is started for the pipeline."""
HTTP_URL_VARIABLE = "AMIRA_TRITON_HTTP_URL"
"""The same for `connection/http` and `connection/shm`: Triton listens for HTTP on a port of its own."""


class ConnectionOptions(BaseModel):
    """Options of every connection.

    Attributes:
        urls: gRPC endpoints (HTTP's for `connection/http` and `connection/shm`), `host:port`. Empty for those of
            `AMIRA_TRITON_URL` (`AMIRA_TRITON_HTTP_URL`), or for a server of its own.
        deadline_s: How long a call may take.
        max_message_mib: The largest message that is sent or taken.
        otlp_endpoint: OTLP/HTTP collector for the spans of a server of its own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    urls: tuple[str, ...] = ()
    deadline_s: float = Field(default=30.0, gt=0)
    max_message_mib: float = Field(default=64.0, gt=0)
    otlp_endpoint: str | None = None

    @property
    def limit_bytes(self) -> int:
        """The largest message in bytes."""
        return round(self.max_message_mib * 2**20)


class PoolOptions(ConnectionOptions):
    """Options of a connection with a pool.

    Attributes:
        size: Connections at most.
        warm: Connections that are opened at once.
    """

    size: int = Field(default=8, ge=1, le=1024)
    warm: int = Field(default=1, ge=0, le=1024)


class SharedOptions(PoolOptions):
    """Options of a connection through shared memory.

    Attributes:
        region_mib: Shared memory for the inputs of a call, and as much again for its outputs.
    """

    region_mib: float = Field(default=8.0, gt=0)


def problem(url_variable: str = URL_VARIABLE) -> Unavailable | None:
    """Why no Triton can be reached from here."""
    if find_spec("tritonclient") is None:
        return Unavailable("the package tritonclient is not installed", "Install it: pip install 'amira-asr[triton]'")
    if os.environ.get(url_variable):
        return None
    from pipelines.triton import environment

    return environment.problem()


class _Connection(Variant):
    options: ClassVar[type[ConnectionOptions]] = ConnectionOptions
    url_variable: ClassVar[str] = URL_VARIABLE

    @classmethod
    def available(cls) -> Unavailable | None:
        """The client or the server that this machine lacks."""
        return problem(cls.url_variable)

    @classmethod
    @abstractmethod
    def connect(cls, url: str, options: Any) -> Any:
        """The connection to one endpoint."""

    @classmethod
    def endpoint(cls, server: Any) -> str:
        """Where a server of its own listens for it."""
        return str(server.url)

    @classmethod
    @contextmanager
    def _open_impl(cls, context: Context, options: Any) -> Iterator[Any]:
        from pipelines.triton.repository import served
        from pipelines.triton.server import ServerSpec, TritonServer
        from pipelines.triton.service import ServicePolicy, TritonService

        urls = options.urls or tuple(filter(None, os.environ.get(cls.url_variable, "").split(",")))
        with ExitStack() as stack:
            server = None
            if not urls:
                server = stack.enter_context(TritonServer(ServerSpec(served(), otlp_endpoint=options.otlp_endpoint)))
                urls = (cls.endpoint(server),)
            connections = [cls.connect(url.strip(), options) for url in urls]
            policy = ServicePolicy(deadline_s=options.deadline_s)
            yield stack.enter_context(TritonService(connections, policy, server))


class Fresh(_Connection):
    """`connection/fresh`."""

    id = "connection/fresh"
    summary = "a new TCP and HTTP/2 connection for every call"

    @classmethod
    def connect(cls, url: str, options: ConnectionOptions) -> Any:
        """See `_Connection.connect`."""
        from pipelines.triton.connections.unary import FreshConnection

        return FreshConnection(url, options.limit_bytes)


class Pooled(_Connection):
    """`connection/pooled`."""

    id = "connection/pooled"
    summary = "a bounded pool of warm, health-checked connections"
    options = PoolOptions

    @classmethod
    def connect(cls, url: str, options: PoolOptions) -> Any:
        """See `_Connection.connect`."""
        from pipelines.triton.connections.unary import PooledConnection

        return PooledConnection(url, options.limit_bytes, options.size, options.warm)


class Aio(_Connection):
    """`connection/aio`."""

    id = "connection/aio"
    summary = "one asyncio client whose calls share a connection"

    @classmethod
    def connect(cls, url: str, options: ConnectionOptions) -> Any:
        """See `_Connection.connect`."""
        from pipelines.triton.connections.asynchronous import AsyncConnection

        return AsyncConnection(url, options.limit_bytes)


class Stream(_Connection):
    """`connection/stream`."""

    id = "connection/stream"
    summary = "a pool of bidirectional streams that stay open"
    options = PoolOptions

    @classmethod
    def connect(cls, url: str, options: PoolOptions) -> Any:
        """See `_Connection.connect`."""
        from pipelines.triton.connections.stream import StreamConnection

        return StreamConnection(url, options.limit_bytes, options.size, options.warm)


class _OverHttp(_Connection):
    url_variable = HTTP_URL_VARIABLE

    @classmethod
    def endpoint(cls, server: Any) -> str:
        """See `_Connection.endpoint`."""
        return str(server.http_url)


class Shm(_OverHttp):
    """`connection/shm`."""

    id = "connection/shm"
    summary = "tensors through system shared memory, on a pool of kept HTTP/1.1 connections"
    options = SharedOptions

    @classmethod
    def connect(cls, url: str, options: SharedOptions) -> Any:
        """See `_Connection.connect`."""
        from pipelines.triton.connections.shared import SharedConnection

        region = round(options.region_mib * 2**20)
        return SharedConnection(url, options.limit_bytes, options.size, options.warm, region_bytes=region)


class Http(_OverHttp):
    """`connection/http`."""

    id = "connection/http"
    summary = "a bounded pool of kept HTTP/1.1 connections, without gRPC"
    options = PoolOptions

    @classmethod
    def connect(cls, url: str, options: PoolOptions) -> Any:
        """See `_Connection.connect`."""
        from pipelines.triton.connections.http import HttpConnection

        return HttpConnection(url, options.limit_bytes, options.size, options.warm)
