"""Sessions without any I/O: what goes in, what comes out, in every cut."""

from __future__ import annotations

import itertools
import pickle
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amira_client.messages import Final
from amira_client.replay import Replay
from pipelines.agreement import Agreement
from pipelines.audio.endpoint import Ended, Endpointer, EndpointRules, Started
from pipelines.audio.ingest import open_ingest
from pipelines.audio.tape import Held, Tape
from pipelines.audio.vad_stream import EverythingIsSpeech
from pipelines.batcher import MOST_PUT_OFF, Batcher
from pipelines.contracts import Hypothesis
from pipelines.errors import AmiraError
from pipelines.first_pass import NullPass, Partials, Regrow
from pipelines.session import MAX_UNSETTLED, FinalEvent, PartialEvent, Session, SessionSettings

RULES = EndpointRules(silence=8_000, longest=320_000, pad=3_200)


class Loudness:
    """A detector that takes what is loud for speech."""

    chunk_samples = 512

    def open(self) -> None:
        return None

    def probabilities(self, states: object, counts: object, chunks: np.ndarray) -> np.ndarray:
        return (np.abs(chunks.astype(np.int32)).mean(axis=1) > 100).astype(np.float32)


def talk(*pieces: tuple[str, float]) -> np.ndarray:
    """Loud and quiet stretches, in seconds."""
    return np.concatenate([np.full(int(s * 16_000), 1_000 if kind == "loud" else 0, np.int16) for kind, s in pieces])


def session_of(
    partials: Partials,
    rules: EndpointRules = RULES,
    detector: object | None = None,
    held: Held | None = None,
    **more: int,
) -> Session:
    chunk = (detector or Loudness()).chunk_samples  # type: ignore[attr-defined]
    return Session(SessionSettings(rules, **more), None, chunk, partials, held or Held())  # type: ignore[arg-type]


def play(session: Session, batcher: Batcher) -> list[PartialEvent | FinalEvent]:
    """Run everything that there is to do; the second pass says how long its audio is."""
    events: list[PartialEvent | FinalEvent] = []
    while True:
        done = batcher.round([session])
        jobs = session.take_jobs()
        for job in jobs:
            session.recognised(job, (Hypothesis(f"{len(job.pcm) // 32} ms", (), 0.0),))
        events += session.take_events()
        if done.idle and not jobs:
            return events


def two_speakers() -> tuple[Session, Session, Batcher]:
    """Both have spoken for a second, and all of it was heard."""
    first, second = (session_of(Partials(NullPass())) for _ in range(2))
    batcher = Batcher(Loudness(), NullPass())
    for session in (first, second):
        session.push(talk(("loud", 1.0)).tobytes(), 0)
        play(session, batcher)
    return first, second, batcher


@pytest.mark.parametrize(
    ("said", "flush", "waits"),
    [
        ([("loud", 0.1)], False, False),
        ([("loud", 0.5)], False, False),  # much at once
        ([("quiet", 2.0), ("loud", 0.2)], False, True),  # the beginning of a segment
        ([("quiet", 0.45), ("quiet", 0.15)], False, True),  # the end of a segment
        ([("quiet", 0.35), ("loud", 0.1)], False, True),  # the pause, once speech goes on
        ([("loud", 0.05)], True, False),  # somebody asked for the final
    ],
)
def test_what_nobody_waits_for_is_heard_after_what_somebody_waits_for(
    said: list[tuple[str, float]], flush: bool, waits: bool
) -> None:
    other, speaker, batcher = two_speakers()
    other.push(talk(*said[:1]).tobytes(), 0)
    if len(said) > 1:  # as far as a pause is heard before speech goes on
        play(other, batcher)
        other.push(talk(*said[1:]).tobytes(), 0)
    if flush:
        other.flush(0)
    speaker.push(talk(("loud", 0.1)).tobytes(), 0)
    assert batcher.round([other, speaker]).heard == (1 if waits else 2)
    assert [event.audio_ms for event in speaker.take_events() if isinstance(event, PartialEvent)] == [1_100]
    while not batcher.round([other, speaker]).idle:
        pass
    assert not other.ready and not other.put_off


def test_who_catches_up_is_put_off_for_a_few_rounds_only() -> None:
    _, speaker, batcher = two_speakers()
    beginning = session_of(Partials(NullPass()), EndpointRules(silence=8_000, longest=320_000, pad=32_000))
    beginning.push(talk(("quiet", 3.0)).tobytes(), 0)
    play(beginning, batcher)
    beginning.push(talk(("loud", 0.2)).tobytes(), 0)  # and two seconds before it belong to the segment
    heard = []
    for _ in range(3 * (MOST_PUT_OFF + 1)):
        speaker.push(talk(("loud", 0.1)).tobytes(), 0)
        heard.append(batcher.round([beginning, speaker]).heard)
    assert heard == 3 * [*MOST_PUT_OFF * [1], 2]


