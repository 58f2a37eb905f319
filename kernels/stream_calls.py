"""The kernels of a stream's every chunk, bound to the stream's own arrays: only what is new is an argument.

With `avx2` and `avx512` the calls are `kernels.direct`'s, with other implementations the kernels' own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from kernels import direct
from kernels.dispatch import Implementation

if TYPE_CHECKING:
    from kernels.kernel_set import KernelSet

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

LANES: dict[Implementation, int] = {"avx2": 8, "avx512": 16}


class RingWriter:
    """Writes PCM16 chunks to a ring, one behind the other.

    Attributes:
        ring: float32 (capacity,).
        cursor: int64 (1,): where the next sample goes.
        write: Takes a chunk (`bytes` is the fast way). Errors as `KernelSet.pcm16_into_ring`. It returns nothing:
            making a Python integer of the cursor would be a good part of the call.
    """

    def __init__(self, kernels: KernelSet, ring: Float32) -> None:
        self._kernels = kernels
        self.ring = ring
        self.cursor: Int64 = np.zeros(1, np.int64)
        lanes = LANES.get(kernels.implementation)
        self.write: Callable[[bytes | memoryview], None] = self._write
        if lanes is not None:
            self.write = direct.ring_writer(lanes, ring, self.cursor, self._write)

    def _write(self, pcm: bytes | memoryview) -> None:
        self.cursor[0] = self._kernels.pcm16_into_ring(pcm, self.ring, int(self.cursor[0]))


class GreedyReader:
    """Decodes a stream's log-probabilities greedily, chunk by chunk, into arrays of its own.

    Attributes:
        carry, tokens, confidences, frames: As `kernels.ctc_greedy` has them, for up to `capacity` frames a call.
        score: float64 (1,): the sum of every frame's largest log-probability so far, the score of the best path. A NaN
            anywhere in the frames makes it NaN, plus infinity infinite.
        read: Takes float32 (T, V) and returns how many tokens were found. Errors as `KernelSet.ctc_greedy`.
    """

    def __init__(self, kernels: KernelSet, blank: int, capacity: int) -> None:
        self._kernels, self._blank = kernels, blank
        self.carry: Int64 = np.full(1, blank, np.int64)
        self.tokens: Int64 = np.empty(capacity, np.int64)
        self.confidences: Float32 = np.empty(capacity, np.float32)
        self.frames: Int64 = np.empty((capacity, 2), np.int64)
        self.score: Float64 = np.zeros(1)
        lanes = LANES.get(kernels.implementation)
        outputs = (self.carry, self.tokens, self.confidences, self.frames, self.score)
        self.read: Callable[[Float32], int] = self._read
        if lanes is not None and blank >= 0:
            self.read = direct.greedy_reader(lanes, np.full(1, blank, np.int64), *outputs, self._read)

    def _read(self, log_probs: Float32) -> int:
        found = self._kernels.ctc_greedy(log_probs, self._blank, self.carry, self.tokens, self.confidences, self.frames)
        # One after the other as in the direct call, where `sum` would add in pairs.
        self.score[0] = np.add.accumulate(np.append(self.score, log_probs.max(axis=1)))[-1]
        return found


def mel_writer(
    kernels: KernelSet, weights: Float32, starts: Int64, ends: Int64, guard: float, floor: float
) -> Callable[[Float32, Float32], int]:
    """`KernelSet.log_mel` bound to a filter bank: takes power spectra and `out`, returns the number of frames.

    Raises:
        ValueError: The filter bank is none; errors of a call as `KernelSet.log_mel`.
    """
    weights, starts, ends = weights.copy(), starts.copy(), ends.copy()  # nobody changes what is not looked at again

    def write(power: Float32, out: Float32) -> int:
        kernels.log_mel(power, weights, starts, ends, guard, floor, out)
        return len(out)

    bins = int(ends.max(initial=0))
    write(np.zeros((0, bins), np.float32), np.empty((0, starts.size), np.float32))
    lanes = LANES.get(kernels.implementation)
    if lanes is None:
        return write
    return direct.mel_writer(lanes, weights, starts, ends, np.array([guard, floor], np.float32), write)
