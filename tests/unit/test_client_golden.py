"""The Python client replays the golden conversations against a scripted server."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec
import pytest
import websockets

from amira_client import AsyncClient, ConnectionLostError, Final, Partial, Retry, ServerError
from amira_client.connection import Connection
from amira_client.messages import ClientMessage, ServerMessage
from tests.fakes.golden import Conversation, conversations, filled

WELL_FORMED = [each for each in conversations() if all(kind != "client_text" for kind, _ in each.steps)]


async def play_server(socket: Any, conversation: Conversation, heard: list[Any]) -> None:
    for kind, content in conversation.steps:
        if kind == "server":
            await socket.send(json.dumps(filled(content)))
        elif kind == "close":
            await socket.close(content)
        else:
            heard.append(await socket.recv())


def as_message(content: dict[str, Any]) -> ClientMessage | None:
    try:
        return msgspec.convert(content, ClientMessage)
    except msgspec.ValidationError:
        return None  # a message that is wrong on purpose, which the client's types cannot even express


@pytest.mark.parametrize("conversation", WELL_FORMED, ids=lambda conversation: conversation.name)
def test_golden(conversation: Conversation) -> None:
    """The connection sends what the client says and gives every message of the server, and the close code."""

    async def play() -> None:
        heard: list[Any] = []

        async def handle(socket: Any) -> None:
            await play_server(socket, conversation, heard)

        async with websockets.serve(handle, "127.0.0.1", 0, subprotocols=["amira.asr.v1"]) as server:  # type: ignore[list-item]
            port = server.sockets[0].getsockname()[1]
            connection = await Connection.open(f"ws://127.0.0.1:{port}")
            sent: list[Any] = []
            for kind, content in conversation.steps:
                if kind == "client":
                    message = as_message(content)
                    if message is None:
                        return
                    connection.send(message)
                    sent.append(content)
                elif kind == "client_audio":
                    connection.send_audio(bytes(content["bytes"]))
                    sent.append(bytes(content["bytes"]))
                elif kind == "server":
                    assert await connection.receive() == msgspec.convert(filled(content), ServerMessage)
                else:
                    with pytest.raises(ConnectionLostError):
                        await connection.receive()
                    assert connection.close_code == content
            for got, wanted in zip(heard, sent, strict=True):
                if isinstance(wanted, bytes):
                    assert got == wanted
                else:
                    assert msgspec.json.decode(got, type=ClientMessage) == as_message(wanted)

    asyncio.run(play())


READY = {
    "type": "ready", "protocol": 1, "session": "s", "model": "m", "partials": True, "max_message_bytes": 100_000,
    "max_ahead_ms": 60_000, "idle_timeout_ms": 60_000, "max_session_ms": 10**9,
}  # fmt: skip


def final(segment: int, audio_ms: int, cause: str = "endpoint") -> dict[str, Any]:
    return {
        "type": "final", "segment": segment, "text": f"t{segment}", "words": [], "cause": cause,
        "start_ms": 0, "end_ms": audio_ms, "audio_ms": audio_ms,
    }  # fmt: skip


def test_goes_on_after_an_interruption_where_the_last_final_ended() -> None:
    """The second connection gets the audio that no final covered, and the flush that was not answered."""
    seen: list[list[Any]] = []

    async def handle(socket: Any) -> None:
        turn: list[Any] = [json.loads(await socket.recv())]
        seen.append(turn)
        await socket.send(json.dumps(READY))
        if len(seen) == 1:
            while sum(len(item) for item in turn[1:] if isinstance(item, bytes)) < 32_000:
                turn.append(await socket.recv())
            await socket.send(json.dumps({"type": "partial", "segment": 0, "text": "t", "stable_chars": 0,
                                          "start_ms": 0, "audio_ms": 500}))  # fmt: skip
            await socket.send(json.dumps(final(0, 600)))
            socket.transport.abort()
            return
        while True:
            item = await socket.recv()
            turn.append(item if isinstance(item, bytes) else json.loads(item)["type"])
            if turn[-1] == "flush":
                await socket.send(json.dumps(final(1, 1_000, "flush")))
            elif turn[-1] == "finish":
                await socket.send(json.dumps(final(2, 1_000, "finish")))
                await socket.send('{"type": "closing", "reason": "finished", "grace_ms": 0}')
                return

    async def play() -> list[Any]:
        async with websockets.serve(handle, "127.0.0.1", 0, subprotocols=["amira.asr.v1"]) as server:  # type: ignore[list-item]
            client = AsyncClient(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}", retry=Retry(base_s=0.01))
            async with client.stream(16_000) as stream:
                audio = bytes(range(256)) * 125  # one second
                for at in range(0, len(audio), 3_200):
                    await stream.send(audio[at : at + 3_200])
                first = [await anext(stream), await anext(stream)]
                await stream.flush()
                await stream.finish()
                rest = [event async for event in stream]
                assert stream.reconnects == 1
                return [*first, *rest]

    events = asyncio.run(play())
    assert isinstance(events[0], Partial)
    assert [event.segment for event in events if isinstance(event, Final)] == [0, 1, 2]
    assert (seen[0][0]["resume_ms"], seen[0][0]["resume_segment"]) == (0, 0)
    assert (seen[1][0]["resume_ms"], seen[1][0]["resume_segment"]) == (600, 1)
    replayed = b"".join(item for item in seen[1] if isinstance(item, bytes))
    assert replayed == (bytes(range(256)) * 125)[600 * 32 :]
    assert seen[1][-2:] == ["flush", "finish"]


def test_an_error_that_cannot_be_mended_is_raised() -> None:
    async def handle(socket: Any) -> None:
        await socket.recv()
        error = {"type": "error", "code": "unauthorized", "message": "no", "retryable": False}
        await socket.send(json.dumps(error))

    async def play() -> None:
        async with websockets.serve(handle, "127.0.0.1", 0, subprotocols=["amira.asr.v1"]) as server:  # type: ignore[list-item]
            client = AsyncClient(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}")
            await client.transcribe(bytes(32_000), 16_000)

    with pytest.raises(ServerError, match="unauthorized") as raised:
        asyncio.run(play())
    assert raised.value.code == "unauthorized"


def test_a_server_that_is_not_there_is_tried_again_and_then_raised() -> None:
    async def play() -> None:
        client = AsyncClient("ws://127.0.0.1:1", retry=Retry(attempts=2, base_s=0.01))
        await client.transcribe(bytes(3_200), 16_000)

    with pytest.raises(ConnectionLostError, match="cannot be reached"):
        asyncio.run(play())