@given(st.lists(st.integers(0, 3_000), max_size=30), st.integers(0, 6_000), st.data())
def test_tape_holds_what_was_appended(sizes: list[int], keep: int, data: st.DataObject) -> None:
    held = Held()
    tape, whole = Tape(50_000, held), b""
    for size in sizes:
        part = np.arange(tape.stop, tape.stop + size).astype("<i2").tobytes()
        tape.append(part)
        whole += part
        tape.drop_before(tape.stop - keep)
        assert tape.stop == len(whole) // 2
        start = data.draw(st.integers(tape.start, tape.stop))
        stop = data.draw(st.integers(start, tape.stop))
        for first, last in ((tape.start, tape.stop), (start, stop)):
            assert tape.read(first, last) == whole[2 * first : 2 * last]
        most = 2 * (keep + 1_024 + max(sizes))  # a short piece and what was joined to it go together
        assert 2 * (tape.stop - tape.start) <= held.bytes <= most
    tape.close()
    assert held.bytes == 0


def test_tiny_messages_are_joined() -> None:
    tape, samples = Tape(100_000, Held()), [number.to_bytes(2, "little") for number in range(20_000)]
    tracemalloc.start()
    for sample in samples:
        tape.append(sample)
    spent = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert tape.read(0, 20_000) == b"".join(samples)
    assert spent < 45_000


def test_a_message_that_is_read_as_it_came_is_not_copied() -> None:
    tape, messages = Tape(100_000, Held()), [bytes([number]) * 3_200 for number in range(3)]
    for message in messages:
        tape.append(message)
    assert all(tape.read(1_600 * k, 1_600 * (k + 1)) is messages[k] for k in range(3))


def test_tape_refuses_what_it_cannot_hold_or_does_not_hold() -> None:
    held = Held()
    tape = Tape(100, held)
    assert held.bytes == 0
    tape.append(bytes(200))
    with pytest.raises(OverflowError, match="do not fit"):
        tape.append(bytes(2))
    tape.drop_before(50)
    with pytest.raises(IndexError, match="50 to 100"):
        tape.read(49, 60)


@settings(deadline=None)
@given(st.sampled_from(["pcm_s16le", "pcm_f32le", "mulaw", "alaw"]), st.lists(st.integers(1, 700), max_size=12))
def test_ingest_does_not_depend_on_how_audio_is_cut(encoding: str, cuts: list[int]) -> None:
    data = np.random.default_rng(1).integers(0, 256, 4_000, np.uint8).tobytes()
    whole = open_ingest(encoding, 16_000).push(data)
    ingest, at, parts = open_ingest(encoding, 16_000), 0, []
    for cut in [*cuts, len(data)]:
        parts.append(ingest.push(data[at : at + cut]))
        at += cut
    assert b"".join([*parts, ingest.finish()]) == whole


def test_ingest_resamples_and_refuses() -> None:
    tone = (np.sin(np.arange(8_000) / 8_000 * 2 * np.pi * 300) * 10_000).astype("<i2")
    ingest = open_ingest("pcm_s16le", 8_000)
    parts = [ingest.push(tone[k : k + 800].tobytes()) for k in range(0, 8_000, 800)]
    out = np.frombuffer(b"".join([*parts, ingest.finish()]), "<i2")
    wanted = np.sin(np.arange(16_000) / 16_000 * 2 * np.pi * 300) * 10_000
    assert len(out) == pytest.approx(16_000, abs=2)
    np.testing.assert_allclose(out[1_000:15_000], wanted[1_000:15_000], atol=60)
    with pytest.raises(AmiraError, match="have: alaw"):
        open_ingest("opus", 16_000)
    with pytest.raises(AmiraError, match="out of range"):
        open_ingest("pcm_s16le", 7_999)
    cut = open_ingest("pcm_f32le", 16_000)
    cut.push(b"123")
    with pytest.raises(AmiraError, match="3 bytes into a sample of 4"):
        cut.finish()


@settings(deadline=None)
@given(st.lists(st.sampled_from([0.0, 0.4, 1.0]), max_size=300), st.integers(2_048, 40_000))
def test_segments_alternate_are_bounded_and_do_not_overlap(probabilities: list[float], longest: int) -> None:
    endpointer = Endpointer(EndpointRules(2_048, max(longest, 32_000), 1_000))
    changes = [
        (change, (k + 1) * 512)
        for k, probability in enumerate(probabilities)
        for change in endpointer.update(probability, probability, k * 512, (k + 1) * 512)
    ]
    changes += [(change, len(probabilities) * 512) for change in endpointer.stop(len(probabilities) * 512, "finish")]
    floor = 0
    for index, (change, now) in enumerate(changes):
        if index % 2 == 0:
            assert isinstance(change, Started)
            assert floor <= change.start <= now
            start = change.start
        else:
            assert isinstance(change, Ended)
            assert start <= change.end <= now
            assert change.end - start <= max(longest, 32_000) + 512
            floor = change.end
    assert len(changes) % 2 == 0


