"""The server process: opens the recogniser, serves, drains on SIGTERM and SIGINT."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import socket
import sys
from collections.abc import Iterator

import uvicorn
import uvloop

from pipelines import compiled
from pipelines.errors import AmiraError
from pipelines.paths import models_dir
from pipelines.streaming import StreamingRecognizer, open_streaming
from server import logs
from server.app import make_app
from server.connections import ConnectionCollector
from server.engine import Engine
from server.gateway import Gateway
from server.lane import Lane
from server.metrics import Metrics
from server.settings import Settings
from server.tracing import Tracing
from server.uploads import Uploads
from server.websocket import upgrade_protocol

log = logging.getLogger(__name__)

SWITCH_INTERVAL_S = 0.0005
"""How long one Python thread may keep the others waiting. The default, 5 ms, is more than a partial may take."""
ACCEPTORS = 16
"""libuv accepts one connection for each turn of the loop and each descriptor of the listener. A turn takes tens of
milliseconds where thousands of streams speak: with one descriptor, newcomers waited ten seconds and gave up."""
COLLECT_EVERY = 50_000
"""New objects between two searches for dead cycles; the default of 700 was 8 % of the time at 800 streams."""


class _Server(uvicorn.Server):
    """Leaves the signals to us: uvicorn would close the connections at once. Says when it listens."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listener in (sockets or [])[:1]:  # the others are the same
            host, port = listener.getsockname()[:2]
            scheme = "https" if self.config.is_ssl else "http"
            log.info("serving on %s://%s:%d", scheme, f"[{host}]" if ":" in host else host, port)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def serve(settings: Settings) -> None:
    """Serve until a signal comes; returns when everything is released.

    Raises:
        AmiraError: A part cannot run here, or the address cannot be had.
    """
    logs.set_up(settings.log_level)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    _say_form(settings.sessions)
    listener = _bind(settings)
    try:
        with open_streaming(settings.recognizer, settings.models_dir or models_dir()) as recognizer:
            _spare_the_collector()
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(_serve(settings, recognizer, listener))
    finally:
        listener.close()


def _say_form(wanted: str) -> None:
    found = None if compiled.active() else compiled.problem()
    if found is not None and wanted == "auto":
        log.info("sessions run interpreted: %s. %s", found.reason, found.remedy)
    else:
        log.info("sessions run %s", "compiled" if compiled.active() else "interpreted")


def _spare_the_collector() -> None:
    """Leave what is loaded out of its searches, and let them be rare: nothing of a chunk lies in a cycle."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_EVERY, 10, 10)


def _bind(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        listener.close()
        raise AmiraError(
            f"cannot listen on {settings.host}:{settings.port}: {error.strerror}. Name another one with --port"
        ) from error
    return listener


async def _serve(settings: Settings, recognizer: StreamingRecognizer, listener: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    metrics, tracing = Metrics(), Tracing(settings.otlp_endpoint)
    metrics.registry.register(ConnectionCollector(recognizer.connections))
    lane = Lane(settings.workers, settings.limits.settle_timeout_ms, metrics)
    engine = Engine(recognizer, lane, metrics, settings.round_streams)
    engine.start(loop)
    gateway = Gateway(settings, engine, lane, metrics, tracing, settings.recognizer.name)
    app = make_app(gateway, Uploads(gateway, recognizer.finals.settle))
    server = _Server(
        uvicorn.Config(
            app,
            loop="asyncio",
            http="httptools",
            ws=upgrade_protocol(gateway),
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            backlog=4_096,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=5,
            ssl_certfile=settings.tls_certificate,
            ssl_keyfile=settings.tls_key,
        )
    )
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)

    async def drain() -> None:
        await stopping.wait()
        await gateway.drain()
        server.should_exit = True

    drainer = loop.create_task(drain())
    try:
        await server.serve([listener.dup() for _ in range(ACCEPTORS)])
    finally:
        drainer.cancel()
        await gateway.close()
    log.info("stopped")
