"""What every way of running Moonshine has in common."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.acoustic import vocabulary
from pipelines.contracts import SAMPLE_RATE, AedVocabulary, AudioBatch, Buffers, Encoded, Float32, Int64
from pipelines.models import moonshine

MIN_SAMPLES = 1_600
"""0.1 s: the shortest clip that gives the encoder a few frames."""


def frames(samples: int | Int64) -> int | Int64:
    """Encoder frames of a clip: three convolutions without padding (kernel/stride 127/64, 7/3, 3/2)."""
    first = (samples - 127) // 64 + 1
    second = (first - 7) // 3 + 1
    return (second - 3) // 2 + 1


class MoonshineAed(ABC):
    """Implements `pipelines.contracts.EncoderDecoderModel` but for the inference itself."""

    frame_shift_s = moonshine.FRAME_SAMPLES / SAMPLE_RATE
    start_token = moonshine.START_TOKEN
    end_token = moonshine.END_TOKEN
    max_tokens_per_s = moonshine.MAX_TOKENS_PER_S
    min_samples = MIN_SAMPLES
    max_step_tokens: int

    def __init__(self, buffers: Buffers, tokenizer: Path) -> None:
        self.vocabulary: AedVocabulary = vocabulary.load(tokenizer)
        self._buffers = buffers

    def warm_up(self) -> None:
        """Run both halves once on a second of silence, so that no first request pays for lazy allocation."""
        silence = AudioBatch(np.zeros((1, SAMPLE_RATE), np.float32), np.array([SAMPLE_RATE]))
        with self.encode(silence) as encoded, self.open(encoded, 4) as state:
            for _ in range(2):
                self.step(state, [self.start_token])

    @contextmanager
    def encode(self, batch: AudioBatch) -> Iterator[Encoded]:
        """Encode one clip.

        Raises:
            ValueError: More than one clip, or one that is too short: the encoder normalises over time and has no
                mask, so clips of different lengths cannot share a batch.
        """
        if batch.samples.shape[0] != 1:
            raise ValueError(f"Moonshine's encoder takes one clip at a time, got {batch.samples.shape[0]}")
        if batch.samples.shape[1] < MIN_SAMPLES:
            raise ValueError(f"Moonshine's encoder needs {MIN_SAMPLES} samples, got {batch.samples.shape[1]}")
        count = frames(batch.samples.shape[1])
        with self._buffers.lease((1, int(count), moonshine.WIDTH), np.float32) as hidden:
            self._encode_impl(batch.samples, hidden)  # type: ignore[arg-type]
            yield Encoded(hidden, np.array([count]), (batch.lengths[0] / SAMPLE_RATE,))  # type: ignore[arg-type]

    @abstractmethod
    def _encode_impl(self, samples: Float32, hidden: Float32) -> None:
        """Encode `samples` (1, n) into `hidden` (1, frames, width)."""

    @abstractmethod
    def open(self, encoded: Encoded, max_tokens: int) -> AbstractContextManager[Any]:
        """See `pipelines.contracts.EncoderDecoderModel.open`."""

    @abstractmethod
    def step(self, state: Any, tokens: Sequence[int]) -> Float32:
        """See `pipelines.contracts.EncoderDecoderModel.step`."""

    @abstractmethod
    def rewind(self, state: Any, length: int) -> None:
        """See `pipelines.contracts.EncoderDecoderModel.rewind`."""


def max_tokens(audio_s: float, per_s: float) -> int:
    """The longest transcript of a clip in tokens."""
    return max(1, math.ceil(audio_s * per_s))
