"""Speech for training: every clip of a corpus decoded once into one file, then batches of clips of similar length.

Any corpus that `harness.corpus` reads will do: manifests, folders, LibriSpeech trees, `shared:train`.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from harness.corpus.load import load_corpus
from harness.metrics.normalise import normalise
from pipelines.contracts import SAMPLE_RATE

Int16 = npt.NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class Utterance:
    """A clip in the decoded file.

    Attributes:
        id: Of the clip.
        corpus: Its corpus.
        text: Normalised transcript.
        age: The speaker's age in years, `None` where unknown.
        start: First sample in the file.
        samples: How many it has.
    """

    id: str
    corpus: str
    text: str
    age: float | None
    start: int
    samples: int


class Speech:
    """Decoded speech: one memory-mapped file of PCM16 and a list of what lies where."""

    def __init__(self, pcm: Int16, utterances: Sequence[Utterance]) -> None:
        self.pcm, self.utterances = pcm, tuple(utterances)

    def audio(self, utterance: Utterance) -> Int16:
        """The samples of an utterance."""
        return self.pcm[utterance.start : utterance.start + utterance.samples]

    @property
    def hours(self) -> float:
        """Length of all utterances."""
        return sum(utterance.samples for utterance in self.utterances) / SAMPLE_RATE / 3600

    def hours_by_corpus(self) -> dict[str, float]:
        """Length of each corpus's utterances, the longest first."""
        samples: Counter[str] = Counter()
        for utterance in self.utterances:
            samples[utterance.corpus] += utterance.samples
        return {name: round(count / SAMPLE_RATE / 3600, 2) for name, count in samples.most_common()}

    def part(self, hours: float, seed: int) -> Speech:
        """A random part of that length, for learning curves."""
        order = np.random.default_rng(seed).permutation(len(self.utterances))
        chosen, total = [], 0.0
        for index in order:
            if total >= hours * 3600:
                break
            chosen.append(self.utterances[index])
            total += self.utterances[index].samples / SAMPLE_RATE
        return Speech(self.pcm, chosen)


def load_speech(corpus: str, cache: Path) -> Speech:
    """Decode a corpus into `cache`, or find it there.

    Raises:
        AmiraError: No such corpus, or a clip that cannot be read.
    """
    clips = [clip for clip in load_corpus(corpus).clips if clip.text is not None]
    key = hashlib.sha256(repr([(clip.id, clip.text, clip.duration_s) for clip in clips]).encode()).hexdigest()[:16]
    audio, index = cache / f"{key}.pcm", cache / f"{key}.json"
    if not index.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        rows, position = [], 0
        part, index_part = (path.with_suffix(f"{path.suffix}.{os.getpid()}") for path in (audio, index))
        with part.open("wb") as file:
            for clip in clips:
                pcm = clip.pcm16()
                file.write(pcm)
                row = {"id": clip.id, "corpus": clip.corpus, "text": normalise(clip.text or ""), "age": clip.age}
                rows.append({**row, "start": position, "samples": len(pcm) // 2})
                position += len(pcm) // 2
        index_part.write_text(json.dumps(rows), "utf-8")
        part.replace(audio)  # two trainings that begin together each write their own, and the same
        index_part.replace(index)
    utterances = [Utterance(**row) for row in json.loads(index.read_text("utf-8"))]
    return Speech(np.memmap(audio, np.int16, "r"), utterances)


def batches(
    utterances: Sequence[Utterance], max_samples: int, rng: np.random.Generator | None
) -> Iterator[list[Utterance]]:
    """Batches of similar length, each at most `max_samples` long with its padding.

    With `rng` the order of the batches is random and lengths are jittered, so that epochs differ; without it, the
    batches rise by length.
    """
    jitter = rng.uniform(0.85, 1.15, len(utterances)) if rng is not None else np.ones(len(utterances))
    order = np.argsort([utterance.samples * factor for utterance, factor in zip(utterances, jitter, strict=True)])
    groups: list[list[Utterance]] = []
    longest = 0
    for index in order:
        utterance = utterances[index]
        longest = max(longest, utterance.samples)
        if not groups or longest * (len(groups[-1]) + 1) > max_samples:
            groups.append([])
            longest = utterance.samples
        groups[-1].append(utterance)
    if rng is not None:
        rng.shuffle(groups)  # type: ignore[arg-type]
    yield from groups
