"""One batch for many sessions: a round looks at one chunk of each, and hardly anybody waits for a batch.

What arrives while a round runs is in the next one, so batches grow with the load by themselves. Only a chunk of the
first pass that is alone waits for a second one, where that pays; see `BatchDelay`. A session takes part with at most
one chunk of the first pass a round, so that one that sends an hour at once gets no more than its share. Chunks whose
words somebody waits for go before those that end a segment after a pause or catch up with what was said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter_ns
from typing import Any

import numpy as np

from pipelines.audio.vad_stream import SpeechDetector
from pipelines.contracts import Float32
from pipelines.first_pass import FirstPass
from pipelines.session import Session

LOOKS = 8
"""Chunks of the detector in a round where there is no first pass to wait for them."""
MOST_PUT_OFF = 4
"""Rounds that a chunk whose words nobody waits for lets others go before it."""
OFTEN = 3
"""Chunks come often if one follows the other within so many times what hearing two together saves."""
SHORTEST_WAIT_NS = 1e6
"""Less is not waited for: a model that takes microseconds must not keep the engine from resting between its rounds."""
LONGEST_GAP_NS = 1e9
"""A longer pause between two chunks counts as this one, so that the average soon forgets it."""
SMOOTHING = 1 / 16
"""What the newest measurement counts in an average."""


class BatchDelay:
    """How long a chunk of the first pass that is alone waits for a second one, by what was measured of late.

    As long as hearing both together saves, if chunks come often. Where a model's weights do not fit into the caches,
    that is nearly the time of one: the server has less to do, and those behind wait no longer. Where two chunks cost
    twice as much as one, and where there are few streams, nobody waits: the median alone would pay for it.
    """

    def __init__(self) -> None:
        self._one_ns = 0.0  # to hear one chunk
        self._two_ns = 0.0  # to hear two together
        self._gap_ns = LONGEST_GAP_NS  # from one chunk to the next
        self._last_ns = 0
        self._until_ns = 0

    def until_ns(self, now_ns: int) -> int:
        """Until when a chunk that is alone waits; 0 if it does not, or has waited."""
        saved_ns = 2 * self._one_ns - self._two_ns if self._two_ns else 0.0
        if not self._until_ns and saved_ns >= SHORTEST_WAIT_NS and self._gap_ns < OFTEN * saved_ns:
            self._until_ns = now_ns + int(saved_ns)
        return self._until_ns if now_ns < self._until_ns else 0

    def heard(self, chunks: int, began_ns: int, ended_ns: int) -> None:
        """So many were heard together."""
        gap_ns = min((began_ns - self._last_ns) / chunks, LONGEST_GAP_NS)
        self._gap_ns = _average(self._gap_ns, gap_ns)
        self._last_ns, self._until_ns = began_ns, 0
        if chunks == 1:
            self._one_ns = _average(self._one_ns, ended_ns - began_ns)
        elif chunks == 2:
            self._two_ns = _average(self._two_ns, ended_ns - began_ns)


def _average(so_far: float, newest: float) -> float:
    return so_far + SMOOTHING * (newest - so_far) if so_far else newest


@dataclass(frozen=True, slots=True)
class Round:
    """What a round did.

    Attributes:
        detected: Sessions that the detector looked at, in its first batch.
        heard: Sessions that the first pass heard.
        detect_ns: Time in the detector.
        hear_ns: Time in the first pass.
        failed: Sessions whose chunk the first pass did not take; they have to hear again or to end.
        error: Why.
        waits_until_ns: Until when the one chunk for the first pass waits for another; 0 if none waits.
    """

    detected: int = 0
    heard: int = 0
    detect_ns: int = 0
    hear_ns: int = 0
    failed: Sequence[Session] = ()
    error: Exception | None = None
    waits_until_ns: int = 0

    @property
    def idle(self) -> bool:
        """Whether there was nothing to do."""
        return not self.detected and not self.heard and not self.failed and not self.waits_until_ns


class Batcher:
    """Runs the speech detector and the first pass on batches."""

    def __init__(self, detector: SpeechDetector, first_pass: FirstPass | None) -> None:
        self._detector, self._first_pass = detector, first_pass
        self._delay = BatchDelay()
        self._samples: Float32 = np.empty(0, np.float32)
        """Memory of `_detect`, kept: a batch of hundreds anew in each round is mapped and cleared by the kernel."""
        self._looks = LOOKS if first_pass is None else -(-first_pass.chunk_samples // detector.chunk_samples)
        """Chunks of the detector in a round: as much audio as the first pass hears, so that its batch is a full one."""

    def round(self, sessions: Sequence[Session]) -> Round:
        """Look at each session, and let the first pass hear one chunk; the detector's errors are bugs."""
        started_ns = perf_counter_ns()
        detected, looks = self._detect(sessions, self._looks)
        more = looks
        while more and looks < self._looks:  # what is behind the end of a segment
            _, more = self._detect(sessions, self._looks - looks)
            looks += more
        after_ns = perf_counter_ns()
        if self._first_pass is None:
            for session in sessions:
                session.first_pass_chunk()
            return Round(detected, detect_ns=after_ns - started_ns)
        now: list[tuple[Session, Any, bytes]] = []
        later: list[tuple[Session, Any, bytes]] = []
        for session in sessions:
            work = session.first_pass_chunk()
            if work is not None:
                state, chunk, prompt = work
                turn = now if prompt or session.put_off >= MOST_PUT_OFF else later
                turn.append((session, state, chunk))
        alone = len(now) == 1 and now[0][0].patient and self._delay.until_ns(after_ns)
        if alone and not later:
            return Round(detected, detect_ns=after_ns - started_ns, waits_until_ns=alone)
        if now and not alone:
            for session, _, _ in later:
                session.put_off += 1
        else:
            now += later
        if not now:
            return Round(detected, detect_ns=after_ns - started_ns)
        hearing, states, chunks = zip(*now, strict=True)
        try:
            partials = self._first_pass.push(states, chunks)
        except Exception as error:  # noqa: BLE001 - whatever a backend raises is for its owner to judge
            spent_ns = perf_counter_ns() - after_ns
            return Round(detected, 0, after_ns - started_ns, spent_ns, hearing, error)
        for session, partial in zip(hearing, partials, strict=True):
            session.understood(partial)
            session.put_off = 0
        ended_ns = perf_counter_ns()
        self._delay.heard(len(hearing), after_ns, ended_ns)
        return Round(detected, len(hearing), after_ns - started_ns, ended_ns - after_ns)

    def _detect(self, sessions: Sequence[Session], most: int) -> tuple[int, int]:
        """Look at up to `most` chunks of each; how many had some, and how many the one with most of them had."""
        looking, counts, parts = [], [], []
        size = 2 * self._detector.chunk_samples
        for session in sessions:
            part = session.detection_chunks(most)
            if part:
                looking.append(session)
                counts.append(len(part) // size)
                parts.append(part)
        if not looking:
            return 0, 0
        # Joined by Python: NumPy would let the other threads in at each part that it copies.
        batch = np.frombuffer(b"".join(parts), "<i2").reshape(-1, self._detector.chunk_samples)
        if batch.size > len(self._samples):
            self._samples = np.empty(2 * batch.size, np.float32)
        found = self._detector.probabilities([session.detector_state for session in looking], counts, batch)
        samples = self._samples[: batch.size].reshape(batch.shape)
        samples[...] = batch
        probabilities, energies = found.tolist(), np.einsum("ij,ij->i", samples, samples).tolist()
        at = 0
        for session, count in zip(looking, counts, strict=True):
            session.detected(probabilities[at : at + count], energies[at : at + count])
            at += count
        return len(looking), max(counts)
