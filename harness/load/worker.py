"""A client process: sends what is due, notes when answers come. Started as `python -m harness.load.worker`.

Nothing is computed here while it runs, not even a latency: who measures must not be the load. Times are
`perf_counter_ns`, one clock for all processes of a machine.
"""

from __future__ import annotations

import asyncio
import gc
import json
import random
import sys
from heapq import heapify, heapreplace
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import numpy as np
import uvloop

from amira_client.connection import Connection
from amira_client.errors import AmiraClientError
from amira_client.messages import Closing, Error, Final, Finish, Partial, Ready, ServerMessage, Start
from harness.load.spec import SAMPLE_RATE, Job

FINISH_TIMEOUT_S = 30.0
READY_TIMEOUT_S = 30.0
"""A session that has not begun so long after it was due never does."""
TURN_NS = 200_000
"""After so much sending what has come is read."""
PARTIAL, FINAL = 0, 1


class Sink:
    """What was seen: columns of numbers, and the texts of the finals."""

    def __init__(self) -> None:
        self.events: list[tuple[int, ...]] = []
        self.sends: list[tuple[int, int, int, int]] = []
        self.finals: list[dict[str, Any]] = []
        self.sessions: list[dict[str, Any]] = []

    def write(self, folder: Path, name: str) -> None:
        """Write everything down."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        columns = {
            "events": ("stream", "session", "kind", "segment", "start_ms", "audio_ms", "stable_chars", "received_ns"),
            "sends": ("stream", "session", "chunk", "sent_ns"),
        }
        for table, names in columns.items():
            rows = np.array(getattr(self, table), np.int64).reshape(-1, len(names))
            arrays = {name: rows[:, index] for index, name in enumerate(names)}
            pq.write_table(pa.table(arrays), folder / f"{table}-{name}.parquet")
        for table in ("finals", "sessions"):
            lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in getattr(self, table))
            (folder / f"{table}-{name}.jsonl").write_text("".join(lines), "utf-8")


class Session:
    """One session of a stream, from its connection to its last answer."""

    def __init__(self, stream: Stream, number: int, first_chunk: int, chunks: int, vanish_at: int | None) -> None:
        self.stream = stream
        self.number = number
        self.first_chunk = first_chunk
        self.chunks = chunks
        self.vanish_at = vanish_at
        self.connection: Connection | None = None
        self.ready = False
        self.sent = 0
        self.outcome = "running"
        self.next_segment = 0
        self.last_audio_ms = -1
        self.disordered = 0
        self.finished_ms = -1
        self.session_id = ""
        self.done = asyncio.Event()

    async def open(self, job: Job) -> None:
        """Connect and start."""
        try:
            self.connection = await Connection.open(job.url, token=job.token, on_message=self.heard)
            self.connection.send(Start(sample_rate=SAMPLE_RATE, partials=job.spec.partials, words=False))
            if self.stream.slow:
                transport = self.connection.transport.underlying_transport
                transport.pause_reading()
        except AmiraClientError as error:
            self.end(type(error).__name__)

    def heard(self, message: ServerMessage) -> None:
        """A message came."""
        now_ns = perf_counter_ns()
        sink, stream = self.stream.sink, self.stream
        if isinstance(message, Partial):
            sink.events.append(
                (stream.number, self.number, PARTIAL, message.segment, message.start_ms, message.audio_ms,
                 message.stable_chars, now_ns)
            )  # fmt: skip
            self._check(message.segment, message.audio_ms, final=False)
        elif isinstance(message, Final):
            sink.events.append(
                (stream.number, self.number, FINAL, message.segment, message.start_ms, message.end_ms,
                 message.audio_ms, now_ns)
            )  # fmt: skip
            self._check(message.segment, message.audio_ms, final=True)
            sink.finals.append(
                {"stream": stream.number, "session": self.number, "segment": message.segment, "text": message.text,
                 "cause": message.cause, "start_ms": message.start_ms, "end_ms": message.end_ms}
            )  # fmt: skip
            if message.cause == "finish":
                self.finished_ms = message.audio_ms
        elif isinstance(message, Ready):
            self.ready, self.session_id = True, message.session
        elif isinstance(message, Error):
            self.end(message.code)
        elif isinstance(message, Closing) and message.reason == "finished":
            self.end("finished")

    def _check(self, segment: int, audio_ms: int, final: bool) -> None:
        if final:
            self.disordered += segment != self.next_segment
            self.next_segment = segment + 1
        else:
            # A partial of a segment that is settled, or of less audio than before, came out of its order.
            self.disordered += segment < self.next_segment or audio_ms < self.last_audio_ms
            self.last_audio_ms = audio_ms

    def end(self, outcome: str) -> None:
        """It is over, one way or the other."""
        if self.outcome == "running":
            self.outcome = outcome
            self.done.set()


class Stream:
    """A speaker: reads the same audio from a place of its own, in one session after the other."""

    def __init__(self, number: int, offset: int, job: Job, sink: Sink, audio: np.ndarray[Any, np.dtype[np.int16]]):
        spec = job.spec
        chance = random.Random(spec.seed * 1_000_003 + number)
        self.number, self.offset, self.job, self.sink = number, offset, job, sink
        self.slow = chance.random() < spec.slow
        self._audio = audio
        self._chance = chance
        spread_s = spec.ramp_s or spec.chunk_ms / 1_000
        self.start_ns = job.start_ns + round(number / spec.streams * spread_s * 1e9)
        self.chunk_ns = spec.chunk_ms * 1_000_000
        self.session: Session | None = None
        self.sessions: list[Session] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.next_chunk = 0

    def due_ns(self, chunk: int) -> int:
        """When a chunk has been spoken to its end."""
        return self.start_ns + (chunk + 1) * self.chunk_ns

    def act(self) -> int | None:
        """Do what is due now; when to be called again, `None` for never."""
        spec = self.job.spec
        if self.session is None:
            self._begin()
            return self.due_ns(self.next_chunk)
        self._send_due(self.session)
        if self.session is None:
            if self.next_chunk >= spec.chunks:
                return None
            self._begin()
        return self.due_ns(self.next_chunk)

    def _begin(self) -> None:
        spec = self.job.spec
        per_session = round(spec.session_s * 1_000 / spec.chunk_ms) or spec.chunks
        count = min(per_session, spec.chunks - self.next_chunk)
        vanish_at = self._chance.randrange(count) if self._chance.random() < spec.vanishing else None
        self.session = Session(self, len(self.sessions), self.next_chunk, count, vanish_at)
        self.sessions.append(self.session)
        self.tasks.append(asyncio.ensure_future(self.session.open(self.job)))

    def _send_due(self, session: Session) -> None:
        now_ns = perf_counter_ns()
        connection = session.connection
        while session.sent < session.chunks and self.due_ns(self.next_chunk) <= now_ns:
            if session.outcome != "running":
                self.next_chunk = session.first_chunk + session.chunks  # what it would have said is lost
                session.sent = session.chunks
                break
            if connection is None or (not session.ready and not self.slow):
                # Not connected yet: the audio waits and its latency grows, as it would for a speaker.
                if connection is not None and connection.closed.is_set():
                    session.end("lost")
                elif now_ns - self.due_ns(session.first_chunk) > READY_TIMEOUT_S * 1e9:
                    session.end("unready")
                else:
                    return
                continue
            if session.sent == session.vanish_at:
                connection.abort()
                session.end("vanished")
                continue
            try:
                connection.send_audio(self._chunk(self.next_chunk))
            except AmiraClientError:
                session.end("lost")
                continue
            self.sink.sends.append((self.number, session.number, session.sent, perf_counter_ns()))
            session.sent += 1
            self.next_chunk += 1
        if session.sent >= session.chunks:
            self._finish(session)
            self.session = None

    def _finish(self, session: Session) -> None:
        if session.outcome == "running" and session.connection is not None:
            try:
                session.connection.send(Finish())
            except AmiraClientError:
                session.end("lost")

    def _chunk(self, chunk: int) -> bytes:
        size = self.job.spec.chunk_samples
        at = (self.offset + chunk * size) % len(self._audio)
        part = self._audio[at : at + size]
        if len(part) < size:
            part = np.concatenate([part, self._audio[: size - len(part)]])
        return part.tobytes()


async def run(job: Job, sink: Sink) -> None:
    """Do the job."""
    audio = np.asarray(np.memmap(job.audio, np.dtype("<i2"), "r"))  # slices of a memmap itself take microseconds
    streams = [
        Stream(number, offset, job, sink, audio) for number, offset in zip(job.streams, job.offsets, strict=True)
    ]
    heap = [(stream.start_ns, stream.number, stream) for stream in streams]
    heapify(heap)
    never_ns = 1 << 62
    turned_ns = 0
    while heap[0][0] < never_ns:
        due_ns, number, stream = heap[0]
        wait_ns = due_ns - perf_counter_ns()
        if wait_ns > 0:
            await asyncio.sleep(wait_ns / 1e9)
            turned_ns = perf_counter_ns()
            continue
        again_ns = stream.act()
        now_ns = perf_counter_ns()
        if again_ns is None:
            again_ns = never_ns
        elif again_ns <= now_ns:
            again_ns = now_ns + 1_000_000  # it waits for its connection: look again in a millisecond
        heapreplace(heap, (again_ns, number, stream))
        if now_ns - turned_ns > TURN_NS:
            await asyncio.sleep(0)  # answers must be read between sends
            turned_ns = perf_counter_ns()
    waiting = [session.done.wait() for stream in streams for session in stream.sessions if not stream.slow]
    if waiting:
        await asyncio.wait([asyncio.ensure_future(each) for each in waiting], timeout=FINISH_TIMEOUT_S)
    for stream in streams:
        for session in stream.sessions:
            if session.outcome == "running":
                session.end("slow" if stream.slow else "unanswered")
            if session.connection is not None:
                session.connection.abort()
            sink.sessions.append(_row(stream, session))


def _row(stream: Stream, session: Session) -> dict[str, Any]:
    spec = stream.job.spec
    return {
        "stream": stream.number, "session": session.number, "id": session.session_id, "offset": stream.offset,
        "first_due_ns": stream.due_ns(session.first_chunk), "first_chunk": session.first_chunk,
        "chunks": session.chunks, "sent": session.sent, "outcome": session.outcome,
        "vanishes": session.vanish_at is not None, "slow": stream.slow, "disordered": session.disordered,
        "lost_ms": session.sent * spec.chunk_ms - session.finished_ms if session.finished_ms >= 0 else None,
    }  # fmt: skip


def main() -> None:
    """Read the job, say that it can begin, read when it begins, do it, write the samples."""
    job = Job.model_validate_json(sys.stdin.readline())
    sink = Sink()
    print("ready", flush=True)
    start_ns = int(sys.stdin.readline())
    gc.collect()
    gc.freeze()
    gc.disable()  # a collection in the middle would be measured as the server's latency
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(job.model_copy(update={"start_ns": start_ns}), sink))
    sink.write(Path(job.output), f"{job.streams[0]:05d}")


if __name__ == "__main__":
    main()
