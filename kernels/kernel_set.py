"""The operations of one implementation behind the functions that pipelines call.

A compiled loop checks its arrays itself, in machine code, and says with a negative number that it did not take them;
only then does Python look why. The one thing that is asked here is the number of dimensions: numba believes it, and
would write beyond its own structure. Every error is a ValueError that names the argument.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from kernels import direct, dispatch
from kernels.dispatch import TABLE, Implementation, Operation
from kernels.pcm import as_bytes
from kernels.stream_calls import LANES, GreedyReader, RingWriter, mel_writer

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]


class KernelSet:
    """Every operation of one implementation; making one compiles it or loads it from the cache.

    Args:
        implementation: Its name; where left out, the best for this CPU or what `AMIRA_KERNEL` says.
    """

    def __init__(self, implementation: Implementation | None = None) -> None:
        self.implementation = implementation if implementation is not None else dispatch.choose()
        self.loops = dispatch.load(self.implementation)
        self._pcm16 = self.loops["pcm16"].call
        self._pcm16_ring = self.loops["pcm16_ring"].call
        self._mulaw = self.loops["mulaw"].call
        self._alaw = self.loops["alaw"].call
        self._argmax = self.loops["argmax"].call
        self._ctc_greedy = self.loops["ctc_greedy"].call
        self._transpose = self.loops["transpose"].call
        self._log_softmax = self.loops["log_softmax"].call
        self._top_k = self.loops["top_k"].call
        self._log_mel = self.loops["log_mel"].call
        lanes = LANES.get(self.implementation)
        if lanes is not None:  # what is called with a row or a chunk, and whose call would cost more than its work
            direct.prepare(lanes)
            self.pcm16_to_float32 = direct.pcm16(lanes, self.pcm16_to_float32)  # type: ignore[method-assign]
            self.argmax = direct.argmax(lanes, self.argmax)  # type: ignore[method-assign]

    def pcm16_to_float32(self, pcm: bytes | memoryview, out: Float32) -> None:
        """See `kernels.pcm`."""
        data = pcm if type(pcm) is bytes else as_bytes(pcm)
        try:
            if out.ndim == 1 and self._pcm16(data, out) >= 0:
                return
        except (TypeError, ValueError):
            pass
        _refuse("pcm16", data, out)

    def pcm16_into_ring(self, pcm: bytes | memoryview, ring: Float32, position: int) -> int:
        """See `kernels.pcm_ring`; returns the position after what was written."""
        data = pcm if type(pcm) is bytes else as_bytes(pcm)
        try:
            if ring.ndim == 1:
                after = self._pcm16_ring(data, ring, position)
                if after >= 0:
                    return after
        except (TypeError, ValueError):
            pass
        return _refuse("pcm16_ring", data, ring, position)

    def mulaw_to_float32(self, codes: bytes | memoryview, out: Float32) -> None:
        """See `kernels.g711`."""
        data = codes if type(codes) is bytes else as_bytes(codes)
        try:
            if out.ndim == 1 and self._mulaw(data, out) >= 0:
                return
        except (TypeError, ValueError):
            pass
        _refuse("mulaw", data, out)

    def alaw_to_float32(self, codes: bytes | memoryview, out: Float32) -> None:
        """See `kernels.g711`."""
        data = codes if type(codes) is bytes else as_bytes(codes)
        try:
            if out.ndim == 1 and self._alaw(data, out) >= 0:
                return
        except (TypeError, ValueError):
            pass
        _refuse("alaw", data, out)

    def argmax(self, x: Float32, out: Int64) -> None:
        """See `kernels.argmax`."""
        try:
            if x.ndim == 2 and out.ndim == 1 and self._argmax(x, out) >= 0:
                return
        except (TypeError, ValueError):
            pass
        _refuse("argmax", x, out)

    def ctc_greedy(
        self, log_probs: Float32, blank: int, carry: Int64, tokens: Int64, confidences: Float32, frames: Int64
    ) -> int:
        """See `kernels.ctc_greedy`; returns how many tokens were found."""
        try:
            if log_probs.ndim == frames.ndim == 2 and carry.ndim == tokens.ndim == confidences.ndim == 1:
                found = self._ctc_greedy(log_probs, blank, carry, tokens, confidences, frames)
                if found >= 0:
                    return found
        except (TypeError, ValueError):
            pass
        return _refuse("ctc_greedy", log_probs, blank, carry, tokens, confidences, frames)

    def ring_writer(self, ring: Float32) -> RingWriter:
        """`pcm16_into_ring` for a stream; see `kernels.stream_calls`."""
        return RingWriter(self, ring)

    def greedy_reader(self, blank: int, capacity: int) -> GreedyReader:
        """`ctc_greedy` for a stream of chunks of up to `capacity` frames; see `kernels.stream_calls`."""
        return GreedyReader(self, blank, capacity)

    def mel_writer(
        self, weights: Float32, starts: Int64, ends: Int64, guard: float, floor: float
    ) -> Callable[[Float32, Float32], int]:
        """`log_mel` for a filter bank, of power spectra and `out`; see `kernels.stream_calls`."""
        return mel_writer(self, weights, starts, ends, guard, floor)

    def transpose(self, x: Float32, out: Float32) -> None:
        """See `kernels.transpose`."""
        try:
            if x.ndim == 3 and out.ndim == 3 and self._transpose(x, out) >= 0:
                return
        except (TypeError, ValueError):
            pass
        _refuse("transpose", x, out)

    def log_softmax(self, x: Float32, out: Float32) -> None:
        """See `kernels.log_softmax`."""
        try:
            if x.ndim == 2 and out.ndim == 2 and self._log_softmax(x, out) >= 0:
                return
        except (TypeError, ValueError):
            pass
        _refuse("log_softmax", x, out)

    def top_k(self, x: Float32, values: Float32, indices: Int64) -> None:
        """See `kernels.top_k`."""
        try:
            if x.ndim == 2 and values.ndim == 2 and indices.ndim == 2 and self._top_k(x, values, indices) >= 0:
                return
        except (TypeError, ValueError):
            pass
        _refuse("top_k", x, values, indices)

    def log_mel(
        self, power: Float32, weights: Float32, starts: Int64, ends: Int64, guard: float, floor: float, out: Float32
    ) -> None:
        """See `kernels.log_mel`; `kernels.features.LogMel` makes the rest of the features around it."""
        try:
            if (
                power.ndim == out.ndim == 2
                and weights.ndim == starts.ndim == ends.ndim == 1
                and self._log_mel(power, weights, starts, ends, guard, floor, out) >= 0
            ):
                return
        except (TypeError, ValueError):
            pass
        _refuse("log_mel", power, weights, starts, ends, guard, floor, out)


def _refuse(operation: Operation, *arguments: Any) -> int:
    """Raise the ValueError that says what is wrong with the arguments."""
    TABLE[operation].refuse(*arguments)
    raise RuntimeError(f"the {operation} kernel did not take arguments that look right; please report it")
