"""Listening conditions: the same clip with noise under it, or at another level."""

from __future__ import annotations

import hashlib

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

_FULL_SCALE = 32_768


class Condition(BaseModel):
    """What is done to every clip of a corpus before it is measured; without numbers, nothing.

    Attributes:
        name: Goes behind the clip's id and its corpus' name.
        snr_db: Pink noise is added so far below the clip's own level (both as power over the whole clip).
        level_db: The clip, with its noise, is made louder by so much; below 0, softer. What exceeds full scale is
            clipped.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._+-]*$")
    snr_db: float | None = Field(default=None, ge=-20, le=100)
    level_db: float = Field(default=0.0, ge=-80, le=40)

    @property
    def changes(self) -> bool:
        """Whether it does anything."""
        return self.snr_db is not None or self.level_db != 0

    def apply(self, pcm: bytes, clip_id: str) -> bytes:
        """The clip under this condition.

        Args:
            pcm: PCM16 little-endian.
            clip_id: Seeds the noise: each clip has its own, always the same.
        """
        if not self.changes:
            return pcm
        samples = np.frombuffer(pcm, "<i2").astype(np.float64)
        if self.snr_db is not None and samples.size:
            noise = pink_noise(samples.size, int.from_bytes(hashlib.sha256(clip_id.encode()).digest()[:8]))
            samples = samples + noise * np.sqrt(np.mean(samples**2)) * 10 ** (-self.snr_db / 20)
        samples = np.rint(samples * 10 ** (self.level_db / 20))
        return np.clip(samples, -_FULL_SCALE, _FULL_SCALE - 1).astype("<i2").tobytes()


def pink_noise(count: int, seed: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Noise of unit power whose density falls by 3 dB an octave, as that of rooms and streets does roughly."""
    white = np.random.default_rng(seed).standard_normal(count)
    spectrum = np.fft.rfft(white)
    spectrum /= np.sqrt(np.maximum(np.arange(spectrum.size), 1))
    noise = np.fft.irfft(spectrum, count)
    power = np.sqrt(np.mean(noise**2))
    return noise / power if power else noise
