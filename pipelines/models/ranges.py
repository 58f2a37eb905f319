"""How far an activation reaches: histograms of magnitudes, and where to clip them for eight bits."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

BINS = 2_048
LEVELS = 128
PERCENTILE = 99.99

Float64 = npt.NDArray[np.float64]


class Magnitudes:
    """A histogram of |x| that grows with what it is given, and the largest magnitude of each channel."""

    def __init__(self) -> None:
        self.counts: Float64 = np.zeros(BINS)
        self.largest = 0.0
        self.limit = 0.0
        """Upper edge of the last bin."""
        self.channels: npt.NDArray[np.float32] = np.zeros(0, np.float32)

    def add(self, x: npt.NDArray[np.float32]) -> None:
        """Count the values of `x` (..., channels)."""
        magnitudes = np.abs(x)
        flat = magnitudes.reshape(-1, x.shape[-1])
        if not flat.size:
            return
        highest = flat.max(axis=0)
        self.channels = highest if not self.channels.size else np.maximum(self.channels, highest)
        largest = float(highest.max())
        self.largest = max(self.largest, largest)
        if self.limit == 0.0:
            self.limit = largest or 1.0
        while largest > self.limit:  # bins twice as wide: two old ones make a new one
            self.counts = np.concatenate([self.counts.reshape(-1, 2).sum(axis=1), np.zeros(BINS // 2)])
            self.limit *= 2
        self.counts += np.histogram(flat, BINS, (0.0, self.limit))[0]

    def percentile(self, percent: float = PERCENTILE) -> float:
        """The magnitude that `percent` of the values stay below, to the width of a bin."""
        total = np.cumsum(self.counts)
        place = int(np.searchsorted(total, total[-1] * percent / 100))
        return (place + 1) * self.limit / BINS

    def entropy(self) -> float:
        """The clip at which 128 levels lose least of the distribution.

        Divergence from the clipped histogram to the same in 128 levels, over all clips at multiples of 16 bins
        (Migacz, "8-bit inference with TensorRT", GTC 2017).
        """
        used = int(np.flatnonzero(self.counts)[-1]) + 1 if self.counts.any() else BINS
        clips = range(LEVELS, max(used, LEVELS) + 1, 16)
        losses = [_loss(self.counts, bins) for bins in clips]
        return clips[int(np.argmin(losses))] * self.limit / BINS


def _loss(counts: Float64, bins: int) -> float:
    """Divergence, in nats, of `bins` bins in 128 levels from the histogram that is clipped there."""
    inside = counts[:bins]
    clipped = inside.copy()
    clipped[-1] += counts[bins:].sum()
    edges = np.linspace(0, bins, LEVELS + 1).astype(int)[:-1]
    level = np.searchsorted(edges, np.arange(bins), side="right") - 1
    filled = inside > 0
    sums = np.bincount(level, inside, LEVELS)
    sizes = np.bincount(level, filled, LEVELS)
    shared = np.where(filled, (sums / np.maximum(sizes, 1))[level], 0.0)
    p, q = clipped / max(clipped.sum(), 1), shared / max(shared.sum(), 1)
    some = p > 0
    return float((p[some] * np.log(p[some] / np.maximum(q[some], 1e-12))).sum())
