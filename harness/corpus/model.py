"""Clips and corpora: what a benchmark reads aloud to a recogniser."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from harness.corpus.condition import Condition
from pipelines.errors import AmiraError


@dataclass(frozen=True, slots=True)
class Clip:
    """One utterance.

    Attributes:
        id: Unique in its corpus.
        corpus: Name of the corpus that its accuracy is reported under.
        audio: The file that it is in.
        start_s: Where it starts in the file, in seconds.
        end_s: Where it ends; `None` for the end of the file.
        text: Reference transcript as its source has it; `None` if there is none.
        speaker: Speaker id; `None` where unknown.
        age: The speaker's age in years; `None` where unknown.
        duration_s: Its length in seconds.
        licence: Of the recording; `None` where unknown.
        source: Where it comes from; `None` where unknown.
        condition: What is done to its audio; `None` for nothing.
    """

    id: str
    corpus: str
    audio: Path
    text: str | None
    duration_s: float
    start_s: float = 0.0
    end_s: float | None = None
    speaker: str | None = None
    age: float | None = None
    licence: str | None = None
    source: str | None = None
    condition: Condition | None = None

    def pcm16(self) -> bytes:
        """The clip's audio as PCM16 little-endian mono at 16 kHz.

        Raises:
            AmiraError: The file cannot be read or is damaged.
        """
        from pipelines.audio.read import read_audio

        pcm = read_audio(self.audio, start_s=self.start_s, end_s=self.end_s).pcm16
        return pcm if self.condition is None else self.condition.apply(pcm, self.id)

    def under(self, condition: Condition) -> Clip:
        """The clip under a condition that changes it, with id and corpus of its own; else the clip itself."""
        if not condition.changes:
            return self
        name = condition.name
        return replace(self, id=f"{self.id}@{name}", corpus=f"{self.corpus}@{name}", condition=condition)


@dataclass(frozen=True, slots=True)
class Corpus:
    """Clips under one name. It always has at least one."""

    name: str
    clips: tuple[Clip, ...]
    description: str = ""

    def select(self, max_clips: int | None = None, max_seconds: float | None = None, seed: int = 0) -> Corpus:
        """A part of the corpus, spread over its corpora and speakers; the same for the same seed.

        Corpora take turns, and the speakers of a corpus take turns. A clip that no longer fits into
        `max_seconds` is passed over for a shorter one. The clips keep their order.

        Raises:
            AmiraError: The limits leave no clip.
        """
        if max_clips is None and max_seconds is None:
            return self
        chosen: set[str] = set()
        seconds = 0.0
        for clip in _in_turns(self.clips, random.Random(seed)):
            if max_clips is not None and len(chosen) >= max_clips:
                break
            if max_seconds is not None and seconds + clip.duration_s > max_seconds:
                continue
            chosen.add(clip.id)
            seconds += clip.duration_s
        if not chosen:
            shortest = min(clip.duration_s for clip in self.clips)
            raise AmiraError(
                f"corpus '{self.name}' has no clip within max_clips={max_clips}, max_seconds={max_seconds}; "
                f"its shortest is {shortest:.1f} s. Raise the limits."
            )
        return replace(self, clips=tuple(clip for clip in self.clips if clip.id in chosen))

    def under(self, conditions: Sequence[Condition]) -> Corpus:
        """Every clip under each of some conditions; with none, the corpus itself."""
        if not conditions:
            return self
        return replace(self, clips=tuple(clip.under(condition) for condition in conditions for clip in self.clips))


@dataclass(frozen=True, slots=True)
class CorpusSummary:
    """What `amira corpus show` tells of one corpus name.

    Attributes:
        name: The corpus.
        clips: How many clips.
        with_text: How many of them have a transcript.
        hours: Their length together.
        speakers: Known speakers.
        speakers_unknown: Clips whose speaker is not known.
        shortest_s: Length of the shortest clip in seconds.
        longest_s: Length of the longest clip in seconds.
        licences: All licences that its clips name.
        sources: All sources that its clips name, up to the first colon (the package without the file).
    """

    name: str
    clips: int
    with_text: int
    hours: float
    speakers: int
    speakers_unknown: int
    shortest_s: float
    longest_s: float
    licences: tuple[str, ...]
    sources: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self)


def describe(corpus: Corpus) -> tuple[CorpusSummary, ...]:
    """One summary for each corpus name among the clips, in order of first appearance."""
    groups: dict[str, list[Clip]] = {}
    for clip in corpus.clips:
        groups.setdefault(clip.corpus, []).append(clip)
    return tuple(_summary(name, clips) for name, clips in groups.items())


def _summary(name: str, clips: list[Clip]) -> CorpusSummary:
    durations = [clip.duration_s for clip in clips]
    return CorpusSummary(
        name=name,
        clips=len(clips),
        with_text=sum(clip.text is not None for clip in clips),
        hours=sum(durations) / 3600,
        speakers=len({clip.speaker for clip in clips} - {None}),
        speakers_unknown=sum(clip.speaker is None for clip in clips),
        shortest_s=min(durations),
        longest_s=max(durations),
        licences=tuple(sorted({clip.licence for clip in clips if clip.licence})),
        sources=tuple(sorted({clip.source.partition(":")[0] for clip in clips if clip.source})),
    )


def _in_turns(clips: Iterable[Clip], chance: random.Random) -> Iterable[Clip]:
    """All clips in a random order in which corpora, and the speakers of each, take turns."""
    groups: dict[str, dict[str, list[Clip]]] = {}
    for clip in clips:
        speaker = clip.speaker if clip.speaker is not None else f"\0{clip.id}"
        groups.setdefault(clip.corpus, {}).setdefault(speaker, []).append(clip)
    queues = []
    for speakers in groups.values():
        queue = list(speakers.values())
        for own in queue:
            chance.shuffle(own)
        chance.shuffle(queue)
        queues.append(list(_round_robin(queue)))
    return _round_robin(queues)


def _round_robin(queues: list[list[Clip]]) -> Iterable[Clip]:
    for turn in range(max(map(len, queues), default=0)):
        for queue in queues:
            if turn < len(queue):
                yield queue[turn]