def test_a_pause_ends_a_segment_and_finish_answers() -> None:
    session = session_of(Partials())
    session.push(talk(("quiet", 1), ("loud", 1), ("quiet", 1), ("loud", 0.03), ("quiet", 1)).tobytes(), 7)
    session.finish(9)
    first, last = [event for event in play(session, Batcher(Loudness(), None)) if isinstance(event, FinalEvent)]
    assert (first.segment, first.cause, first.arrived_ns) == (0, "endpoint", 7)
    assert first.start_ms == pytest.approx(800, abs=33)
    assert first.end_ms == pytest.approx(2_200, abs=33)
    assert first.text == f"{first.end_ms - first.start_ms} ms"
    assert (last.segment, last.cause, last.text, last.audio_ms) == (1, "finish", "", 4_030)  # a click is no speech
    assert session.finished


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(1, 5_000), min_size=1, max_size=40))
def test_finals_do_not_depend_on_how_audio_is_cut(cuts: list[int]) -> None:
    audio = talk(("quiet", 0.3), ("loud", 0.7), ("quiet", 0.8), ("loud", 0.4), ("quiet", 0.2))
    seen = []
    for sizes in ([len(audio)], [*cuts, len(audio)]):
        session, batcher, events, at = session_of(Partials(NullPass())), Batcher(Loudness(), NullPass()), [], 0
        for size in sizes:
            session.push(audio[at : at + size].tobytes(), 0)
            at += size
            events += play(session, batcher)
        session.finish(0)
        events += play(session, batcher)
        seen.append([(e.segment, e.text, e.cause, e.start_ms, e.end_ms) for e in events if isinstance(e, FinalEvent)])
    assert seen[0] == seen[1]


def test_running_speech_is_cut_at_its_limit_and_loses_nothing() -> None:
    session = session_of(Partials(), EndpointRules(8_000, 32_000, 0))
    session.push(talk(("loud", 7)).tobytes(), 0)
    session.finish(0)
    finals = [event for event in play(session, Batcher(Loudness(), None)) if isinstance(event, FinalEvent)]
    assert [final.cause for final in finals][:-1] == ["limit"] * (len(finals) - 1)
    assert finals[0].start_ms == 0
    assert all(a.end_ms == b.start_ms for a, b in itertools.pairwise(finals))
    assert finals[-1].end_ms == 7_000


def test_finals_come_in_order_whatever_order_they_are_settled_in() -> None:
    session, batcher = session_of(Partials()), Batcher(Loudness(), None)
    session.push(talk(("loud", 0.5), ("quiet", 0.7), ("loud", 0.5), ("quiet", 0.7)).tobytes(), 0)
    while not batcher.round([session]).idle:
        pass
    one, two = session.take_jobs()
    session.recognised(two, (Hypothesis("two", (), 0.0),))
    assert not session.take_events()
    session.recognised(one, (Hypothesis("one", (), 0.0),))
    assert [event.text for event in session.take_events() if isinstance(event, FinalEvent)] == ["one", "two"]


def test_unsettled_segments_hold_the_audio_back() -> None:
    session, batcher = session_of(Partials(), backlog=16_000), Batcher(Loudness(), None)
    for _ in range(MAX_UNSETTLED + 3):
        if session.backlog_full:
            break
        session.push(talk(("loud", 0.5), ("quiet", 0.7)).tobytes(), 0)
        while not batcher.round([session]).idle:
            pass
    assert session.backlog_full
    assert not session.ready
    for job in session.take_jobs():
        session.recognised(job, ())
    assert session.ready


def test_a_lost_first_pass_hears_the_segment_again() -> None:
    class Shaky(NullPass):
        failures = 2

        def push(self, segments: object, pcm: object) -> object:  # type: ignore[override]
            self.failures -= 1
            if self.failures == 0:
                raise ConnectionError("gone")
            return super().push(segments, pcm)  # type: ignore[arg-type]

    passed = Shaky()
    session = session_of(Partials(passed), detector=EverythingIsSpeech())
    batcher = Batcher(EverythingIsSpeech(), passed)
    session.push(talk(("loud", 1)).tobytes(), 0)
    session.finish(0)
    lost = 0
    while not (done := batcher.round([session])).idle:
        for each in done.failed:
            each.hear_again()
            lost += 1
    assert lost == 1
    [job] = session.take_jobs()
    assert job.draft is not None
    assert job.draft[0].text == "heard 1000 ms"


