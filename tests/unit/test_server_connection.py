"""The limits of a session's audio, at the very message that reaches one; its engine does not run: all of it waits."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from picows import WSMsgType

from pipelines.audio.vad_stream import EverythingIsSpeech
from pipelines.first_pass import NullPass, Partials
from pipelines.second_pass import FirstPassFinals
from pipelines.streaming import StreamingRecognizer
from server.connection import Connection
from server.engine import Engine
from server.gateway import Gateway
from server.lane import Lane
from server.metrics import Metrics
from server.settings import Settings
from server.tracing import Tracing

MESSAGE = bytes(3_200)  # 100 ms


class Frame:
    fin = True

    def __init__(self, kind: WSMsgType, payload: bytes) -> None:
        self.msg_type, self._payload = kind, payload

    def get_payload_as_bytes(self) -> bytes:
        return self._payload


class Wire:
    """Stands for the transport, its own underlying one too."""

    is_disconnected = False

    def __init__(self) -> None:
        self.underlying_transport = self
        self.reading = True
        self.sent: list[dict[str, Any]] = []

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def send(self, kind: WSMsgType, payload: bytes) -> None:
        self.sent.append(json.loads(payload))

    def send_close(self, code: int) -> None:
        pass

    def disconnect(self, graceful: bool = True) -> None:
        pass


def play(script: Callable[[Connection, Wire, Callable[[bytes], None]], None], **limits: int) -> None:
    """Run a script with a session that has started, and a function that gives it audio."""

    async def run() -> None:
        with FirstPassFinals.open(None) as finals:
            settings, metrics = Settings(limits=limits), Metrics()
            lane = Lane(1, 10_000, metrics)
            engine = Engine(StreamingRecognizer(EverythingIsSpeech(), Partials(NullPass()), finals), lane, metrics, 2)
            gateway = Gateway(settings, engine, lane, metrics, Tracing(None), "null")
            connection, wire = Connection(gateway, None, None), Wire()
            connection.on_ws_connected(wire)

            def audio(data: bytes) -> None:
                connection.on_ws_frame(wire, Frame(WSMsgType.BINARY, data))

            connection.on_ws_frame(wire, Frame(WSMsgType.TEXT, b'{"type": "start", "sample_rate": 16000}'))
            assert [message["type"] for message in wire.sent] == ["ready"]
            script(connection, wire, audio)
            engine.start(asyncio.get_running_loop())
            await gateway.close()

    asyncio.run(run())


def errors(wire: Wire) -> list[str]:
    return [message["code"] for message in wire.sent if message["type"] == "error"]


@pytest.mark.parametrize("first", [1, 3, 10])
def test_a_session_is_as_long_as_it_may_be_and_no_sample_longer(first: int) -> None:
    def script(connection: Connection, wire: Wire, audio: Callable[[bytes], None]) -> None:
        audio(MESSAGE * first)
        for _ in range(10 - first):
            audio(MESSAGE)
        assert not errors(wire)
        audio(bytes(2))
        assert errors(wire) == ["session_too_long"]

    play(script, max_session_ms=1_000, backlog_ms=60_000)


def test_audio_runs_ahead_as_far_as_it_may() -> None:
    def script(connection: Connection, wire: Wire, audio: Callable[[bytes], None]) -> None:
        for _ in range(20):
            audio(MESSAGE)
        assert not errors(wire)
        audio(MESSAGE * 40)  # more than what time has passed since allows
        assert errors(wire) == ["too_far_ahead"]

    play(script, max_ahead_ms=2_000, backlog_ms=60_000)


def test_a_client_is_held_back_while_more_waits_than_may() -> None:
    def script(connection: Connection, wire: Wire, audio: Callable[[bytes], None]) -> None:
        for _ in range(10):
            audio(MESSAGE)
        assert wire.reading
        audio(bytes(2))
        assert not wire.reading
        connection.relieved()
        assert wire.reading
        assert not errors(wire)

    play(script, backlog_ms=1_000)
