"""The server as a process of its own, spoken to by another WebSocket library than its own."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import websockets
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from pipelines import compiled
from tests.fakes.golden import FOLDER, Conversation, assert_same, conversations
from tests.fakes.serving import Server, serving

SCHEMAS = {
    path.name.removesuffix(".schema.json"): json.loads(path.read_text("utf-8"))
    for path in (FOLDER.parent / "schemas").glob("*.json")
}
START = json.dumps({"type": "start", "sample_rate": 16_000})


@pytest.fixture(scope="module", params=["compiled", "interpreted"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """One of each form of the session logic."""
    if request.param == "compiled" and (problem := compiled.problem()) is not None:
        pytest.skip(f"{problem.reason}. {problem.remedy}")
    limits = ("limits.max_sessions=20", "limits.start_timeout_ms=1500", "limits.max_message_bytes=40000")
    sets = (f"sessions={request.param}", *limits)
    with serving("--null", *(part for name in sets for part in ("--set", name))) as running:
        assert running.messages()[0] == f"sessions run {request.param}"
        yield running


def connect(server: Server, **options: Any) -> Any:
    return websockets.connect(f"{server.url}/v1/stream", subprotocols=["amira.asr.v1"], compression=None, **options)


async def receive(socket: Any) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(await asyncio.wait_for(socket.recv(), 10))
    jsonschema.validate(message, SCHEMAS[message["type"]])
    return message


async def closed(socket: Any) -> int:
    """Read to the end; the close code."""
    while True:
        try:
            await receive(socket)
        except websockets.ConnectionClosed as end:
            assert end.rcvd is not None
            return end.rcvd.code


async def error_of(socket: Any) -> dict[str, Any]:
    while (message := await receive(socket))["type"] != "error":
        pass
    return message


async def well(server: Server) -> None:
    """The server still serves."""
    async with connect(server) as socket:
        await socket.send(START)
        assert (await receive(socket))["type"] == "ready"
        await socket.send(bytes(3_200))
        assert (await receive(socket))["text"] == "heard 100 ms"
        await socket.send('{"type": "finish"}')
        assert await closed(socket) == 1_000


@pytest.mark.parametrize("conversation", conversations(), ids=lambda conversation: conversation.name)
def test_golden(server: Server, conversation: Conversation) -> None:
    async def play() -> None:
        async with connect(server) as socket:
            for kind, content in conversation.steps:
                if kind == "client":
                    await socket.send(json.dumps(content))
                elif kind == "client_text":
                    await socket.send(content)
                elif kind == "client_audio":
                    await socket.send(bytes(content["bytes"]))
                elif kind == "server":
                    assert_same(await receive(socket), content)
                else:
                    assert await closed(socket) == content

    asyncio.run(play())


texts = st.one_of(
    st.text(max_size=200),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
        max_leaves=8,
    ).map(json.dumps),
    st.fixed_dictionaries(
        {"type": st.sampled_from(["start", "flush", "finish", "ready", "final", "START", ""])},
        optional={
            "sample_rate": st.integers(-(2**70), 2**70) | st.sampled_from([8_000, 16_000, 44_100]) | st.none(),
            "encoding": st.sampled_from(["pcm_s16le", "pcm_f32le", "mulaw", "alaw", "opus", "\x00"]),
            "protocol": st.integers(-1, 3),
            "partials": st.booleans(),
            "silence_ms": st.integers(-1, 6_000),
            "resume_ms": st.integers(-1, 2**40),
        },
    ).map(json.dumps),
)
messages = st.one_of(texts, st.binary(max_size=9_000), st.just(START), st.just(bytes(3_200)))


@settings(max_examples=60, deadline=None, phases=[Phase.generate], suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(messages, min_size=1, max_size=8))
def test_no_sequence_of_messages_gets_past_the_protocol(server: Server, sequence: list[str | bytes]) -> None:
    """Whatever a client sends, it gets valid messages, at most one error, and a clean close; the server lives."""

    async def play() -> list[dict[str, Any]]:
        got = []
        async with connect(server) as socket:
            try:
                for message in sequence:
                    await socket.send(message)
                await socket.send('{"type": "finish"}')
                while True:
                    got.append(await receive(socket))
            except websockets.ConnectionClosed as end:
                assert end.rcvd is not None
                assert end.rcvd.code in {1_000, 1_008, 1_009}
        return got

    got = asyncio.run(play())
    errors = [message for message in got if message["type"] == "error"]
    assert len(errors) <= 1
    assert got[-1]["type"] in {"error", "closing"}
    assert not any(message["code"] == "internal" for message in errors)


@settings(max_examples=40, deadline=None, phases=[Phase.generate])
@given(st.binary(min_size=1, max_size=3_000))
def test_garbage_on_the_socket_ends_that_connection_alone(server: Server, garbage: bytes) -> None:
    request = (
        b"GET /v1/stream HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Protocol: amira.asr.v1\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.port), 10) as raw:
        raw.sendall(request)
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += raw.recv(4_096)
        assert answer.startswith(b"HTTP/1.1 101")
        raw.sendall(garbage)
    assert server.process.poll() is None


def test_the_server_is_well_after_all_that(server: Server) -> None:
    asyncio.run(well(server))
    assert not [line for line in server.log if line.get("level") == "error"]


def test_refuses_a_handshake_with_a_status(server: Server) -> None:
    async def status(**options: Any) -> int:
        arguments = {"uri": f"{server.url}/v1/stream", "subprotocols": ["amira.asr.v1"], **options}
        with pytest.raises(websockets.InvalidStatus) as refused:
            await websockets.connect(**arguments)
        return refused.value.response.status_code

    async def statuses() -> None:
        assert await status(uri=f"{server.url}/elsewhere") == 404
        assert await status(subprotocols=["amira.asr.v2"]) == 400
        assert await status(origin="https://elsewhere.example") == 403

    asyncio.run(statuses())


def test_a_client_of_the_same_origin_may_connect(server: Server) -> None:
    async def play() -> None:
        async with connect(server, origin=f"http://127.0.0.1:{server.port}") as socket:
            await socket.send(START)
            assert (await receive(socket))["type"] == "ready"

    asyncio.run(play())


def test_invalid_utf_8_in_a_text_message(server: Server) -> None:
    async def play() -> dict[str, Any]:
        async with connect(server) as socket:
            await socket.send(b'{"type": "\xff"}', text=True)
            return await error_of(socket)

    assert asyncio.run(play())["code"] == "bad_message"


def test_a_message_in_fragments_is_one_message(server: Server) -> None:
    async def play() -> None:
        async with connect(server) as socket:
            await socket.send(iter([START[:5], START[5:11], START[11:]]))
            assert (await receive(socket))["type"] == "ready"
            await socket.send(iter([bytes(1_001), bytes(2_199)]))
            assert (await receive(socket))["text"] == "heard 100 ms"

    asyncio.run(play())


@pytest.mark.parametrize("size", [40_001, 80_000, 400_000])
def test_a_huge_message_is_refused(server: Server, size: int) -> None:
    """A little too large: an error that says so; far too large: the frame's header is enough to close."""

    async def play() -> int:
        async with connect(server) as socket:
            await socket.send(START)
            await receive(socket)
            await socket.send(bytes(size))
            return await closed(socket)

    assert asyncio.run(play()) == 1_009


