"""The engine: one thread in which all sessions live, fed by the event loop and feeding it back.

The event loop reads sockets and writes sockets. Everything that a session does with its audio happens here, so that
no lock is needed: messages come in through one queue, answers go back in one call per cycle.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from queue import Empty, SimpleQueue
from threading import Thread
from time import perf_counter_ns, sleep
from typing import Any, Protocol

from pipelines.audio.ingest import Ingest
from pipelines.audio.tape import Held
from pipelines.batcher import Batcher, Round
from pipelines.errors import AmiraError
from pipelines.resilience import ServiceError
from pipelines.session import FinalEvent, Job, PartialEvent, Session, SessionSettings
from pipelines.streaming import StreamingRecognizer
from pipelines.wishes import Wishes
from server.lane import FINAL, PARTIAL, Lane, Outcome
from server.metrics import Metrics
from server.tracing import FinalTrace

log = logging.getLogger(__name__)

PIECE_BYTES = 32_000
"""A message is taken in pieces of this size, so that a large one does not overrun a session's buffer."""
PACE_NS, LONGEST_PACE_NS = 2.5, 4_000_000
"""A round begins no sooner after the last one than so much times the square of the open streams, and never that much
later. Two threads that pass the GIL to and fro for each message of thousands of streams spend more time on that than on
the messages; a hundred streams wait for 25 microseconds. What comes from two thousand in much longer than that does
not stay in the L2 cache until its round."""
LATE_NS = 50_000_000
"""A partial that its audio has waited for so long is not said where a newer one can be said in its place."""
MAX_HEARINGS = 6
"""How often the first pass hears a segment again before its session is told that the backend is gone."""
FIRST_PAUSE_NS = 50_000_000
"""Before it hears a segment again; doubled each time, so that a backend has some three seconds to come back."""


class Listener(Protocol):
    """The event loop's side of a stream; called there."""

    def said(self, events: Sequence[PartialEvent | FinalEvent], finished: bool) -> None:
        """The session says this; after `finished` nothing follows."""
        ...

    def failed(self, code: str, message: str) -> None:
        """The session cannot go on."""
        ...

    def relieved(self) -> None:
        """There is room for audio again."""
        ...

    def tracing(self, job: Job) -> FinalTrace | None:
        """The trace of a final that is going to be recognised, if there is one; called by the engine."""
        ...


class Stream:
    """What event loop and engine share of one session. Each counter has one writer."""

    __slots__ = (
        "bytes_per_s",
        "closed",
        "drained",
        "hearings",
        "held_back",
        "ingest",
        "listener",
        "paused_until_ns",
        "pending",
        "received",
        "recognizer",
        "session",
        "settings",
    )  # fmt: skip

    def __init__(
        self,
        listener: Listener,
        settings: SessionSettings,
        ingest: Ingest,
        bytes_per_s: int,
        recognizer: StreamingRecognizer | None = None,
    ) -> None:
        self.listener = listener
        self.recognizer = recognizer  # its own, where it wants other words than everybody
        self.settings = settings
        self.ingest = ingest
        self.session: Session | None = None
        self.pending: deque[bytes | str] = deque()  # audio, or `flush` and `finish` in their places
        self.received = 0  # bytes; the event loop writes it
        self.drained = 0  # bytes that left `pending`; the engine writes it
        self.held_back = False  # the event loop sets it, the engine clears it
        self.closed = False
        self.hearings = 0  # in a row that the first pass did not take a chunk
        self.paused_until_ns = 0
        self.bytes_per_s = bytes_per_s

    @property
    def backlog(self) -> int:
        """Samples that its session has not looked at yet; for any thread."""
        session = self.session
        return 0 if session is None else session.backlog


_NONE = object()
Event = PartialEvent | FinalEvent
Answer = tuple[Listener, str, tuple[Any, ...]]
Item = tuple[str, Stream | None, Any, int]
"""What is to be done, for which stream (`None`: the end), with what, and when that came."""


