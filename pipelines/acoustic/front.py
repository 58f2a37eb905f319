"""The features that a model's card asks for: of whole clips, and of streams that grow."""

from __future__ import annotations

import numpy as np

from kernels.features import LogMel, MelConfig, normalise
from pipelines.contracts import SAMPLE_RATE, Float32, Kernels
from pipelines.errors import AmiraError
from pipelines.models.model_card import FeaturesCard

SHIFT_SAMPLES = 160
"""From one feature frame to the next, in both conventions: 10 ms."""


class Features:
    """The features of a card, by the pipeline's kernels."""

    def __init__(self, card: FeaturesCard, kernels: Kernels) -> None:
        high_hz = card.high_hz if card.high_hz > 0 else SAMPLE_RATE / 2 + card.high_hz
        try:
            config = MelConfig(
                convention=card.convention,
                mels=card.mels,
                low_hz=card.low_hz,
                high_hz=high_hz,
                scale=card.scale,
                shift=SHIFT_SAMPLES,
            )
        except ValueError as error:
            raise AmiraError(f"[features] of the model card: {error}") from error
        self.card = card
        self._log_mel = LogMel(config, kernels.mel_writer)
        nemo = card.convention == "nemo"
        self.reach = config.frame // 2 if nemo else config.frame
        """Frame i hears no sample from `SHIFT_SAMPLES * i + reach` on."""
        self.history = -(-(config.frame // 2 + 1) // SHIFT_SAMPLES) if nemo else 0
        """Whole shifts before a frame's own place that it hears, too."""

    def __call__(self, samples: Float32) -> Float32:
        """float32 (frames, mels) of a clip; no frames where it is too short for the convention."""
        count = self._log_mel.frames(samples.size)
        if count < (2 if self.card.per_feature else 1):
            return np.zeros((0, self.card.mels), np.float32)
        features = np.empty((count, self.card.mels), np.float32)
        self._log_mel(np.ascontiguousarray(samples), features)
        return normalise(features) if self.card.per_feature else features


class FeatureStream:
    """The frames of a stream as its samples come: the very frames that the whole clip would have.

    Args:
        features: What frames are made by; not normalised over a clip, which a stream does not know.
        before: Frames of zeros before the first.
    """

    def __init__(self, features: Features, before: int) -> None:
        self._features = features
        self._samples = np.zeros(0, np.float32)
        self._first = 0
        """The frame at whose place `_samples` starts."""
        self._next = 0
        """The frame that is made next."""
        self.frames: Float32 = np.zeros((before, features.card.mels), np.float32)
        """float32 (frames, mels): what was made and is not dropped yet."""

    def push(self, samples: Float32) -> None:
        """Hear more, float32 (n,), and make every frame that it completes."""
        features = self._features
        self._samples = np.concatenate([self._samples, samples])
        end = SHIFT_SAMPLES * self._first + len(self._samples)
        ready = max((end - features.reach) // SHIFT_SAMPLES + 1, 0)
        if ready <= self._next:
            return
        made = features(self._samples)[self._next - self._first : ready - self._first]
        self.frames = np.concatenate([self.frames, made])
        self._next = ready
        keep = max(self._next - features.history, 0)
        self._samples = self._samples[SHIFT_SAMPLES * (keep - self._first) :]
        self._first = keep

    def drop(self, count: int) -> None:
        """Forget the oldest frames."""
        self.frames = self.frames[count:]
