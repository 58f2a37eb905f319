"""The network of `pipelines.audio.vad` as one compiled loop over many chunks of many streams.

All layers but the recurrent cell look at one chunk alone, so they are products over chunks; the cell goes chunk by
chunk, for all streams at once. Frames lie between rows of zeros, so that a convolution is a product over rows that
overlap.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kernels.compile import Loop, compile_loop
from kernels.dense import PANEL, packed
from pipelines.audio.vad import CHUNK_SAMPLES, HOP, PAD, WINDOW, VadWeights
from pipelines.contracts import Float32

BINS = 144
"""Columns of a spectrum: the network's 129 and zeros, whole vectors."""
FRAMES = (CHUNK_SAMPLES + 2 * PAD - WINDOW) // HOP + 1
"""Of a chunk's spectrum."""
CELL = 128
"""Width of the recurrent cell."""
BLOCK_CHUNKS = 16
"""Chunks that go through the layers together: what is between the layers stays in L2."""
F = np.float32
_SCALE = F(1 / 32_767)
_WAVE = CHUNK_SAMPLES + 2 * PAD
_PITCHES = (_WAVE, FRAMES * 2 * BINS, (FRAMES + 2) * BINS, (FRAMES + 2) * 128, 4 * 64, 64, 128)
"""Floats of a chunk before each layer and behind the last: samples, both parts of the spectrum, its size, and what the
four convolutions say."""
SCRATCH = BLOCK_CHUNKS * sum(_PITCHES)
"""Floats that the loop needs beside those of a stream; zero at first."""


@dataclass(frozen=True, slots=True)
class Panels:
    """The network's matrices as panels (`kernels.dense.packed`), one behind the other, and its biases."""

    weights: Float32
    bias: Float32

    @classmethod
    def of(cls, weights: VadWeights) -> Panels:
        """Lay a network down."""
        bins = weights.basis.shape[1] // 2
        room = ((0, 0), (0, BINS - bins))
        basis = np.concatenate([np.pad(weights.basis[:, :bins], room), np.pad(weights.basis[:, bins:], room)], axis=1)
        (first, *biases1), second, third, (last, *biases4) = weights.convolutions
        taps = np.pad(first.reshape(3, bins, -1), ((0, 0), (0, BINS - bins), (0, 0))).reshape(3 * BINS, -1)
        middle = last.reshape(3, -1, last.shape[1])[1]  # of the last one's three frames two are padding
        products = [
            (basis, np.zeros(2 * BINS, np.float32)), (taps, *biases1), second, third, (middle, *biases4),
            (weights.input_map, weights.gate_bias), (weights.state_map, np.zeros(4 * CELL, np.float32)),
        ]  # fmt: skip
        panels, offsets = zip(*((packed(matrix), bias) for matrix, bias in products), strict=True)
        return cls(np.concatenate(panels), np.concatenate([*offsets, np.zeros(PANEL, np.float32)]))


