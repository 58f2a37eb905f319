"""Log-mel features in the two conventions that speech models are trained with, Kaldi's and NeMo's.

`LogMel` frames, windows and transforms with NumPy (its pocketfft, in float32); the mel sums and the logarithm are the
`log_mel` kernel. Nothing is dithered: the same samples give the same features.

Kaldi (icefall, WeNet, k2): frames inside the clip, each without its mean, pre-emphasised, under a Povey window;
HTK mel scale; log(max(energy, epsilon)). Checked against kaldi-native-fbank.

NeMo: the whole clip pre-emphasised, frames centred on multiples of the shift with zeros beyond the edges, a symmetric
Hann window; Slaney's mel scale with triangles of area 1; log(energy + 2^-24); normalised per mel over the clip.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from kernels.buffers import BufferPool

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

EPSILON = float(np.finfo(np.float32).eps)
TINY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class MelBank:
    """Mel triangles as the `log_mel` kernel takes them, see `kernels.log_mel`."""

    weights: Float32
    starts: Int64
    ends: Int64

    @classmethod
    def packed(cls, triangles: Float64) -> MelBank:
        """Pack dense triangles, (mels, bins), by leaving out the zeros around them."""
        starts, ends, weights = [], [], []
        for row in triangles:
            found = np.flatnonzero(row)
            start, end = (int(found[0]), int(found[-1]) + 1) if found.size else (0, 0)
            starts.append(start)
            ends.append(end)
            weights.append(row[start:end])
        return cls(np.concatenate(weights).astype(np.float32), np.array(starts), np.array(ends))


@dataclass(frozen=True)
class MelConfig:
    """What a model was trained with.

    Attributes:
        convention: How a clip is framed and windowed.
        mels: Mel channels.
        sample_rate: Samples a second.
        low_hz, high_hz: Edges of the lowest and the highest triangle.
        frame, shift, fft: Samples in a frame, between frames, and in a transform.
        scale: What samples are multiplied by first: 32,768 for models trained on 16-bit numbers.
        preemphasis: The share of the sample before that is taken away.
    """

    convention: Literal["kaldi", "nemo"] = "kaldi"
    mels: int = 80
    sample_rate: int = 16_000
    low_hz: float = 20.0
    high_hz: float = 8_000.0
    frame: int = 400
    shift: int = 160
    fft: int = 512
    scale: float = 1.0
    preemphasis: float = 0.97

    def __post_init__(self) -> None:
        if not 0 < self.frame <= self.fft:
            raise ValueError(f"a frame of {self.frame} samples does not fit into a transform of {self.fft}")
        if not 0 <= self.low_hz < self.high_hz <= self.sample_rate / 2:
            raise ValueError(
                f"mel edges must satisfy 0 <= low < high <= {self.sample_rate / 2}, got {self.low_hz}, {self.high_hz}"
            )
        if self.mels < 1 or self.shift < 1:
            raise ValueError(f"mels and shift must be positive, got {self.mels} and {self.shift}")


def nemo_config(mels: int = 80) -> MelConfig:
    """The usual configuration of NeMo's models; Kaldi's is `MelConfig()`."""
    return MelConfig(convention="nemo", mels=mels, low_hz=0.0)


def htk_mel(hz: npt.ArrayLike) -> Float64:
    """The HTK mel scale, 1127 ln(1 + f / 700)."""
    return 1127.0 * np.log1p(np.asarray(hz, np.float64) / 700.0)


def slaney_mel(hz: npt.ArrayLike) -> Float64:
    """Slaney's mel scale (Auditory Toolbox, 1998): linear to 1 kHz, then 27 steps for each factor of 6.4."""
    values = np.asarray(hz, np.float64)
    return np.where(
        values < 1000.0, values * 3.0 / 200.0, 15.0 + 27.0 * np.log(np.maximum(values, 1.0) / 1000.0) / np.log(6.4)
    )


def slaney_hz(mel: npt.ArrayLike) -> Float64:
    """The inverse of `slaney_mel`."""
    values = np.asarray(mel, np.float64)
    return np.where(values < 15.0, values * 200.0 / 3.0, 1000.0 * np.exp(np.log(6.4) * (values - 15.0) / 27.0))