class Engine:
    """Runs the sessions of one recogniser.

    Args:
        recognizer: What it runs them with.
        lane: Where segments are settled.
        metrics: What it counts in.
        most: Streams of a round; the others come next.
    """

    def __init__(self, recognizer: StreamingRecognizer, lane: Lane, metrics: Metrics, most: int) -> None:
        self._recognizer, self._lane, self._metrics, self._most = recognizer, lane, metrics, most
        self._batcher = Batcher(recognizer.detector, recognizer.partials.first_pass)
        self._inbox: SimpleQueue[list[Item]] = SimpleQueue()
        self._letter: list[Item] = []  # of this turn of the event loop
        self._streams: set[Stream] = set()
        self.held = Held()
        """Memory of all sessions' audio; other threads may read it."""
        self._busy: dict[Stream, None] = {}  # those that may have work, in the order in which they came
        self._paused_until_ns = 0  # the latest of all of them
        self._waits_until_ns = 0  # for another stream's chunk; 0 if none waits
        self._answers: list[Answer] = []
        self._unsaid: dict[Listener, tuple[Sequence[Event], bool]] = {}  # the event loop's
        self._loop: asyncio.AbstractEventLoop | None = None
        self._worker = Thread(target=self._run, name="engine", daemon=True)

    # The event loop's side.

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start the thread; answers go to `loop`."""
        self._loop = loop
        self._worker.start()

    def personal(self, wishes: Wishes) -> StreamingRecognizer:
        """The recogniser for a session with wishes of its own; for any thread, and may take a second.

        Raises:
            AmiraError: It cannot do what the session wishes.
        """
        return self._recognizer.personal(wishes)

    def open(self, stream: Stream) -> None:
        """Begin a session; its audio may come before."""
        self._write(("open", stream, None, 0))

    def audio(self, stream: Stream, data: bytes, arrived_ns: int) -> None:
        """Audio in the client's encoding."""
        stream.received += len(data)
        self._write(("audio", stream, data, arrived_ns))

    def mark(self, stream: Stream, kind: str) -> None:
        """`flush` or `finish`."""
        self._write((kind, stream, None, perf_counter_ns()))

    def nudge(self, stream: Stream) -> None:
        """Look at a stream again: it was held back, perhaps just after its audio was dealt with."""
        self._write(("look", stream, None, 0))

    def close(self, stream: Stream) -> None:
        """Forget a session; what it still waits for is dropped."""
        stream.closed = True
        self._write(("close", stream, None, 0))

    def stop(self) -> None:
        """End the thread; for any thread but the engine's."""
        self._inbox.put([("stop", None, None, 0)])
        self._worker.join()

    def _write(self, item: Item) -> None:
        self._letter.append(item)
        if len(self._letter) == 1 and self._loop is not None:
            self._loop.call_soon(self._post)  # when the sockets that are ready now have been read

    def _post(self) -> None:
        letter, self._letter = self._letter, []
        self._inbox.put(letter)

    # The engine's side.

    def _run(self) -> None:
        while True:
            # With work at hand take what is there and go on; without, wait.
            if not self._take(self._may_wait_s()):
                return
            began_ns = perf_counter_ns()
            try:
                self._cycle()
            except Exception:  # a bug: it must cost the sessions that it met, not the process
                log.exception("the engine failed; the sessions at work end")
                for stream in list(self._busy):
                    self._fail(stream, "internal", "the server failed on this session; it is in its log. Try again")
            self._hand_over()
            pace_ns = min(PACE_NS * len(self._streams) ** 2, LONGEST_PACE_NS)
            rest_ns = began_ns + pace_ns - perf_counter_ns()
            if rest_ns > 0 and not self._busy:
                sleep(rest_ns / 1e9)

    def _may_wait_s(self) -> float | None:
        """How long the next message may be waited for: no time where there is work, for ever where there is none."""
        if not self._busy:
            return None
        now_ns = perf_counter_ns()
        if now_ns >= self._paused_until_ns:
            return max(0, self._waits_until_ns - now_ns) / 1e9 if len(self._busy) == 1 else 0
        return max(0, min(stream.paused_until_ns for stream in self._busy) - now_ns) / 1e9

    def _take(self, wait_s: float | None) -> bool:
        busy = self._busy
        try:
            letter = self._inbox.get_nowait() if wait_s == 0 else self._inbox.get(timeout=wait_s)
            while True:
                for kind, stream, payload, at_ns in letter:
                    if stream is None:
                        return False
                    session = stream.session
                    if (
                        kind == "audio"
                        and session is not None
                        and not stream.pending
                        and len(payload) <= PIECE_BYTES
                        and not session.backlog_full
                    ):
                        session.push(stream.ingest.push(payload), at_ns)  # the usual way, without a detour
                        stream.drained += len(payload)
                        busy[stream] = None
                    else:
                        self._took(kind, stream, payload, at_ns)
                letter = self._inbox.get_nowait()
        except Empty:
            return True

    def _took(self, kind: str, stream: Stream, payload: Any, at_ns: int) -> None:
        if kind == "close" or stream.closed:
            self._drop(stream)
            return
        if kind == "audio":
            stream.pending += [payload[at : at + PIECE_BYTES] for at in range(0, len(payload), PIECE_BYTES)]
        elif kind in ("flush", "finish"):
            stream.pending.append(kind)
        elif kind == "open":
            detector = self._recognizer.detector
            partials = (stream.recognizer or self._recognizer).partials
            stream.session = Session(stream.settings, detector.open(), detector.chunk_samples, partials, self.held)
            self._streams.add(stream)
        elif kind == "settled":
            job, outcome = payload
            self._settled(stream, job, outcome)
        if stream.session is not None:  # what comes before its words are ready waits
            self._busy[stream] = None

    def _push(self, stream: Stream, session: Session, data: bytes, at_ns: int) -> None:
        session.push(stream.ingest.push(data), at_ns)
        stream.drained += len(data)

    def _pump(self, stream: Stream, session: Session) -> None:
        pending = stream.pending
        while pending and not session.backlog_full:
            item = pending.popleft()
            now_ns = perf_counter_ns()
            if isinstance(item, bytes):
                self._push(stream, session, item, now_ns)
            elif item == "flush":
                session.flush(now_ns)
            else:
                session.push(stream.ingest.finish(), now_ns)
                session.finish(now_ns)

    def _cycle(self) -> None:
        streams: list[Stream] = []
        sessions: list[Session] = []
        now_ns = perf_counter_ns()
        for stream in list(self._busy):
            session = stream.session
            if session is None or stream.paused_until_ns > now_ns:
                continue
            if len(streams) == self._most:
                break
            if stream.pending:
                try:
                    self._pump(stream, session)
                except AmiraError as error:
                    self._fail(stream, "bad_audio", str(error))
                    continue
            streams.append(stream)
            sessions.append(session)
        done = self._batcher.round(sessions)
        self._observe(done)
        self._waits_until_ns = done.waits_until_ns
        for session in done.failed:
            self._lost(streams[sessions.index(session)], session, done.error)
        idle, heard, busy, answers = done.idle, done.heard > 0, self._busy, self._answers
        for stream, session in zip(streams, sessions, strict=True):
            if heard:
                stream.hearings = 0
            if session.jobs:
                for job in session.take_jobs():
                    self._submit(stream, job)
            if session.events:
                answers.append((stream.listener, "said", (session.take_events(), session.finished)))
            if stream.held_back and not stream.pending and session.backlog * 2 < stream.settings.backlog:
                stream.held_back = False
                answers.append((stream.listener, "relieved", ()))
            if busy.pop(stream, _NONE) is None and not idle and (session.ready or stream.pending):
                busy[stream] = None  # behind those that have waited

    def _submit(self, stream: Stream, job: Job) -> None:
        traced = stream.listener.tracing(job) if job.final else None

        def done(outcome: Outcome) -> None:
            if traced is not None:
                traced.end(outcome, len(job.pcm) // 32)
            self._inbox.put([("settled", stream, (job, outcome), 0)])

        def wanted() -> bool:
            return not stream.closed and (job.final or not job.stale)

        recognizer = stream.recognizer or self._recognizer
        pipeline = recognizer.partials.pipeline
        if job.final:
            self._lane.submit(FINAL, job.pcm, job.draft, recognizer.finals.settle, done, wanted, traced)
        elif pipeline is None:
            self._lane.submit(PARTIAL, job.pcm, None, recognizer.finals.settle, done, wanted)
        else:
            self._lane.submit(PARTIAL, job.pcm, None, lambda pcm, draft: pipeline.transcribe(pcm), done, wanted)
        self._metrics.queued.set(self._lane.depth)

    def _settled(self, stream: Stream, job: Job, outcome: Outcome) -> None:
        session = stream.session
        if session is None or stream.closed:
            return
        self._metrics.queued.set(self._lane.depth)
        if outcome.transcript is not None:
            spent_s = (outcome.ended_ns - outcome.started_ns) / 1e9
            self._metrics.inference_s.of["final" if job.final else "partial"].observe(spent_s)
            if job.final:
                self._metrics.real_time_factor.observe(spent_s / (len(job.pcm) / 32_000))
            session.recognised(job, outcome.transcript.hypotheses)
        elif not job.final:
            session.recognised(job, ())  # a partial that came too late, or failed: the next one will do
        elif outcome.error is not None:
            self._give_up(stream, outcome.error)

    def _lost(self, stream: Stream, session: Session, error: Exception | None) -> None:
        """The first pass did not take a chunk: it hears the segment again, a bounded number of times."""
        self._metrics.backend_errors.labels("first-pass").inc()
        stream.hearings += 1
        if error is not None and (stream.hearings > MAX_HEARINGS or not isinstance(error, ServiceError)):
            self._give_up(stream, error)
        else:
            session.hear_again()
            stream.paused_until_ns = perf_counter_ns() + FIRST_PAUSE_NS * 2 ** (stream.hearings - 1)
            self._paused_until_ns = max(self._paused_until_ns, stream.paused_until_ns)

    def _give_up(self, stream: Stream, error: Exception) -> None:
        if isinstance(error, ServiceError):
            self._fail(stream, "backend_unavailable", f"the recogniser does not answer: {error}")
        elif isinstance(error, AmiraError):  # what the recogniser cannot do for this session, and why
            self._fail(stream, "unsupported_option", str(error))
        else:
            log.error("a session failed", exc_info=error)
            self._fail(stream, "internal", "the server failed on this session; it is in its log. Try again")

    def _fail(self, stream: Stream, code: str, message: str) -> None:
        self._answers.append((stream.listener, "failed", (code, message)))
        self._drop(stream)

    def _drop(self, stream: Stream) -> None:
        stream.closed = True
        stream.pending.clear()
        if stream.session is not None:
            stream.session.close()
            stream.session = None
        self._streams.discard(stream)
        self._busy.pop(stream, None)

    def _observe(self, done: Round) -> None:
        metrics = self._metrics
        if done.detected:
            metrics.batch.of["detector"].observe(done.detected)
            metrics.inference_s.of["detector"].observe(done.detect_ns / 1e9)
        if done.heard:
            metrics.batch.of["first-pass"].observe(done.heard)
            metrics.inference_s.of["first-pass"].observe(done.hear_ns / 1e9)

    def _hand_over(self) -> None:
        answers, self._answers = self._answers, []
        if answers and self._loop is not None:
            self._loop.call_soon_threadsafe(self._take_over, self._loop, answers)

    # The event loop's side again.

    def _take_over(self, loop: asyncio.AbstractEventLoop, answers: Sequence[Answer]) -> None:
        """What a session says is said once all that has come was taken over: a newer partial replaces a late one.

        So a loop that has no time for all partials of thousands of streams says fewer of them, and the newest.
        """
        unsaid, late_ns = self._unsaid, perf_counter_ns() - LATE_NS
        for listener, method, arguments in answers:
            if method == "said":
                if not unsaid:
                    loop.call_soon(self._say)
                events, finished = arguments
                older = unsaid.get(listener)
                unsaid[listener] = (events if older is None else _joined(older[0], events, late_ns), finished)
            else:
                last_words = unsaid.pop(listener, None) if method == "failed" else None
                if last_words is not None:
                    _tell(listener, "said", last_words)
                _tell(listener, method, arguments)

    def _say(self) -> None:
        unsaid, self._unsaid = self._unsaid, {}
        for listener, words in unsaid.items():
            _tell(listener, "said", words)


def _joined(older: Sequence[Event], newer: Sequence[Event], late_ns: int) -> Sequence[Event]:
    """Both in order; of two partials of a segment that follow each other not the older one, if it is late."""
    last, first = older[-1], newer[0]
    if (
        isinstance(last, PartialEvent)
        and isinstance(first, PartialEvent)
        and last.segment == first.segment
        and last.arrived_ns < late_ns
    ):
        older = older[:-1]
    return (*older, *newer)


def _tell(listener: Listener, method: str, arguments: tuple[Any, ...]) -> None:
    try:
        getattr(listener, method)(*arguments)
    except Exception:
        log.exception("handing an answer to a connection failed")
