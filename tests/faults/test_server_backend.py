"""A backend that fails: what was heard is heard again, what cannot be mended is an error that may be retried."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pipelines.audio.endpoint import EndpointRules
from pipelines.audio.ingest import open_ingest
from pipelines.audio.vad_stream import EverythingIsSpeech
from pipelines.contracts import Transcript
from pipelines.first_pass import NullPass, Partials, heard_words
from pipelines.resilience import ServiceFailedError
from pipelines.session import FinalEvent, SessionSettings
from pipelines.streaming import StreamingRecognizer
from server.engine import Engine, Stream
from server.lane import Lane
from server.metrics import Metrics

GONE = ServiceFailedError("the backend is gone")


class Shaky:
    """Fails so many times, and from then on works."""

    def __init__(self, failures: int, error: Exception = GONE) -> None:
        self.failures, self.error = failures, error

    def __call__(self) -> None:
        if self.failures:
            self.failures -= 1
            raise self.error


class ShakyPass(NullPass):
    def __init__(self, shaky: Shaky) -> None:
        self._shaky = shaky

    def push(self, segments: Any, pcm: Any) -> Any:
        self._shaky()
        return super().push(segments, pcm)


class ShakyFinals:
    def __init__(self, shaky: Shaky) -> None:
        self._shaky = shaky

    def settle(self, pcm: bytes, draft: Any) -> Transcript:
        self._shaky()
        return Transcript(draft or (heard_words(len(pcm) // 2),), ())


class Ear:
    """What a client would be told."""

    def __init__(self) -> None:
        self.finals: list[FinalEvent] = []
        self.failure: tuple[str, str] | None = None
        self.over = asyncio.Event()

    def said(self, events: Any, finished: bool) -> None:
        self.finals += [event for event in events if isinstance(event, FinalEvent)]
        if finished:
            self.over.set()

    def failed(self, code: str, message: str) -> None:
        self.failure = (code, message)
        self.over.set()

    def relieved(self) -> None:
        pass

    def tracing(self, job: Any) -> None:
        return None


@contextmanager
def engine_of(first: Shaky, final: Shaky, timeout_ms: int = 10_000) -> Iterator[Engine]:
    parts = StreamingRecognizer(EverythingIsSpeech(), Partials(ShakyPass(first)), ShakyFinals(final))
    metrics = Metrics()
    lane = Lane(1, timeout_ms, metrics)
    engine = Engine(parts, lane, metrics, 256)
    engine.start(asyncio.get_running_loop())
    try:
        yield engine
    finally:
        engine.stop()
        lane.close()


async def speak(engine: Engine) -> Ear:
    ear = Ear()
    settings = SessionSettings(EndpointRules(8_000, 320_000, 3_200))
    stream = Stream(ear, settings, open_ingest("pcm_s16le", 16_000), 32_000)
    engine.open(stream)
    for _ in range(10):
        engine.audio(stream, bytes(3_200), 0)
    engine.mark(stream, "finish")
    async with asyncio.timeout(20):
        await ear.over.wait()
    return ear


def outcome(first: Shaky, final: Shaky, timeout_ms: int = 10_000) -> Ear:
    async def play() -> Ear:
        with engine_of(first, final, timeout_ms) as engine:
            ear = await speak(engine)
            if ear.failure is not None:  # the next session is not to suffer for it
                first.failures = final.failures = 0
                after = await speak(engine)
                assert after.failure is None
            return ear

    return asyncio.run(play())


def test_a_first_pass_that_comes_back_loses_no_audio() -> None:
    ear = outcome(Shaky(3), Shaky(0))
    assert ear.failure is None
    assert [final.text for final in ear.finals] == ["heard 1000 ms"]


def test_a_second_pass_that_comes_back_loses_no_segment() -> None:
    ear = outcome(Shaky(0), Shaky(3))
    assert ear.failure is None
    assert [final.text for final in ear.finals] == ["heard 1000 ms"]


def test_a_backend_that_stays_away_is_an_error_that_may_be_retried() -> None:
    for first, final in ((Shaky(1_000), Shaky(0)), (Shaky(0), Shaky(1_000))):
        ear = outcome(first, final, timeout_ms=700)
        assert ear.failure is not None
        assert ear.failure[0] == "backend_unavailable"


def test_a_bug_costs_its_session_alone() -> None:
    for first, final in ((Shaky(1, KeyError("bug")), Shaky(0)), (Shaky(0), Shaky(1, KeyError("bug")))):
        ear = outcome(first, final)
        assert ear.failure is not None
        assert ear.failure[0] == "internal"
        assert "bug" not in ear.failure[1]  # nothing of the inside goes to a client