def test_the_first_pass_does_not_wait_for_the_detectors_chunk_to_fill() -> None:
    """1,600 samples of a message are 3.1 chunks of the detector and one of the first pass: it hears them at once."""
    session = session_of(Partials(NullPass()))
    batcher = Batcher(Loudness(), NullPass())  # type: ignore[arg-type]
    heard = []
    for number in range(1, 11):
        session.push(talk(("loud", 0.1)).tobytes(), number)
        heard += [(event.audio_ms, event.arrived_ns) for event in play(session, batcher)]
    assert heard == [(100 * number, number) for number in range(1, 11)]


def test_a_pause_is_heard_only_if_speech_goes_on() -> None:
    """Speech ends in the chunk that ends at 1,024 ms; with padding 1,224 ms are wanted until it goes on at 1,400 ms."""
    session, batcher, heard = session_of(Partials(NullPass())), Batcher(Loudness(), NullPass()), []  # type: ignore[arg-type]
    audio = talk(("loud", 1), ("quiet", 0.4), ("loud", 1))
    for number in range(1, 25):
        session.push(audio[1_600 * (number - 1) : 1_600 * number].tobytes(), number)
        heard.append([event.audio_ms for event in play(session, batcher) if isinstance(event, PartialEvent)])
    assert heard[:12] == [[100 * number] for number in range(1, 13)]
    assert heard[12:14] == [[], []]
    assert heard[14] == [1_500]  # what was left out is heard, and nothing old is said
    assert heard[15:] == [[100 * number] for number in range(16, 25)]
    session.finish(25)
    [final] = [event for event in play(session, batcher) if isinstance(event, FinalEvent)]
    assert (final.start_ms, final.end_ms) == (0, 2_400)


def test_ten_hours_of_silence_take_no_memory_and_no_second_look() -> None:
    looks = 0

    class Counting(Loudness):
        chunk_samples = 8_000

        def probabilities(self, states: object, counts: object, chunks: np.ndarray) -> np.ndarray:
            nonlocal looks
            looks += len(chunks)
            return np.zeros(len(chunks), np.float32)

    held = Held()
    session = session_of(Partials(NullPass(), Regrow(9_600, 0.3)), detector=Counting(), held=held)
    batcher = Batcher(Counting(), NullPass())  # type: ignore[arg-type]
    second, memory = bytes(32_000), []
    for number in range(36_000):
        session.push(second, number)
        while not batcher.round([session]).idle:
            pass
        assert not session.take_jobs()
        assert not session.take_events()
        if number in (60, 35_999):
            memory.append((held.bytes, len(pickle.dumps(session))))
    assert looks == 2 * 36_000
    assert memory[1][0] == memory[0][0] <= 65_536
    assert memory[1][1] <= memory[0][1] + 64  # numbers have more digits
    session.finish(36_000)
    [final] = play(session, batcher)
    assert (final.text, final.audio_ms) == ("", 36_000_000)


def test_growing_partials_are_bounded_and_stable() -> None:
    session, batcher = session_of(Partials(regrow=Regrow(9_600, 0.3))), Batcher(Loudness(), None)
    count = 0
    for _ in range(200):
        session.push(talk(("loud", 0.1)).tobytes(), 0)
        count += sum(isinstance(event, PartialEvent) for event in play(session, batcher))
    assert 8 <= count <= 16


@given(st.lists(st.lists(st.sampled_from("abc"), max_size=6).map(" ".join), max_size=12))
def test_what_was_stable_stays(readings: list[str]) -> None:
    agreement, stable = Agreement(), ""
    for reading in readings:
        partial = agreement.take(reading)
        assert partial.text.startswith(stable)
        stable = partial.text[: partial.stable_chars]


@given(st.lists(st.integers(1, 900), min_size=1, max_size=20), st.data())
def test_replay_holds_what_no_final_covers(sizes: list[int], data: st.DataObject) -> None:
    replay, sent = Replay(16_000, 2), b""
    for number, size in enumerate(sizes):
        part = bytes([number]) * (32 * size)
        replay.add(part)
        sent += part
        at_ms = data.draw(st.integers(replay.start_ms, len(sent) // 32))
        replay.settled(Final(segment=number, text="", words=[], cause="endpoint", start_ms=0, end_ms=0, audio_ms=at_ms))
        assert b"".join(item for item in replay.items if isinstance(item, bytes)) == sent[replay.start_ms * 32 :]
        assert (replay.start_ms, replay.segment) == (at_ms, number + 1)
    replay = Replay(16_000, 2, keep_s=1)
    replay.add(bytes(96_000))
    assert (replay.held_bytes, replay.start_ms) == (32_000, 2_000)
