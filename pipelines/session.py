"""One stream of speech without any I/O: audio goes in, work comes out, results go in, events come out.

A session decides what has to be recognised and in which order things are said. It does no inference: whoever runs it
takes chunks for the speech detector and the first pass (see `pipelines.batcher`), and jobs for the second pass, from
many sessions, runs them together, and hands the results back. A session is used from one thread.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pipelines.agreement import Agreement
from pipelines.audio.endpoint import Cause, Ended, Endpointer, EndpointRules, Started
from pipelines.audio.tape import Held, Tape
from pipelines.contracts import SAMPLE_RATE, Hypotheses, Partial, Word
from pipelines.first_pass import FirstPass, Partials, Regrow

MAX_UNSETTLED = 3
"""Segments of one session that may wait for their final; then its audio waits, too."""


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """What a client asked for.

    Attributes:
        rules: When a segment ends.
        partials: Whether partials are wanted.
        backlog: Samples that may wait to be looked at.
        offset_ms: Time of the first sample, for a session that goes on after an interruption.
        first_segment: Number of the first segment.
    """

    rules: EndpointRules
    partials: bool = True
    backlog: int = 10 * SAMPLE_RATE
    offset_ms: int = 0
    first_segment: int = 0


@dataclass(slots=True)
class PartialEvent:
    """The running segment says `partial` so far; see the protocol for the times."""

    segment: int
    partial: Partial
    start_ms: int
    audio_ms: int
    arrived_ns: int
    """When the audio arrived that made it possible."""


@dataclass(frozen=True, slots=True)
class FinalEvent:
    """A segment is settled; see the protocol for the times."""

    segment: int
    text: str
    words: tuple[Word, ...]
    cause: Cause
    start_ms: int
    end_ms: int
    audio_ms: int
    waited_ms: int
    """Audio between its end and the decision that it had ended."""
    arrived_ns: int
    """When the audio (or message) arrived that ended it."""


@dataclass(slots=True, eq=False)
class Job:
    """Audio for the second pass.

    Attributes:
        pcm: PCM16 at 16 kHz.
        final: Whether the segment ended; else the result is only a partial.
        draft: What the first pass says, where there is one.
        arrived_ns: When the audio arrived that made it necessary.
    """

    pcm: bytes
    final: bool
    draft: Hypotheses | None
    arrived_ns: int
    segment: _Segment

    @property
    def stale(self) -> bool:
        """Whether its segment has ended since: a partial that nobody needs any more."""
        return not self.final and self.segment.end is not None


@dataclass(slots=True, eq=False)
class _Segment:
    number: int
    start: int
    fed: int
    state: Any = None
    end: int | None = None
    cause: Cause = "endpoint"
    pcm: bytes = b""
    decided_at: int = 0
    settled_at: int = 0  # all audio before is dealt with once this segment is settled
    ended_ns: int = 0
    draft: Hypotheses | None = None
    hypotheses: Hypotheses | None = None
    agreement: Agreement = field(default_factory=Agreement)
    next_length: int = 0
    growing: bool = False  # a job for a partial is out
    last: Partial | None = None


class Session:
    """See the module.

    A server has thousands of them, which no cache holds: what a chunk touches is kept in few objects. Hence the slots,
    and the tuples where there is mostly nothing: the empty one is the same for everybody.
    """

    __slots__ = (
        "_arrivals",
        "_arrived_ns",
        "_chunk",
        "_endpointer",
        "_first_pass",
        "_hearing",
        "_looked",
        "_marks",
        "_regrow",
        "_running",
        "_segments",
        "_settings",
        "_tape",
        "_unsettled",
        "detector_state",
        "events",
        "finished",
        "jobs",
        "put_off",
    )

    def __init__(
        self, settings: SessionSettings, detector_state: Any, chunk_samples: int, partials: Partials, held: Held
    ) -> None:
        self.detector_state = detector_state
        self._settings = settings
        self._chunk = chunk_samples
        self._first_pass: FirstPass | None = partials.first_pass
        self._regrow: Regrow | None = partials.regrow if settings.partials else None
        rules = settings.rules
        self._tape = Tape(rules.longest + rules.silence + 2 * rules.pad + 2 * settings.backlog, held)
        self._endpointer = Endpointer(rules)
        self._looked = 0  # samples that the detector has seen
        self._arrivals: list[tuple[int, int]] = []
        self._arrived_ns = 0  # of the audio at `_looked`
        self._marks: deque[tuple[int, Cause, int]] = deque()
        self._segments = settings.first_segment  # number of the next segment
        self._running: _Segment | None = None
        self._hearing: tuple[_Segment, ...] = ()  # the first pass works on the first of them
        self._unsettled: tuple[_Segment, ...] = ()
        self.jobs: tuple[Job, ...] = ()
        """What came up for the second pass; `take_jobs` takes it."""
        self.events: tuple[PartialEvent | FinalEvent, ...] = ()
        """What is to be said, in order; `take_events` takes it."""
        self.finished = False
        """Whether the answer to `finish` is among the events."""
        self.put_off = 0
        """Rounds in a row in which its chunk for the first pass was left for the next one; the batcher's."""

    # Input.

    def push(self, pcm: bytes, arrived_ns: int) -> None:
        """Take audio, PCM16 at 16 kHz.

        Raises:
            OverflowError: More than the backlog holds: the caller did not heed `backlog_full`.
        """
        if pcm:
            tape = self._tape
            tape.append(pcm)
            self._arrivals.append((tape.stop, arrived_ns))

    def flush(self, arrived_ns: int) -> None:
        """End the running segment here."""
        self._marks.append((self._tape.stop, "flush", arrived_ns))

    def finish(self, arrived_ns: int) -> None:
        """There is no more audio."""
        self._marks.append((self._tape.stop, "finish", arrived_ns))

    @property
    def backlog(self) -> int:
        """Samples that were received and not looked at yet."""
        return self._tape.stop - self._looked

    @property
    def backlog_full(self) -> bool:
        """Whether the client should be held back."""
        return self._tape.stop - self._looked >= self._settings.backlog

    @property
    def ready(self) -> bool:
        """Whether another round may find work here."""
        if (self._marks or self._tape.stop - self._looked >= self._chunk) and len(self._unsettled) < MAX_UNSETTLED:
            return True
        if self._first_pass is None or not self._hearing:
            return False
        segment = self._hearing[0]
        if segment.end is not None:
            return True
        chunk, received = self._first_pass.chunk_samples, self._tape.stop - segment.fed
        return received >= chunk and self._hearable() - segment.fed >= chunk

    @property
    def patient(self) -> bool:
        """Whether its next chunk for the first pass may wait: no final hangs on it, and it has not fallen behind."""
        if self._first_pass is None or self._marks or not self._hearing:
            return False
        segment = self._hearing[0]
        return segment.end is None and self._tape.stop - segment.fed < 2 * self._first_pass.chunk_samples

    # Work for the detector.

    def detection_chunks(self, most: int) -> bytes:
        """The next chunks for the detector, PCM16, as many as there are up to `most`, if they may be looked at."""
        while len(self._unsettled) < MAX_UNSETTLED:
            marks, tape, start, chunk = self._marks, self._tape, self._looked, self._chunk
            whole = ((marks[0][0] if marks else tape.stop) - start) // chunk
            if whole > 0:
                return tape.read(start, start + min(whole, most) * chunk)
            if not marks:
                break
            self._reach_mark()
        return b""

    def detected(self, probabilities: Sequence[float], energies: Sequence[float]) -> None:
        """The detector's answer for those chunks."""
        start, chunk = self._looked, self._chunk
        for probability, energy in zip(probabilities, energies, strict=True):
            stop = start + chunk
            self._look(stop)
            for change in self._endpointer.update(probability, energy, start, stop):
                self._change(change, stop, self._arrived_ns)
            if self._regrow is not None and self._running is not None:
                self._grow(self._running, stop)
            start = stop
        self._forget()

    def _look(self, stop: int) -> None:
        self._looked = stop
        gone = 0
        for reached, at_ns in self._arrivals:
            if reached >= stop:
                self._arrived_ns = at_ns
                break
            gone += 1
        if gone:
            del self._arrivals[:gone]

    def _reach_mark(self) -> None:
        position, cause, arrived_ns = self._marks.popleft()
        self._look(position)
        changes = self._endpointer.stop(position, cause)
        for change in changes:
            self._change(change, position, arrived_ns)
        if not changes:  # nobody spoke: the client waits for an answer all the same
            silent = self._segment(position)
            silent.end, silent.cause, silent.hypotheses = position, cause, ()
            silent.decided_at, silent.settled_at, silent.ended_ns = position, position, arrived_ns
            self._unsettled += (silent,)
            self._say_settled()
        self._forget()

    def _change(self, change: Started | Ended, position: int, arrived_ns: int) -> None:
        if isinstance(change, Started):
            self._running = segment = self._segment(change.start)
            if self._first_pass is not None:
                self._hearing += (segment,)
            if self._regrow is not None:
                segment.next_length = self._regrow.step
            return
        ended, self._running = self._running, None
        if ended is None:
            raise RuntimeError("the endpointer ended a segment that it did not start")
        ended.end, ended.cause, ended.ended_ns = change.end, change.cause, arrived_ns
        asked = change.cause in ("flush", "finish")
        ended.settled_at = position if asked else change.end
        ended.decided_at = position
        ended.pcm = self._tape.read(ended.start, change.end)
        self._unsettled += (ended,)
        if not ended.pcm:  # cut at its length limit, and ended by the client at that very sample
            ended.hypotheses = ()
            if self._first_pass is not None:
                self._hearing = self._hearing[:-1]
            self._say_settled()
        elif self._first_pass is None:
            self.jobs += (Job(ended.pcm, True, ended.draft, ended.ended_ns, ended),)

    def _segment(self, start: int) -> _Segment:
        segment = _Segment(self._segments, start, start)
        self._segments += 1
        return segment

    def _forget(self) -> None:
        running = self._running
        if running is not None and running.start <= self._tape.start:
            return
        wanted = self._endpointer.needed_from
        needed = self._looked - self._settings.rules.pad
        if wanted is not None:
            needed = min(needed, wanted)
        if self._hearing and self._hearing[0].end is None:
            needed = min(needed, self._hearing[0].fed)
        self._tape.drop_before(needed)

    # Work for the first pass.

    def first_pass_chunk(self) -> tuple[Any, bytes, bool] | None:
        """The next chunk for the first pass, if there is one: the state, PCM16, and whether somebody waits for it.

        Nobody does at the end of a segment, which a pause came before; nor where the detector is further than the
        chunk: behind the beginning of a segment, which is found when it is past, and behind a pause.
        """
        first_pass = self._first_pass
        while first_pass is not None and self._hearing:
            segment = self._hearing[0]
            start, end, chunk = segment.fed, segment.end, first_pass.chunk_samples
            available = (self._hearable() if end is None else end) - start
            if available >= chunk or (end is not None and available > 0):
                if segment.state is None:
                    segment.state = first_pass.open()
                if end is None:
                    prompt = self._looked - start < 2 * chunk and start + chunk > self._endpointer.resumed_at
                else:
                    prompt = segment.cause != "endpoint"
                return segment.state, self._audio(segment, start, start + min(available, chunk)), prompt
            if end is None:
                return None
            self._hearing = self._hearing[1:]
            self._heard(first_pass, segment)
        return None

    def understood(self, partial: Partial) -> None:
        """The first pass's answer for that chunk."""
        segment, first_pass = self._hearing[0], self._first_pass
        if first_pass is None:
            raise RuntimeError("there is no first pass that could have understood anything")
        fed, end = segment.fed + first_pass.chunk_samples, segment.end
        if end is not None:
            segment.fed = min(fed, end)
            return
        segment.fed = fed
        if fed > self._endpointer.resumed_at:  # what was left out of a pause is late
            self._say_partial(segment, partial, fed)

    def _hearable(self) -> int:
        """How far the first pass may hear a segment that goes on: it need not wait for the detector's chunk to fill.

        A pause is heard as far as it would belong to the segment; the rest of it only if speech goes on.
        """
        stop, looked = self._marks[0][0] if self._marks else self._tape.stop, self._looked
        if stop > looked + self._chunk:
            stop = looked + self._chunk
        elif stop < looked:
            stop = looked
        wanted = self._endpointer.wanted_until
        return stop if wanted is None or wanted > stop else wanted

    def _arrival(self, position: int) -> int:
        """When the audio before `position` had arrived."""
        for stop, at_ns in self._arrivals:
            if stop >= position:
                return at_ns
        return self._arrived_ns

    def hear_again(self) -> None:
        """The first pass lost the state of the running segment: hear it again from its start."""
        if self._hearing:
            segment = self._hearing[0]
            if segment.state is not None and self._first_pass is not None:
                self._first_pass.close(segment.state)
            segment.state, segment.fed = None, segment.start

    def _audio(self, segment: _Segment, start: int, stop: int) -> bytes:
        if segment.end is not None:  # the tape may have gone on
            return segment.pcm[2 * (start - segment.start) : 2 * (stop - segment.start)]
        return self._tape.read(start, stop)

    def _heard(self, first_pass: FirstPass, segment: _Segment) -> None:
        if segment.state is not None:
            segment.draft = first_pass.finish(segment.state)
            segment.state = None
        self.jobs += (Job(segment.pcm, True, segment.draft, segment.ended_ns, segment),)

    # Work for the second pass.

    def _grow(self, segment: _Segment, stop: int) -> None:
        length = stop - segment.start
        if self._regrow is None or segment.growing or length < segment.next_length:
            return
        segment.growing = True
        segment.next_length = self._regrow.next_length(length)
        pcm = self._tape.read(segment.start, stop)
        self.jobs += (Job(pcm, False, None, self._arrived_ns, segment),)

    def take_jobs(self) -> Sequence[Job]:
        """The jobs that came up since the last call."""
        jobs, self.jobs = self.jobs, ()
        return jobs

    def recognised(self, job: Job, hypotheses: Hypotheses) -> None:
        """The second pass's answer for a job, in any order."""
        segment = job.segment
        if job.final:
            segment.hypotheses = hypotheses
            segment.pcm = b""
            self._say_settled()
            return
        segment.growing = False
        segment.draft = hypotheses or segment.draft  # the best there is to check, should the segment end now
        if segment.end is None and hypotheses:
            stop = segment.start + len(job.pcm) // 2
            self._say_partial(segment, segment.agreement.take(hypotheses[0].text), stop, job.arrived_ns)

    # Output.

    def take_events(self) -> Sequence[PartialEvent | FinalEvent]:
        """What is to be said since the last call, in order."""
        events, self.events = self.events, ()
        return events

    def close(self) -> None:
        """The client is gone: give the states of the first pass back."""
        for segment in self._hearing:
            if segment.state is not None and self._first_pass is not None:
                self._first_pass.close(segment.state)
                segment.state = None
        self._hearing = ()
        self._tape.close()

    def _say_partial(self, segment: _Segment, partial: Partial, stop: int, arrived_ns: int | None = None) -> None:
        if not self._settings.partials or partial == segment.last or not partial.text:
            return
        segment.last = partial
        if arrived_ns is None:
            arrived_ns = self._arrival(stop)
        event = PartialEvent(segment.number, partial, self._ms(segment.start), self._ms(stop), arrived_ns)
        self.events += (event,)

    def _say_settled(self) -> None:
        while self._unsettled and self._unsettled[0].hypotheses is not None:
            segment, self._unsettled = self._unsettled[0], self._unsettled[1:]
            best = segment.hypotheses[0] if segment.hypotheses else None
            end = segment.end if segment.end is not None else segment.start
            event = FinalEvent(
                segment.number,
                best.text if best else "",
                best.words if best else (),
                segment.cause,
                self._ms(segment.start),
                self._ms(end),
                self._ms(segment.settled_at),
                (segment.decided_at - end) * 1000 // SAMPLE_RATE,
                segment.ended_ns,
            )
            self.events += (event,)
            self.finished = self.finished or segment.cause == "finish"

    def _ms(self, sample: int) -> int:
        return self._settings.offset_ms + sample * 1000 // SAMPLE_RATE
