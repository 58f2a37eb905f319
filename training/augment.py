"""Changes to a waveform that a reader's room, voice and microphone could have made."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from training.config import Augmentation

Float32 = npt.NDArray[np.float32]


def augment(wave: Float32, others: list[Float32], config: Augmentation, rng: np.random.Generator) -> Float32:
    """Speed, noise, and level, each by its own chance.

    Args:
        wave: float32 (n,).
        others: Other clips, for babble.
        config: How much of what.
        rng: The source of chance.
    """
    if rng.random() < config.speed_chance:
        wave = change_speed(wave, rng.uniform(*config.speed))
    if rng.random() < config.noise_chance:
        kind = rng.integers(3)
        noise = coloured(len(wave), rng) if kind < 2 or not others else babble(len(wave), others, rng)
        wave = mix(wave, noise, rng.uniform(*config.snr_db))
    if rng.random() < config.level_chance:
        wave = wave * np.float32(10 ** (rng.uniform(*config.level_db) / 20))
    return np.clip(wave, -1, 1).astype(np.float32)


def change_speed(wave: Float32, factor: float) -> Float32:
    """Faster and higher by `factor`, by linear interpolation."""
    count = max(int(len(wave) / factor), 1)
    return np.interp(np.arange(count) * factor, np.arange(len(wave)), wave).astype(np.float32)


def coloured(count: int, rng: np.random.Generator) -> Float32:
    """Noise whose power falls with a random power of frequency, between white and brown."""
    size = 1 << max(count - 1, 1).bit_length()
    spectrum = np.fft.rfft(rng.standard_normal(size))
    slope = np.arange(1, len(spectrum) + 1) ** -rng.uniform(0, 1)
    return np.fft.irfft(spectrum * slope)[:count].astype(np.float32)


def babble(count: int, others: list[Float32], rng: np.random.Generator) -> Float32:
    """Several other clips at once, each from a random place on."""
    total = np.zeros(count, np.float32)
    for index in rng.integers(len(others), size=rng.integers(1, 5)):
        total += np.resize(np.roll(others[index], rng.integers(len(others[index]))), count)
    return total


def mix(wave: Float32, noise: Float32, snr_db: float) -> Float32:
    """`wave` with `noise` at a signal-to-noise ratio."""
    power, other = float(np.mean(wave**2)), float(np.mean(noise**2))
    if power == 0 or other == 0:
        return wave
    return wave + noise * np.float32(np.sqrt(power / other / 10 ** (snr_db / 10)))
