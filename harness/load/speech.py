"""The audio of a load: the clips of a corpus one after the other, with pauses between, for all streams to read from."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np

from harness.corpus import Corpus
from harness.load.spec import SAMPLE_RATE, Spoken

PAUSE_S = 1.0
"""Longer than what ends a segment, so that no segment spans two clips."""
_NOISE = 3
"""Loudness of a pause, in units of the last bit: digital silence is nothing that a microphone hears."""


def write_speech(corpus: Corpus, path: Path, seconds: float, seed: int) -> tuple[Spoken, ...]:
    """Write the clips as raw PCM16, in an order of their own, as far as `seconds` need.

    A stream that comes to the end goes on at the beginning.
    """
    chance = random.Random(seed)
    clips = list(corpus.clips)
    chance.shuffle(clips)
    pauses = np.random.default_rng(seed)
    spoken: list[Spoken] = []
    at = 0
    with path.open("wb") as file:
        for clip in clips:
            pcm = clip.pcm16()
            count = len(pcm) // 2
            spoken.append(Spoken(id=clip.id, text=clip.text, speaker=clip.speaker, start=at, stop=at + count))
            pause = pauses.integers(-_NOISE, _NOISE + 1, int(PAUSE_S * SAMPLE_RATE)).astype("<i2")
            file.write(pcm + pause.tobytes())
            at += count + len(pause)
            if at / SAMPLE_RATE >= seconds:
                break
    return tuple(spoken)
