"""A chunk that is alone waits for a second one, where that pays; the clock is the test's."""

from __future__ import annotations

from typing import Any

import pytest

from pipelines import batcher as module
from pipelines.audio.endpoint import EndpointRules
from pipelines.audio.tape import Held
from pipelines.audio.vad_stream import EverythingIsSpeech
from pipelines.batcher import BatchDelay, Batcher
from pipelines.contracts import Partial
from pipelines.first_pass import NullPass, Partials
from pipelines.session import Session, SessionSettings

MS = 1_000_000
MESSAGE = bytes(2 * NullPass.chunk_samples)


class Clock:
    def __init__(self) -> None:
        self.now_ns = 1_000 * MS

    def __call__(self) -> int:
        return self.now_ns


class Timed(NullPass):
    """Takes so long for the first chunk and so long for each other one."""

    def __init__(self, clock: Clock, first_ms: int, other_ms: int) -> None:
        self._clock, self._first_ms, self._other_ms = clock, first_ms, other_ms

    def push(self, segments: Any, pcm: Any) -> list[Partial]:
        self._clock.now_ns += (self._first_ms + (len(pcm) - 1) * self._other_ms) * MS
        return super().push(segments, pcm)


class Server:
    """Two sessions whose chunks came by turns for a while, and now and then together."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, gap_ms: int, first_ms: int, other_ms: int) -> None:
        self.clock = Clock()
        monkeypatch.setattr(module, "perf_counter_ns", self.clock)
        first_pass, detector = Timed(self.clock, first_ms, other_ms), EverythingIsSpeech()
        self.batcher = Batcher(detector, first_pass)
        settings = SessionSettings(EndpointRules(8_000, 320_000, 3_200))
        self.sessions = [
            Session(settings, None, detector.chunk_samples, Partials(first_pass), Held()) for _ in range(2)
        ]
        for turn in range(200):
            both = turn % 5 == 4
            for session in self.sessions if both else [self.sessions[turn % 2]]:
                session.push(MESSAGE, self.clock.now_ns)
            while not self.round().idle:
                self.clock.now_ns += MS
            self.clock.now_ns += gap_ms * MS

    def round(self) -> module.Round:
        return self.batcher.round(self.sessions)


def test_a_chunk_that_is_alone_waits_as_long_as_hearing_two_together_saves(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(monkeypatch, gap_ms=5, first_ms=10, other_ms=2)
    server.sessions[0].push(MESSAGE, server.clock.now_ns)
    waits = server.round()
    assert (waits.heard, waits.idle, waits.waits_until_ns) == (0, False, server.clock.now_ns + 8 * MS)
    server.clock.now_ns += 3 * MS
    assert server.round().waits_until_ns == waits.waits_until_ns
    server.clock.now_ns = waits.waits_until_ns
    assert server.round().heard == 1


def test_nobody_waits_once_there_are_two(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(monkeypatch, gap_ms=5, first_ms=10, other_ms=2)
    for session, heard in zip(server.sessions, (0, 2), strict=True):
        session.push(MESSAGE, server.clock.now_ns)
        assert server.round().heard == heard


@pytest.mark.parametrize(("gap_ms", "first_ms", "other_ms"), [(5, 10, 10), (160, 10, 2)])
def test_nobody_waits_where_two_cost_twice_as_much_or_chunks_come_seldom(
    monkeypatch: pytest.MonkeyPatch, gap_ms: int, first_ms: int, other_ms: int
) -> None:
    server = Server(monkeypatch, gap_ms, first_ms, other_ms)
    server.sessions[0].push(MESSAGE, server.clock.now_ns)
    assert server.round().heard == 1


def test_neither_a_final_nor_who_has_fallen_behind_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(monkeypatch, gap_ms=5, first_ms=10, other_ms=2)
    ending, behind = server.sessions
    ending.push(MESSAGE, server.clock.now_ns)
    ending.flush(server.clock.now_ns)
    assert server.round().heard == 1
    behind.push(2 * MESSAGE, server.clock.now_ns)
    assert server.round().heard == 1


def test_a_model_that_takes_microseconds_is_not_waited_for() -> None:
    delay, now_ns = BatchDelay(), 1_000 * MS
    for chunks in (1, 2) * 50:
        delay.heard(chunks, now_ns, now_ns + 20_000)
        now_ns += 30_000
    assert not delay.until_ns(now_ns)


def test_a_night_without_speech_is_soon_forgotten() -> None:
    delay, now_ns = BatchDelay(), 8 * 3_600_000 * MS
    for chunks in (1, 2) * 50:
        delay.heard(chunks, now_ns, now_ns + 10 * MS)
        now_ns += 10 * MS
    assert delay.until_ns(now_ns) == now_ns + 10 * MS
