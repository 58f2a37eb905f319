"""One batch for many sessions: a round looks at one chunk of each, and nobody waits for a batch to fill.

What arrives while a round runs is in the next one, so batches grow with the load by themselves. A session takes part
with at most one chunk of the first pass a round, so that one that sends an hour at once gets no more than its share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter_ns

import numpy as np

from pipelines.audio.vad_stream import SpeechDetector
from pipelines.first_pass import FirstPass
from pipelines.session import Session

LOOKS = 8
"""Chunks of the detector in a round where there is no first pass to wait for them."""


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
    """

    detected: int = 0
    heard: int = 0
    detect_ns: int = 0
    hear_ns: int = 0
    failed: Sequence[Session] = ()
    error: Exception | None = None

    @property
    def idle(self) -> bool:
        """Whether there was nothing to do."""
        return not self.detected and not self.heard and not self.failed


class Batcher:
    """Runs the speech detector and the first pass on batches."""

    def __init__(self, detector: SpeechDetector, first_pass: FirstPass | None) -> None:
        self._detector, self._first_pass = detector, first_pass
        self._samples = np.empty(0, np.float32)
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
        hearing, states, chunks = [], [], []
        for session in sessions:
            work = session.first_pass_chunk()
            if work is not None:
                hearing.append(session)
                states.append(work[0])
                chunks.append(work[1])
        if not hearing:
            return Round(detected, detect_ns=after_ns - started_ns)
        try:
            partials = self._first_pass.push(states, chunks)
        except Exception as error:  # noqa: BLE001 - whatever a backend raises is for its owner to judge
            spent_ns = perf_counter_ns() - after_ns
            return Round(detected, 0, after_ns - started_ns, spent_ns, hearing, error)
        for session, partial in zip(hearing, partials, strict=True):
            session.understood(partial)
        return Round(detected, len(hearing), after_ns - started_ns, perf_counter_ns() - after_ns)

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