def vad_loop(lanes: int) -> Loop:
    """`(samples, counts, weights, bias, output, output_bias, hidden, memory, whole, scratch, gates, probabilities)`.

    samples: int16 (chunks * CHUNK_SAMPLES,): the chunks of the first stream, then those of the next.
    counts: int64 (streams,): how many each stream has.
    weights, bias: of `Panels`; output, output_bias: of `VadWeights`.
    hidden, memory: float32 (streams * CELL,): the cells, which move on.
    whole: int32 zeros, as many as `bias` has.
    scratch: float32, `SCRATCH` and streams * 4 * CELL behind it; gates: float32 (chunks * 4 * CELL,).
    probabilities: float32 (chunks,).
    """
    from kernels import simd, simd_dense

    chunk, pad, hop, window, wave, frames, bins, cell, together, scale = (
        CHUNK_SAMPLES, PAD, HOP, WINDOW, _WAVE, FRAMES, BINS, CELL, BLOCK_CHUNKS, _SCALE,
    )  # fmt: skip
    starts = tuple(BLOCK_CHUNKS * sum(_PITCHES[:k]) for k in range(len(_PITCHES) + 1))
    waves, spectra, sizes, first, second, third, fourth, cells = starts

    @simd.shared
    def heard(samples, at, x, to, lanes):  # type: ignore[no-untyped-def]
        """A chunk with both ends mirrored."""
        simd.target(lanes)
        for i in range(pad):
            simd.put(x, to + i, F(simd.at(samples, at + pad - i)) * scale)
            simd.put(x, to + pad + chunk + i, F(simd.at(samples, at + chunk - 2 - i)) * scale)
        factor = simd.splat(scale, lanes)
        for i in range(0, chunk, lanes):
            simd.store(x, to + pad + i, simd.mul(simd.to_float(simd.load(samples, at + i, lanes)), factor))

    @simd.shared
    def rectified(x, start, count, lanes):  # type: ignore[no-untyped-def]
        simd.target(lanes)
        nothing = simd.splat(F(0), lanes)
        for i in range(start, start + count, lanes):
            simd.store(x, i, simd.larger(simd.load(x, i, lanes), nothing))

    @simd.inlined
    def summed(x, at, y, other, lanes):  # type: ignore[no-untyped-def]
        simd.target(lanes)
        return simd.add(simd.load(x, at, lanes), simd.load(y, other, lanes))

    @compile_loop(
        "int64(int16[::1], int64[::1], float32[::1], float32[::1], float32[::1], float32, float32[::1], float32[::1], "
        "int32[::1], float32[::1], float32[::1], float32[::1])"
    )
    def loop(  # type: ignore[no-untyped-def]
        samples, counts, weights, bias, output, output_bias, hidden, memory, whole, scratch, gates, probabilities
    ):
        simd.target(lanes)
        chunks, streams = samples.size // chunk, counts.size
        if scratch.size < cells + streams * 4 * cell or gates.size < chunks * 4 * cell or probabilities.size < chunks:
            return -1
        most = given = 0
        for stream in range(streams):
            most, given = max(most, counts[stream]), given + counts[stream]
        if hidden.size < streams * cell or memory.size < streams * cell or given != chunks:
            return -2
        for block in range(0, chunks, together):
            some = min(together, chunks - block)
            for k in range(some):
                heard(samples, (block + k) * chunk, scratch, waves + k * wave, lanes)
            at = column = 0
            simd_dense.multiply_windows(
                scratch, waves, wave, hop, some, frames, window, weights, at, window * 32,
                scratch, spectra, frames * 2 * bins, 2 * bins, 2 * bins, bias, whole, bias, column, False, lanes,
            )  # fmt: skip
            at += window * 2 * bins
            column += 2 * bins
            for k in range(some):
                for frame in range(frames):
                    parts = spectra + (k * frames + frame) * 2 * bins
                    to = sizes + (k * (frames + 2) + frame + 1) * bins
                    for i in range(0, bins, lanes):
                        real = simd.load(scratch, parts + i, lanes)
                        imaginary = simd.load(scratch, parts + bins + i, lanes)
                        power = simd.fma(real, real, simd.mul(imaginary, imaginary))
                        simd.store(scratch, to + i, simd.sqrt(power))
            simd_dense.multiply_windows(
                scratch, sizes, (frames + 2) * bins, bins, some, frames, 3 * bins, weights, at, 3 * bins * 32,
                scratch, first + 128, (frames + 2) * 128, 128, 128, bias, whole, bias, column, False, lanes,
            )  # fmt: skip
            at += 3 * bins * 128
            column += 128
            for k in range(some):
                rectified(scratch, first + (k * (frames + 2) + 1) * 128, frames * 128, lanes)
            simd_dense.multiply_windows(
                scratch, first, (frames + 2) * 128, 2 * 128, some, frames // 2, 3 * 128, weights, at, 3 * 128 * 32,
                scratch, second + 64, 4 * 64, 64, 64, bias, whole, bias, column, False, lanes,
            )  # fmt: skip
            at += 3 * 128 * 64
            column += 64
            for k in range(some):
                rectified(scratch, second + (k * 4 + 1) * 64, 2 * 64, lanes)
            simd_dense.multiply(
                scratch, second, 4 * 64, some, 3 * 64, weights, at, 3 * 64 * 32,
                scratch, third, 64, 64, bias, whole, bias, column, False, lanes,
            )  # fmt: skip
            at += 3 * 64 * 64
            column += 64
            rectified(scratch, third, some * 64, lanes)
            simd_dense.multiply(
                scratch, third, 64, some, 64, weights, at, 64 * 32,
                scratch, fourth, 128, 128, bias, whole, bias, column, False, lanes,
            )  # fmt: skip
            at += 64 * 128
            column += 128
            rectified(scratch, fourth, some * 128, lanes)
            simd_dense.multiply(
                scratch, fourth, 128, some, 128, weights, at, 128 * 32,
                gates, block * 4 * cell, 4 * cell, 4 * cell, bias, whole, bias, column, False, lanes,
            )  # fmt: skip
        at = weights.size - cell * 4 * cell
        column = bias.size - 32 - 4 * cell
        for turn in range(most):
            simd_dense.multiply(
                hidden, 0, cell, streams, cell, weights, at, cell * 32,
                scratch, cells, 4 * cell, 4 * cell, bias, whole, bias, column, False, lanes,
            )  # fmt: skip
            before = 0
            for stream in range(streams):
                place = before + turn
                before += counts[stream]
                if turn >= counts[stream]:
                    continue
                own, layers, row = cells + stream * 4 * cell, place * 4 * cell, stream * cell
                logit = simd.splat(F(0), lanes)
                for i in range(0, cell, lanes):
                    taken = summed(scratch, own + i, gates, layers + i, lanes)
                    kept = summed(scratch, own + cell + i, gates, layers + cell + i, lanes)
                    new = summed(scratch, own + 2 * cell + i, gates, layers + 2 * cell + i, lanes)
                    shown = summed(scratch, own + 3 * cell + i, gates, layers + 3 * cell + i, lanes)
                    kept = simd.mul(simd_dense.sigmoid(kept, lanes), simd.load(memory, row + i, lanes))
                    now = simd.fma(simd_dense.sigmoid(taken, lanes), simd_dense.tanh_of(new, lanes), kept)
                    simd.store(memory, row + i, now)
                    now = simd.mul(simd_dense.sigmoid(shown, lanes), simd_dense.tanh_of(now, lanes))
                    simd.store(hidden, row + i, now)
                    now = simd.larger(now, simd.splat(F(0), lanes))
                    logit = simd.fma(now, simd.load(output, i, lanes), logit)
                total = simd.total(logit) + output_bias
                probabilities[place] = F(1) / (F(1) + np.exp(-total))
        return 0

    return loop
