"""The `vad` axis: whether there is speech, chunk by chunk, for many streams at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from pipelines.audio import vad
from pipelines.audio.vad_loop import CELL, SCRATCH, Panels, vad_loop
from pipelines.contracts import Float32
from pipelines.registry import Context, Unavailable, Variant
from pipelines.vectors import widest, without_vectors

Int16 = npt.NDArray[np.int16]


class SpeechDetector(Protocol):
    """Judges chunks of many streams; the state of each stream is in an object of its own."""

    chunk_samples: int

    def open(self) -> Any:
        """The state of a new stream."""
        ...

    def probabilities(self, states: Sequence[Any], counts: Sequence[int], chunks: Int16) -> Float32:
        """The probability of speech in the next chunks of each stream; the states move on.

        Args:
            states: The streams, none of them twice.
            counts: How many chunks each has, at least one.
            chunks: int16 (chunks, chunk_samples): those of the first stream, then those of the next.

        Returns:
            float32 (chunks,) in [0, 1].
        """
        ...


class _State:
    __slots__ = ("hidden", "memory")

    def __init__(self, width: int) -> None:
        self.hidden = np.zeros(width, np.float32)
        self.memory = np.zeros(width, np.float32)


class StreamingSilero:
    """The network of `pipelines.audio.vad`, some chunks at a time: the same numbers, with the streams as the batch."""

    chunk_samples = vad.CHUNK_SAMPLES

    def __init__(self, weights: vad.VadWeights) -> None:
        self._weights = weights
        self._width = weights.state_map.shape[0]

    def open(self) -> _State:
        """See `SpeechDetector`."""
        return _State(self._width)

    def probabilities(self, states: Sequence[_State], counts: Sequence[int], chunks: Int16) -> Float32:
        """See `SpeechDetector`."""
        samples = np.multiply(chunks, np.float32(1 / 32_767), dtype=np.float32)
        gates = vad.features(self._weights, vad.mirrored(samples))
        found = np.empty(len(chunks), np.float32)
        first = np.cumsum([0, *counts[:-1]])
        many = np.array(counts)
        for turn in range(max(counts)):
            [among] = np.nonzero(many > turn)
            places = first[among] + turn
            found[places] = self._turn([states[k] for k in among.tolist()], gates[places])
        return found

    def _turn(self, states: Sequence[_State], gates: Float32) -> Float32:
        """One step of the cell of each stream."""
        weights, width = self._weights, self._width
        gates += np.stack([state.hidden for state in states]) @ weights.state_map
        squashed = vad.sigmoid(gates)
        memory = squashed[:, width : 2 * width] * np.stack([state.memory for state in states])
        memory += squashed[:, :width] * np.tanh(gates[:, 2 * width : 3 * width])
        hidden = squashed[:, 3 * width :] * np.tanh(memory)
        for state, own_hidden, own_memory in zip(states, hidden, memory, strict=True):
            state.hidden, state.memory = own_hidden.copy(), own_memory.copy()  # not a view of the whole batch
        return vad.sigmoid(np.maximum(hidden, 0.0) @ weights.output + weights.output_bias)


class CompiledSilero:
    """The same network in one compiled loop (`pipelines.audio.vad_loop`)."""

    chunk_samples = vad.CHUNK_SAMPLES

    def __init__(self, weights: vad.VadWeights, lanes: int) -> None:
        self._weights, self._panels = weights, Panels.of(weights)
        self._loop = vad_loop(lanes).call
        self._whole = np.zeros(len(self._panels.bias), np.int32)
        self._hidden, self._memory = np.zeros((0, CELL), np.float32), np.zeros((0, CELL), np.float32)
        self._scratch = self._gates = self._found = np.zeros(0, np.float32)

    def open(self) -> _State:
        """See `SpeechDetector`."""
        return _State(CELL)

    def probabilities(self, states: Sequence[_State], counts: Sequence[int], chunks: Int16) -> Float32:
        """See `SpeechDetector`."""
        streams, size = len(states), len(chunks)
        if streams > len(self._hidden):
            self._hidden, self._memory = (np.zeros((2 * streams, CELL), np.float32) for _ in range(2))
            self._scratch = np.zeros(SCRATCH + 2 * streams * 4 * CELL, np.float32)
        if size > len(self._found):
            self._gates, self._found = np.zeros(2 * size * 4 * CELL, np.float32), np.zeros(2 * size, np.float32)
        hidden, memory, weights = self._hidden, self._memory, self._weights
        for row, state in enumerate(states):
            hidden[row], memory[row] = state.hidden, state.memory
        done = self._loop(
            chunks.reshape(-1), np.array(counts), self._panels.weights, self._panels.bias, weights.output,
            weights.output_bias, hidden.reshape(-1), memory.reshape(-1), self._whole, self._scratch, self._gates,
            self._found,
        )  # fmt: skip
        if done < 0:
            raise RuntimeError(
                f"the compiled loop of the speech detector refused its arrays ({done}); please report it"
            )
        for row, state in enumerate(states):
            state.hidden[:], state.memory[:] = hidden[row], memory[row]
        return self._found[:size].copy()


class EverythingIsSpeech:
    """No detector: segments end where their client or their length limit ends them."""

    chunk_samples = 1_600

    def open(self) -> None:
        """See `SpeechDetector`."""

    def probabilities(self, states: Sequence[None], counts: Sequence[int], chunks: Int16) -> Float32:
        """See `SpeechDetector`."""
        return np.ones(len(chunks), np.float32)


class SileroVad(Variant):
    """`vad/silero`."""

    id = "vad/silero"
    summary = "Silero's network in NumPy, all streams in one batch"

    @classmethod
    @contextmanager
    def _open_impl(cls, context: Context, options: Any) -> Iterator[SpeechDetector]:
        yield StreamingSilero(vad.load_weights())


class SimdSileroVad(Variant):
    """`vad/silero-simd`."""

    id = "vad/silero-simd"
    summary = "Silero's network in own compiled loops, all streams in one batch; one thread"

    @classmethod
    def available(cls) -> Unavailable | None:
        """Whether the CPU has vectors for it."""
        return without_vectors("vad/silero")

    @classmethod
    @contextmanager
    def _open_impl(cls, context: Context, options: Any) -> Iterator[SpeechDetector]:
        yield CompiledSilero(vad.load_weights(), widest())


class NoVad(Variant):
    """`vad/none`."""

    id = "vad/none"
    summary = "takes everything for speech: no pause ends a segment"

    @classmethod
    @contextmanager
    def _open_impl(cls, context: Context, options: Any) -> Iterator[SpeechDetector]:
        yield EverythingIsSpeech()
