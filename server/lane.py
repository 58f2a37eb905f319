"""The slow lane: threads that recognise whole segments, finals before partials, retried while their time lasts."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from queue import PriorityQueue
from random import Random
from threading import Thread
from time import perf_counter_ns, sleep

from pipelines.contracts import Hypotheses, Transcript
from pipelines.errors import AmiraError
from pipelines.resilience import Backoff, Breaker, BreakerState, Deadline, DeadlineExceededError, ServiceError
from pipelines.triton.tracing import TRACER, CallTracer
from server.metrics import Metrics

log = logging.getLogger(__name__)

FINAL, PARTIAL, UPLOAD = 0, 1, 2
"""Priorities: who waits for a final waits for real; an upload has all the time in the world."""
KINDS = {FINAL: "final", PARTIAL: "partial", UPLOAD: "upload"}
_LEVELS = {BreakerState.CLOSED: 0, BreakerState.HALF_OPEN: 1, BreakerState.OPEN: 2}
_BACKOFF = Backoff(attempts=1_000, base_s=0.05, cap_s=1.0)  # the deadline ends it, not the count

Recognise = Callable[[bytes, Hypotheses | None], Transcript]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a piece of work ended: with a transcript, or with the error that it ended with.

    Attributes:
        transcript: The answer.
        error: What went wrong, if so.
        queued_ns: Time that it waited.
        started_ns: When a worker took it.
        ended_ns: When it was done.
        attempts: How often it was tried.
    """

    transcript: Transcript | None
    error: Exception | None
    queued_ns: int
    started_ns: int
    ended_ns: int
    attempts: int


@dataclass(order=True, slots=True)
class Work:
    """A segment to recognise; `done` is called from the worker's thread."""

    priority: int
    number: int
    pcm: bytes = field(compare=False)
    draft: Hypotheses | None = field(compare=False)
    recognise: Recognise = field(compare=False)
    done: Callable[[Outcome], None] = field(compare=False)
    wanted: Callable[[], bool] = field(compare=False)
    tracer: CallTracer | None = field(compare=False, default=None)
    created_ns: int = field(compare=False, default_factory=perf_counter_ns)


class Lane:
    """Worker threads over one queue."""

    def __init__(self, workers: int, timeout_ms: int, metrics: Metrics) -> None:
        self._queue: PriorityQueue[Work] = PriorityQueue()
        self._numbers = count()
        self._timeout_s = timeout_ms / 1_000
        self._metrics = metrics
        self.breaker = Breaker("the recogniser of the finals", listener=self._breaker_changed)
        self._threads = [Thread(target=self._work, name=f"lane-{index}", daemon=True) for index in range(workers)]
        for thread in self._threads:
            thread.start()

    def submit(
        self,
        priority: int,
        pcm: bytes,
        draft: Hypotheses | None,
        recognise: Recognise,
        done: Callable[[Outcome], None],
        wanted: Callable[[], bool],
        tracer: CallTracer | None = None,
    ) -> None:
        """Queue a segment. Where nobody wants it any more when its turn comes, `done` gets an outcome without both."""
        self._queue.put(Work(priority, next(self._numbers), pcm, draft, recognise, done, wanted, tracer))

    @property
    def depth(self) -> int:
        """Segments that wait."""
        return self._queue.qsize()

    def close(self) -> None:
        """End the threads when they have done what they are at; what waits is dropped."""
        for _ in self._threads:
            self._queue.put(Work(-1, next(self._numbers), b"", None, _stop, _ignore, bool))
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while True:
            work = self._queue.get()
            if work.priority < 0:
                return
            started_ns = perf_counter_ns()
            queued_ns = started_ns - work.created_ns
            if not work.wanted():
                work.done(Outcome(None, None, queued_ns, started_ns, started_ns, 0))
                continue
            self._metrics.queue_s.labels(KINDS[work.priority]).observe(queued_ns / 1e9)
            TRACER.set(work.tracer)
            transcript, error, attempts = self._recognise(work)
            work.done(Outcome(transcript, error, queued_ns, started_ns, perf_counter_ns(), attempts))

    def _recognise(self, work: Work) -> tuple[Transcript | None, Exception | None, int]:
        deadline = Deadline.after(self._timeout_s)
        rng = Random(work.number)
        attempts = 0
        while True:
            attempts += 1
            try:
                permit = self.breaker.acquire()
            except ServiceError as error:
                failure: Exception = error
            else:
                try:
                    transcript = work.recognise(work.pcm, work.draft)
                except ServiceError as error:
                    permit.failed() if error.counts else permit.abandoned()
                    failure = error
                except AmiraError as error:  # it cannot be done with this audio or these settings: its owner is told
                    permit.abandoned()
                    return None, error, attempts
                except Exception as error:
                    permit.abandoned()
                    log.exception("recognising a segment failed")
                    return None, error, attempts
                else:
                    permit.succeeded()
                    return transcript, None, attempts
            self._metrics.backend_errors.labels(KINDS[work.priority]).inc()
            pause_s = _BACKOFF.delay_s(min(attempts, 8), rng)
            again = isinstance(failure, ServiceError) and (
                failure.retryable or isinstance(failure, DeadlineExceededError)
            )
            if work.priority == PARTIAL or not again or pause_s is None or pause_s >= deadline.remaining_s:
                return None, failure, attempts
            self._metrics.retries.inc()
            sleep(max(pause_s, min(deadline.remaining_s, getattr(failure, "retry_after_s", None) or 0.0)))

    def _breaker_changed(self, before: BreakerState, after: BreakerState) -> None:
        self._metrics.breaker.set(_LEVELS[after])
        log.warning("the circuit breaker of the finals went from %s to %s", before, after)


def _stop(pcm: bytes, draft: Hypotheses | None) -> Transcript:
    raise AssertionError("the last piece of work is not to be done")


def _ignore(outcome: Outcome) -> None:
    pass
