"""Changes to waveforms that a reader's room, voice and microphone could have made, for a whole batch on any device.

Which rows change, and how, is drawn by PyTorch's generators: seed them, and the same batch changes in the same way.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from pipelines.contracts import SAMPLE_RATE
from training.config import Augmentation

ROOM_SAMPLES = 4_800
"""Length of a room's answer: 0.3 s."""
EQUALISER_POINTS = 12
"""Frequencies between which a microphone's gain is a straight line."""
FFT_SAMPLES = 16_384
STOP_GAIN = 0.03
"""What is left of a band that is taken out."""


def change_speed(samples: Tensor, lengths: Tensor, factors: Tensor) -> tuple[Tensor, Tensor]:
    """Every row faster and higher by its factor, by linear interpolation.

    Args:
        samples: float32 (batch, n) or frames of them (batch, n, width), zeros behind the end of a row.
        lengths: int64 (batch,), on the CPU.
        factors: float64 (batch,), on the CPU.

    Returns:
        The new rows and their lengths.
    """
    counts = (lengths / factors).long().clamp(min=1)
    places = torch.arange(int(counts.max()), device=samples.device, dtype=torch.float64)[None]
    places = places * factors.to(samples.device)[:, None]
    low = places.long().clamp(max=samples.shape[1] - 1)
    high = (low + 1).clamp(max=samples.shape[1] - 1)
    rows, wide = torch.arange(len(samples), device=samples.device)[:, None], (...,) + (None,) * (samples.dim() - 2)
    before, behind = samples[rows, low], samples[rows, high]
    made = before + (behind - before) * (places - low).to(samples.dtype)[wide]
    return made * real(counts, made)[wide], counts


def disturb(samples: Tensor, lengths: Tensor, config: Augmentation) -> Tensor:
    """Room, microphone, missing bands, noise, and level, each by its own chance in each row; the lengths stay.

    Args:
        samples: float32 (batch, n), zeros behind the end of a row.
        lengths: int64 (batch,), on the CPU.
        config: How much of what.
    """
    inside = real(lengths, samples)
    heard = samples
    if config.room_chance or config.equaliser_chance or config.stop_chance:
        heard = filtered(samples, config) * inside
        heard = heard * (power(samples, lengths) / power(heard, lengths).clamp(min=1e-12)).sqrt()
    if config.noise_chance:
        noisy = mix(heard, noise_like(heard), lengths, uniform(len(heard), config.snr_db, heard))
        heard = torch.where(chosen(heard, config.noise_chance), noisy, heard)
    gains = 10 ** (uniform(len(heard), config.level_db, heard) / 20)
    heard = torch.where(chosen(heard, config.level_chance), heard * gains, heard)
    return heard.clamp(-1, 1) * inside


def filtered(samples: Tensor, config: Augmentation) -> Tensor:
    """A room's echo, a microphone's uneven gain, and bands taken out: one product of spectra."""
    batch, longest = samples.shape
    size = rounded(longest + ROOM_SAMPLES)
    spectrum = torch.fft.rfft(samples, size)
    gain = torch.ones_like(spectrum)
    if config.room_chance:
        gain = torch.where(chosen(samples, config.room_chance), torch.fft.rfft(rooms(batch, samples), size), gain)
    if config.equaliser_chance:
        points = (torch.rand(batch, 1, EQUALISER_POINTS, device=samples.device) * 2 - 1) * config.equaliser_db
        curve = functional.interpolate(points, spectrum.shape[1], mode="linear", align_corners=True)[:, 0]
        gain = gain * torch.where(chosen(samples, config.equaliser_chance), 10 ** (curve / 20), 1.0)
    if config.stop_chance:
        frequency = torch.linspace(0, SAMPLE_RATE / 2, spectrum.shape[1], device=samples.device)[None]
        for _ in range(2):
            width = uniform(batch, (100.0, config.stop_hz), samples)
            start = torch.rand(batch, 1, device=samples.device) * 6_000
            stopped = (frequency >= start) & (frequency < start + width)
            gain = torch.where(stopped & chosen(samples, config.stop_chance), gain * STOP_GAIN, gain)
    return torch.fft.irfft(spectrum * gain, size)[:, :longest]


def rounded(samples: int) -> int:
    """A length of the transform at least that long; there are few of them, since each costs a plan on a GPU."""
    return -(-samples // FFT_SAMPLES) * FFT_SAMPLES


def rooms(batch: int, like: Tensor) -> Tensor:
    """Answers of rooms: the direct sound, and noise that falls by 60 dB in 0.1 to 0.5 s."""
    time = torch.arange(ROOM_SAMPLES, device=like.device)[None] / SAMPLE_RATE
    falls = torch.exp(-math.log(1_000) * time / uniform(batch, (0.1, 0.5), like))
    echo = torch.randn(batch, ROOM_SAMPLES, device=like.device) * falls
    echo[:, 0] = 0
    share = uniform(batch, (0.1, 0.7), like)
    echo = echo / echo.square().sum(1, keepdim=True).sqrt() * share
    echo[:, 0] = 1
    return echo


def noise_like(samples: Tensor) -> Tensor:
    """A noise for each row: between white and brown, or several of the other rows at once."""
    batch, longest = samples.shape
    size = rounded(longest)
    spectrum = torch.fft.rfft(torch.randn(batch, size, device=samples.device))
    slope = torch.arange(1, spectrum.shape[1] + 1, device=samples.device)[None] ** -uniform(batch, (0.0, 1.0), samples)
    coloured = torch.fft.irfft(spectrum * slope, size)[:, :longest]
    babble = torch.zeros_like(samples)
    for _ in range(3):
        voices = samples[torch.randperm(batch)].roll(int(torch.randint(longest, (1,))), 1)
        babble = babble + voices * uniform(batch, (0.0, 1.0), samples)
    return torch.where(chosen(samples, 1 / 3), babble, coloured)


def mix(samples: Tensor, noise: Tensor, lengths: Tensor, snr_db: Tensor) -> Tensor:
    """Rows with noise at a signal-to-noise ratio each (batch, 1); a row is left alone if it or its noise is silent."""
    own, other = power(samples, lengths), power(noise * real(lengths, noise), lengths)
    scale = (own / other.clamp(min=1e-20) / 10 ** (snr_db / 10)).sqrt()
    return samples + torch.where((own > 0) & (other > 0), scale, 0.0) * noise


def power(samples: Tensor, lengths: Tensor) -> Tensor:
    """Mean square of each row's own samples, (batch, 1)."""
    return samples.square().sum(1, keepdim=True) / lengths.to(samples.device)[:, None]


def real(lengths: Tensor, like: Tensor) -> Tensor:
    """Which samples are a row's own: bool (batch, n)."""
    return torch.arange(like.shape[1], device=like.device)[None] < lengths.to(like.device)[:, None]


def chosen(like: Tensor, chance: float) -> Tensor:
    """Rows by chance, bool (batch, 1)."""
    return torch.rand(len(like), 1, device=like.device) < chance


def uniform(batch: int, limits: tuple[float, float], like: Tensor) -> Tensor:
    """A number between two for each row, float32 (batch, 1)."""
    return torch.rand(batch, 1, device=like.device) * (limits[1] - limits[0]) + limits[0]