def kaldi_triangles(config: MelConfig) -> Float64:
    """Float64 (mels, fft / 2 + 1): triangles that are straight on the mel axis; the Nyquist bin belongs to none."""
    low, high = htk_mel(config.low_hz), htk_mel(config.high_hz)
    edges = low + (high - low) / (config.mels + 1) * np.arange(config.mels + 2)
    bins = htk_mel(np.arange(config.fft // 2 + 1) * config.sample_rate / config.fft)
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    triangles = np.maximum(np.minimum(rising, falling), 0.0)
    triangles[:, -1] = 0.0
    return triangles


def nemo_triangles(config: MelConfig) -> Float64:
    """Float64 (mels, fft / 2 + 1): triangles that are straight on the axis of frequency, each of area 1."""
    edges = slaney_hz(np.linspace(slaney_mel(config.low_hz), slaney_mel(config.high_hz), config.mels + 2))
    bins = np.arange(config.fft // 2 + 1) * config.sample_rate / config.fft
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    return np.maximum(np.minimum(rising, falling), 0.0) * (2.0 / (edges[2:] - edges[:-2]))[:, None]


class LogMel:
    """Samples to log-mel features.

    Args:
        config: The convention and its numbers.
        mel_writer: Binds the `log_mel` kernel to a filter bank, as `pipelines.contracts.Kernels.mel_writer` does.
        pool: Where its arrays come from; once it is warm, a clip of a known length allocates none. NumPy's FFT still
            takes scratch memory for a moment.
    """

    def __init__(
        self,
        config: MelConfig,
        mel_writer: Callable[[Float32, Int64, Int64, float, float], Callable[[Float32, Float32], int]],
        pool: BufferPool | None = None,
    ) -> None:
        self.config = config
        self._pool = pool if pool is not None else BufferPool()
        kaldi = config.convention == "kaldi"
        self.bank = MelBank.packed(kaldi_triangles(config) if kaldi else nemo_triangles(config))
        ramp = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(config.frame) / (config.frame - 1))
        self.window: Float32 = (ramp**0.85 if kaldi else ramp).astype(np.float32)
        """float32 (frame,): Povey's window (Hann to the power of 0.85) or a symmetric Hann window."""
        guard, floor = (0.0, EPSILON) if kaldi else (2.0**-24, TINY)
        self._log_mel = mel_writer(self.bank.weights, self.bank.starts, self.bank.ends, guard, floor)
        self._windowed = self._windowed_kaldi if kaldi else self._windowed_nemo

    def frames(self, samples: int) -> int:
        """How many frames a clip of that many samples has."""
        if self.config.convention == "nemo":
            return samples // self.config.shift
        return max(0, 1 + (samples - self.config.frame) // self.config.shift)

    def __call__(self, samples: Float32, out: Float32) -> None:
        """Features of one clip.

        Args:
            samples: float32 (n,), in [-1, 1).
            out: C-contiguous float32 (frames, mels); for NeMo before `normalise`.

        Raises:
            ValueError: Samples of a wrong type or shape, or `out` of a wrong type, shape or layout.
        """
        config = self.config
        count = self.frames(samples.size)
        if samples.dtype != np.float32 or samples.ndim != 1 or not samples.flags.c_contiguous:
            raise ValueError(f"samples must be contiguous native float32 (n,), got {samples.dtype.str} {samples.shape}")
        if out.shape != (count, config.mels):
            raise ValueError(f"out must be {(count, config.mels)} for {samples.size} samples, got {out.shape}")
        bins = config.fft // 2 + 1
        with (
            self._pool.lease((count, config.fft), np.float32) as framed,
            self._pool.lease((count, bins), np.complex64) as spectrum,
            self._pool.lease((2, count, bins), np.float32) as parts,
        ):
            framed[:] = 0
            if count:
                self._windowed(samples, framed)
                np.fft.rfft(framed, axis=1, out=spectrum)
            np.square(spectrum.real, out=parts[0])
            np.square(spectrum.imag, out=parts[1])
            power = np.add(parts[0], parts[1], out=parts[0])
            self._log_mel(power, out)

    def _views(self, samples: Float32, count: int) -> Float32:
        """float32 (count, frame): overlapping frames of contiguous samples, without a copy.

        NumPy's `sliding_window_view` does the same, but leaves a reference cycle behind for each call.
        """
        strides = (self.config.shift * samples.itemsize, samples.itemsize)
        return np.ndarray((count, self.config.frame), np.float32, buffer=samples, strides=strides)

    def _windowed_nemo(self, samples: Float32, framed: Float32) -> None:
        """Fill float32 (frames, fft) with what is transformed."""
        config = self.config
        left = (config.fft - config.frame) // 2
        with self._pool.lease((samples.size + config.fft,), np.float32) as padded:
            padded[:] = 0
            clip = padded[config.fft // 2 : config.fft // 2 + samples.size]
            np.multiply(samples[:-1], np.float32(-config.preemphasis * config.scale), out=clip[1:])
            with self._pool.lease(samples.shape, np.float32) as scaled:
                clip += np.multiply(samples, np.float32(config.scale), out=scaled)
            views = self._views(padded[left:], len(framed))
            np.multiply(views, self.window, out=framed[:, left : left + config.frame])

    def _windowed_kaldi(self, samples: Float32, framed: Float32) -> None:
        """Fill float32 (frames, fft) with what is transformed."""
        config = self.config
        emphasis = np.float32(config.preemphasis)
        body = framed[:, : config.frame]
        views = self._views(samples, len(framed))
        with (
            self._pool.lease((len(framed), 1), np.float32) as mean,
            self._pool.lease(body.shape, np.float32) as before,
        ):
            np.multiply(views, np.float32(config.scale), out=body)
            body -= np.mean(body, axis=1, keepdims=True, out=mean)
            np.multiply(body, emphasis, out=before)
            body[:, 1:] -= before[:, :-1]
            body[:, 0] -= before[:, 0]
            body *= self.window


def normalise(features: Float32) -> Float32:
    """NeMo's `per_feature`: each mel channel of (frames, mels) to mean 0 and deviation 1, in place.

    Raises:
        ValueError: Fewer than two frames, which have no deviation.
    """
    if features.shape[0] < 2:
        raise ValueError(f"normalising needs at least two frames, got {features.shape[0]}")
    features -= features.mean(axis=0)
    features /= features.std(axis=0, ddof=1) + np.float32(1e-5)
    return features
