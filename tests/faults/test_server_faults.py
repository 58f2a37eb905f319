"""Clients that misbehave: each gets its error code, the others do not notice, and memory stays bounded."""

from __future__ import annotations

import asyncio
import json
import signal
import socket as sockets
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
import websockets

from tests.fakes.serving import Server, serving
from tests.fakes.tcp_proxy import TcpProxy

START = json.dumps({"type": "start", "sample_rate": 16_000})


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    limits = {
        "max_sessions": 3_000, "max_ahead_ms": 4_000, "idle_timeout_ms": 1_000, "slow_client_ms": 500,
        "max_session_ms": 60_000, "max_connections": 1_500, "start_timeout_ms": 60_000,
    }  # fmt: skip
    with serving(
        "--null", *(part for name, value in limits.items() for part in ("--set", f"limits.{name}={value}"))
    ) as it:
        yield it


def connect(server: Server, **options: Any) -> Any:
    return websockets.connect(f"{server.url}/v1/stream", subprotocols=["amira.asr.v1"], compression=None, **options)


async def error_code(socket: Any) -> str:
    async with asyncio.timeout(20):
        while (message := json.loads(await socket.recv()))["type"] != "error":
            pass
    return str(message["code"])


async def opened(server: Server) -> Any:
    socket = await connect(server)
    await socket.send(START)
    assert json.loads(await socket.recv())["type"] == "ready"
    return socket


async def until(server: Server, sample: str, value: float) -> None:
    async with asyncio.timeout(20):
        while server.metric(sample) != value:
            await asyncio.sleep(0.05)


def test_too_far_ahead_of_real_time(server: Server) -> None:
    async def play() -> None:
        socket = await opened(server)
        for _ in range(5):
            await socket.send(bytes(32_000))
        assert await error_code(socket) == "too_far_ahead"

    asyncio.run(play())


def test_silent_client(server: Server) -> None:
    async def play() -> None:
        assert await error_code(await opened(server)) == "idle_timeout"

    asyncio.run(play())


def test_a_client_that_vanishes_frees_its_session(server: Server) -> None:
    async def play() -> None:
        before = server.metric('sessions_total{outcome="vanished"}')
        socket = await opened(server)
        await socket.send(bytes(3_200))
        socket.transport.abort()
        await until(server, 'sessions_total{outcome="vanished"}', before + 1)
        await until(server, "active_streams", 0)

    asyncio.run(play())


def test_a_client_whose_network_is_gone_frees_its_session(server: Server) -> None:
    """No FIN, no RST, no answer to anything: the connection is half open, and time alone ends it."""

    async def play() -> None:
        with TcpProxy(f"127.0.0.1:{server.port}") as network:
            before = server.metric('sessions_total{outcome="idle_timeout"}')
            socket = await websockets.connect(
                f"ws://{network.url}/v1/stream", subprotocols=["amira.asr.v1"], compression=None, ping_interval=None
            )
            await socket.send(START)
            assert json.loads(await socket.recv())["type"] == "ready"
            assert server.metric("active_streams") == 1
            network.silent = True
            await socket.send(bytes(3_200))  # swallowed
            await until(server, 'sessions_total{outcome="idle_timeout"}', before + 1)
            await until(server, "active_streams", 0)
            await until(server, "connections", 0)  # the close frame is not waited for either
            socket.transport.abort()

    asyncio.run(play())


def test_a_client_that_never_reads_is_cut_off(server: Server) -> None:
    """Its answers are not piled up: partials give way to newer ones, and then it is told to go."""
    before = server.metric('errors_total{code="too_slow"}')
    raw = sockets.socket()
    raw.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 4_096)
    raw.connect(("127.0.0.1", server.port))

    async def play() -> None:
        # No reading at all: the library's own reader is paused right after the handshake.
        async with connect(server, sock=raw) as socket:
            await socket.send(START)
            await socket.recv()
            socket.transport.pause_reading()
            quiet = json.dumps({"type": "flush"})
            async with asyncio.timeout(30):
                while server.metric('errors_total{code="too_slow"}') == before:
                    for _ in range(400):
                        await socket.send(quiet)
                    await asyncio.sleep(0.05)
            socket.transport.abort()

    asyncio.run(play())


def test_a_thousand_connects_and_idle_memory(server: Server) -> None:
    """A thousand connections open at once; each costs less than 48 KiB; all can be served."""
    process = psutil.Process(server.process.pid)

    async def play() -> float:
        first = [await opened(server) for _ in range(3)]  # so that first-time costs are not counted
        await asyncio.gather(*(each.close() for each in first))
        await until(server, "connections", 0)
        before = process.memory_info().rss
        gate = asyncio.Semaphore(200)

        async def one() -> Any:
            async with gate:
                return await connect(server, open_timeout=60)

        idle = await asyncio.gather(*(one() for _ in range(1_000)))
        await until(server, "connections", 1_000)
        grown = (process.memory_info().rss - before) / len(idle)
        await idle[-1].send(START)
        assert json.loads(await idle[-1].recv())["type"] == "ready"
        for each in idle:
            each.transport.abort()
        await until(server, "connections", 0)
        return grown

    assert asyncio.run(play()) < 48 * 1_024


def test_memory_is_bounded_under_a_flood(server: Server) -> None:
    """Sessions that send as fast as they can, again and again, leave nothing behind."""
    process = psutil.Process(server.process.pid)

    async def flood() -> None:
        async def one() -> None:
            socket = await opened(server)
            try:
                while True:
                    await socket.send(bytes(200_000))
            except websockets.ConnectionClosed:
                return

        for _ in range(3):
            await asyncio.gather(*(one() for _ in range(20)))
        await until(server, "active_streams", 0)

    def grown() -> int:
        before = process.memory_info().rss
        asyncio.run(flood())
        return process.memory_info().rss - before

    asyncio.run(flood())
    # A leak grows with every flood; the allocator's high water rises with the unluckiest overlap so far, and stays.
    growth = [grown() for _ in range(4)]
    assert min(growth) < 1 << 20, growth
    assert sum(growth) < 64 << 20, growth
    assert server.metric("buffered_audio_bytes") == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_session_that_does_not_finish_is_cut_off_after_the_grace_time(number: int) -> None:
    async def play(server: Server) -> tuple[list[dict[str, Any]], int]:
        socket = await opened(server)
        got: list[dict[str, Any]] = []
        server.process.send_signal(number)
        try:
            while True:
                got.append(json.loads(await asyncio.wait_for(socket.recv(), 20)))
        except websockets.ConnectionClosed as end:
            assert end.rcvd is not None
            return got, end.rcvd.code

    with serving("--null", "--set", "grace_ms=300") as server:
        messages, code = asyncio.run(play(server))
        assert messages[0] == {"type": "closing", "reason": "draining", "grace_ms": 300}
        assert (messages[-1]["code"], messages[-1]["retryable"], code) == ("draining", True, 1_012)
        assert server.wait() == 0
