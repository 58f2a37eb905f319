"""What flows through a pipeline: audio, what models make of it, and what was read.

Audio inside a pipeline is mono float32 in [-1, 1) at 16 kHz; on its way in it is PCM16 little-endian bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

SAMPLE_RATE = 16_000
Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class AudioBatch:
    """Waveforms of one batch, padded with zeros to the longest.

    Attributes:
        samples: float32 (batch, samples), in [-1, 1).
        lengths: int64 (batch,), samples that are real in each row.
    """

    samples: Float32
    lengths: Int64


@dataclass(frozen=True, slots=True)
class LogProbs:
    """Frame-wise log-probabilities of a CTC model.

    Attributes:
        values: float32 (batch, frames, vocabulary).
        lengths: int64 (batch,), frames that are real in each row.
    """

    values: Float32
    lengths: Int64


@dataclass(frozen=True, slots=True)
class Encoded:
    """What an encoder hands to an attention decoder.

    Attributes:
        hidden: float32 (batch, frames, width).
        lengths: int64 (batch,), frames that are real in each row.
        audio_s: length of each clip in seconds, for the decoder's length limit.
    """

    hidden: Float32
    lengths: Int64
    audio_s: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Word:
    """A recognised word; times in seconds from the start of the clip, confidence in [0, 1]."""

    text: str
    start_s: float
    end_s: float
    confidence: float


@dataclass(frozen=True, slots=True)
class ReadWord:
    """How a word of an expected text was read.

    Attributes:
        word: The word, as the text has it.
        status: `read`, `repeated` (read more than once), `misread` (something else in its place), or `skipped`.
        said: What was said; empty where it was skipped.
        start_s, end_s: When, in seconds from the start of the clip; `nan` where it was skipped.
        confidence: In [0, 1].
        attempts: How often it was tried, false starts included.
        before: Words that were put in before it.
    """

    word: str
    status: str
    said: str
    start_s: float
    end_s: float
    confidence: float
    attempts: int
    before: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """One reading of a clip.

    Attributes:
        text: The words, in the model's own spelling.
        tokens: Token ids without start and end tokens.
        score: Log-probability of the tokens under the model; `nan` where the model does not give one.
        words: Word times, empty where the decoder has none.
        reading: How each word of an expected text was read; empty where none was expected.
    """

    text: str
    tokens: tuple[int, ...]
    score: float
    words: tuple[Word, ...] = ()
    reading: tuple[ReadWord, ...] = ()


Hypotheses = tuple[Hypothesis, ...]
"""The n-best readings of one clip, best first."""


@dataclass(frozen=True, slots=True)
class Partial:
    """What a decoder stream has understood so far.

    Attributes:
        text: The best reading up to now.
        stable_chars: Its first characters that no later chunk changes.
    """

    text: str
    stable_chars: int