def test_no_start_in_time(server: Server) -> None:
    async def play() -> dict[str, Any]:
        async with connect(server) as socket:
            return await error_of(socket)

    error = asyncio.run(play())
    assert (error["code"], error["retryable"]) == ("start_timeout", True)


def test_one_session_too_many(server: Server) -> None:
    async def play() -> None:
        sockets = [await connect(server) for _ in range(21)]
        for each in sockets[:20]:
            await each.send(START)
            assert (await receive(each))["type"] == "ready"
        assert server.get("/readyz") == (503, "at capacity\n")
        await sockets[20].send(START)
        error = await receive(sockets[20])
        assert (error["code"], error["retryable"], error["retry_after_ms"]) == ("at_capacity", True, 1_000)
        assert await closed(sockets[20]) == 1_013
        await asyncio.gather(*(each.close() for each in sockets))
        async with asyncio.timeout(10):
            while server.metric("active_streams"):
                await asyncio.sleep(0.05)
        await well(server)

    asyncio.run(play())


def test_newcomers_have_many_ways_in(server: Server) -> None:
    """libuv accepts one connection a turn of its loop and descriptor of the listener."""
    table = Path("/proc/net/tcp").read_text("ascii").splitlines()[1:]
    [listener] = [row[9] for row in map(str.split, table) if row[3] == "0A" and int(row[1][-4:], 16) == server.port]
    opened = [entry.readlink().name for entry in Path(f"/proc/{server.process.pid}/fd").iterdir()]
    assert opened.count(f"socket:[{listener}]") > 10


def test_health_metrics_and_status(server: Server) -> None:
    assert server.get("/healthz") == (200, "ok\n")
    assert server.get("/readyz") == (200, "ready\n")
    code, page = server.get("/")
    assert code == 200
    assert "ready" in page
    form = "compiled" if server.metric("sessions_compiled") else "interpreted"
    assert server.messages()[0] == f"sessions run {form}"
    assert f"<td>{form}</td>" in page
    _, metrics = server.get("/metrics")
    for name in (
        "request_latency_seconds",
        "gpu_inference_time_seconds",
        "queue_time_seconds",
        "active_streams",
        "triton_errors_total",
    ):
        assert f"# TYPE {name.removesuffix('_total')}" in metrics
