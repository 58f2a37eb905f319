"""Where speech starts and where it ends: the rules of `pipelines.audio.segments`, for audio that is still coming."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

ONSET = 0.5
OFFSET = 0.35
"""Speech goes on until the probability falls below this: no flicker around one threshold."""
MIN_SPEECH_SAMPLES = 1_536
"""About 0.1 s: shorter bursts are clicks."""
SMOOTHING = 5
"""A forced cut looks for the quietest run of so many chunks, not for one quiet sample."""

Cause = Literal["endpoint", "limit", "flush", "finish"]


@dataclass(frozen=True, slots=True)
class EndpointRules:
    """When a segment ends, in samples.

    Attributes:
        silence: A pause this long ends a segment.
        longest: No segment is longer; at least two seconds.
        pad: Audio kept before and after the speech, where the pause has room for it.
    """

    silence: int
    longest: int
    pad: int


@dataclass(frozen=True, slots=True)
class Started:
    """Somebody speaks, from this sample on (padding included)."""

    start: int


@dataclass(frozen=True, slots=True)
class Ended:
    """The segment is over; `goes_on` where it was cut in running speech, so that the next starts where it ends."""

    end: int
    cause: Cause
    goes_on: bool = False


class Endpointer:
    """A state machine over the chunks of one stream.

    Between `Started` and `Ended` somebody speaks; the two alternate.
    """

    __slots__ = (
        "_candidate",
        "_energies",
        "_floor",
        "_looked",
        "_probabilities",
        "_rules",
        "_speaking",
        "_speech_end",
        "_start",
        "resumed_at",
    )

    def __init__(self, rules: EndpointRules) -> None:
        self._rules = rules
        self._speaking = False
        self._candidate = -1  # first sample of speech that may turn out a click; -1 for none
        self._speech_end = 0  # end of the last chunk of speech
        self._start = 0
        self._floor = 0  # the next segment starts no earlier
        self._probabilities: list[float] = []  # of the running segment's chunks, for a forced cut
        self._energies: list[float] = []
        self._looked = 0
        self.resumed_at = 0
        """Behind the chunk that showed that speech goes on after the latest pause within a segment."""

    @property
    def wanted_until(self) -> int | None:
        """In a pause of a segment, the sample behind which nothing is of use unless speech goes on; else `None`."""
        if not self._speaking or self._speech_end >= self._looked:
            return None
        return self._speech_end + self._rules.pad

    @property
    def needed_from(self) -> int | None:
        """The first sample that a segment may still want; `None` for no more than the padding."""
        if self._speaking:
            return self._start
        return None if self._candidate < 0 else self._padded(self._candidate)

    def update(self, probability: float, energy: float, start: int, stop: int) -> Sequence[Started | Ended]:
        """Take the next chunk.

        Args:
            probability: Of speech in it.
            energy: Its mean square, in any unit.
            start: Its first sample; where the chunk before stopped.
            stop: Behind its last sample.
        """
        rules = self._rules
        self._looked = stop
        speech = probability >= (OFFSET if self._candidate >= 0 and self._speech_end == start else ONSET)
        if speech:
            if self._candidate < 0:
                self._candidate = start
            if self._speaking and self._speech_end < start:
                self.resumed_at = stop
            self._speech_end = stop
        found: list[Started | Ended] | tuple[()] = ()
        if not self._speaking:
            if self._candidate >= 0 and self._speech_end - self._candidate >= MIN_SPEECH_SAMPLES:
                found = [self._begin(self._padded(self._candidate))]
            elif self._candidate >= 0 and stop - self._speech_end >= rules.silence:
                self._candidate = -1  # a click
            if not self._speaking:
                return found
        self._probabilities.append(probability)
        self._energies.append(energy)
        if stop - self._speech_end >= rules.silence:
            return [*found, self._finish(min(self._speech_end + rules.pad, stop), "endpoint")]
        if stop - self._start >= rules.longest:
            cut = self._cut(stop, stop - start)
            ended, started = self._finish(cut, "limit", goes_on=True), self._begin(cut)
            self._candidate = cut
            self._speech_end = max(self._speech_end, cut)
            return [*found, ended, started]
        return found

    def stop(self, position: int, cause: Cause) -> list[Started | Ended]:
        """The client ends the segment at `position`; what is neither speech nor pause yet counts as speech."""
        if self._speaking:
            return [self._finish(position, cause)]
        if self._candidate >= 0:
            return [self._begin(self._padded(self._candidate)), self._finish(position, cause)]
        self._floor = position
        return []

    def _padded(self, position: int) -> int:
        return max(position - self._rules.pad, self._floor, 0)

    def _begin(self, start: int) -> Started:
        self._speaking = True
        self._start = start
        return Started(start)

    def _finish(self, end: int, cause: Cause, goes_on: bool = False) -> Ended:
        self._speaking = False
        self._candidate = -1
        self._floor = end
        self._probabilities.clear()
        self._energies.clear()
        return Ended(end, cause, goes_on)

    def _cut(self, stop: int, chunk: int) -> int:
        """Where to cut running speech: in the later half, at the longest pause, or where it is quietest."""
        count = len(self._probabilities)
        first = stop - count * chunk  # where the first remembered chunk starts
        low = max(0, (self._start + (stop - self._start) // 2 - first) // chunk + 1)
        pause = _longest_pause(self._probabilities, low)
        if pause is not None:
            return first + (pause[0] + pause[1]) * chunk // 2
        sums = [sum(self._energies[k : k + SMOOTHING]) for k in range(low, max(low + 1, count - SMOOTHING))]
        quietest = low + sums.index(min(sums))
        return min(stop, first + quietest * chunk + SMOOTHING * chunk // 2)


def _longest_pause(probabilities: list[float], low: int) -> tuple[int, int] | None:
    best: tuple[int, int] | None = None
    start = -1
    for index in range(low, len(probabilities) + 1):
        silent = index < len(probabilities) and probabilities[index] < OFFSET
        if silent and start < 0:
            start = index
        elif not silent and start >= 0:
            if best is None or index - start > best[1] - best[0]:
                best = (start, index)
            start = -1
    return best
