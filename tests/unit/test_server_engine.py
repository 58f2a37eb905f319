"""Many streams in one engine: rounds of a bounded size, everybody's turn, and the memory that is left behind."""

from __future__ import annotations

import asyncio
from collections import Counter
from time import perf_counter_ns
from typing import Any

import pytest

from pipelines import compiled
from pipelines.audio.endpoint import EndpointRules
from pipelines.audio.ingest import open_ingest
from pipelines.audio.vad_stream import EverythingIsSpeech
from pipelines.batcher import BatchDelay
from pipelines.contracts import Partial
from pipelines.first_pass import NullPass, Partials
from pipelines.second_pass import FirstPassFinals
from pipelines.session import FinalEvent, PartialEvent, SessionSettings
from pipelines.streaming import StreamingRecognizer
from server.engine import Engine, Stream
from server.lane import Lane
from server.metrics import Metrics


class Noting(NullPass):
    """Notes whose chunks come together."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def push(self, segments: Any, pcm: Any) -> list[Partial]:
        self.batches.append([id(each) for each in segments])
        return super().push(segments, pcm)


class Ear:
    def __init__(self) -> None:
        self.texts: list[str] = []
        self.over = asyncio.Event()

    def said(self, events: Any, finished: bool) -> None:
        self.texts += [event.text for event in events if isinstance(event, FinalEvent)]
        if finished:
            self.over.set()

    def failed(self, code: str, message: str) -> None:
        raise AssertionError(f"{code}: {message}")

    def relieved(self) -> None:
        pass

    def tracing(self, job: Any) -> None:
        return None


def test_a_late_partial_gives_way_to_a_newer_one() -> None:
    def partial(segment: int, text: str, arrived_ns: int) -> PartialEvent:
        return PartialEvent(segment, Partial(text, 0), 0, 100, arrived_ns)

    now_ns = perf_counter_ns()
    hour_ns = 3_600_000_000_000
    final = FinalEvent(0, "one", (), "endpoint", 0, 100, 100, 0, now_ns)
    late, later, other = partial(0, "o", now_ns - hour_ns), partial(0, "on", now_ns - hour_ns), partial(1, "t", 0)
    prompt, newest = partial(0, "o", now_ns + hour_ns), partial(0, "on", now_ns + hour_ns)

    class Hearing(Ear):
        def __init__(self) -> None:
            super().__init__()
            self.heard: list[Any] = []

        def said(self, events: Any, finished: bool) -> None:
            self.heard.append((*events, finished))

        def failed(self, code: str, message: str) -> None:
            self.heard.append(code)

        def relieved(self) -> None:
            self.heard.append("relieved")

    async def said(*answers: tuple[str, tuple[Any, ...]]) -> list[Any]:
        lane = Lane(1, 10_000, Metrics())
        with FirstPassFinals.open(None) as finals:
            engine = Engine(StreamingRecognizer(EverythingIsSpeech(), Partials(NullPass()), finals), lane, Metrics(), 2)
        ear, loop = Hearing(), asyncio.get_running_loop()
        for method, arguments in answers:
            engine._take_over(loop, [(ear, method, arguments)])
        await asyncio.sleep(0)
        lane.close()
        return ear.heard

    def play(*answers: tuple[str, tuple[Any, ...]]) -> list[Any]:
        return asyncio.run(said(*answers))

    assert play(("said", ((late,), False)), ("said", ((later,), False))) == [(later, False)]
    assert play(("said", ((prompt,), False)), ("said", ((newest,), False))) == [(prompt, newest, False)]
    assert play(("said", ((late,), False)), ("said", ((final,), True))) == [(late, final, True)]
    assert play(("said", ((late,), False)), ("said", ((other,), False))) == [(late, other, False)]
    assert play(("said", ((final, late), False)), ("said", ((later, final), True))) == [(final, later, final, True)]
    assert play(("said", ((late,), False)), ("relieved", ())) == ["relieved", (late, False)]
    assert play(("said", ((late,), False)), ("failed", ("internal", ""))) == [(late, False), "internal"]


def test_more_streams_than_a_round_takes_get_their_turns() -> None:
    noting, count, chunks = Noting(), 5, 12

    async def play() -> int:
        with FirstPassFinals.open(None) as finals:
            metrics = Metrics()
            lane = Lane(1, 10_000, metrics)
            engine = Engine(StreamingRecognizer(EverythingIsSpeech(), Partials(noting), finals), lane, metrics, 2)
            engine.start(asyncio.get_running_loop())
            ears = [Ear() for _ in range(count)]
            settings = SessionSettings(EndpointRules(8_000, 320_000, 3_200))
            streams = [Stream(ear, settings, open_ingest("pcm_s16le", 16_000), 32_000) for ear in ears]
            for stream in streams:  # all in one letter: nobody has a head start
                engine.open(stream)
                engine.audio(stream, bytes(3_200 * chunks), 0)
                engine.mark(stream, "finish")
            async with asyncio.timeout(20):
                for ear in ears:
                    await ear.over.wait()
            held = engine.held.bytes
            for stream in streams:
                engine.close(stream)
            await asyncio.sleep(0)  # the letter goes
            await asyncio.to_thread(engine.stop)
            lane.close()
            assert [ear.texts for ear in ears] == [[f"heard {100 * chunks} ms"]] * count
            assert engine.held.bytes == 0
            return held

    held = asyncio.run(play())
    assert held >= 2 * 1_600 * count
    assert max(map(len, noting.batches)) == 2
    turns: Counter[int] = Counter()
    for batch in noting.batches[: count * (chunks - 1) // 2]:
        turns.update(batch)
        assert len(turns) < count or max(turns.values()) - min(turns.values()) <= 1
    assert len(turns) == count


@pytest.mark.skipif(compiled.active(), reason="methods of compiled classes cannot be replaced")
def test_a_chunk_that_waits_for_another_is_heard_when_none_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[int] = []

    def until_ns(delay: BatchDelay, now_ns: int) -> int:
        waits[:] = waits or [now_ns + 5_000_000]
        return waits[0] if now_ns < waits[0] else 0

    class Waiting(Ear):
        def said(self, events: Any, finished: bool) -> None:
            assert all(isinstance(event, PartialEvent) for event in events)
            self.over.set()

    async def play() -> None:
        with FirstPassFinals.open(None) as finals:
            metrics = Metrics()
            lane = Lane(1, 10_000, metrics)
            engine = Engine(StreamingRecognizer(EverythingIsSpeech(), Partials(NullPass()), finals), lane, metrics, 8)
            engine.start(asyncio.get_running_loop())
            ear, settings = Waiting(), SessionSettings(EndpointRules(8_000, 320_000, 3_200))
            stream = Stream(ear, settings, open_ingest("pcm_s16le", 16_000), 32_000)
            engine.open(stream)
            engine.audio(stream, bytes(2 * NullPass.chunk_samples), 0)
            async with asyncio.timeout(20):
                await ear.over.wait()
            assert perf_counter_ns() >= waits[0]
            await asyncio.to_thread(engine.stop)
            lane.close()

    monkeypatch.setattr(BatchDelay, "until_ns", until_ns)
    asyncio.run(play())
