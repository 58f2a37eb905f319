"""The `vad` axis: whether there is speech, chunk by chunk, for many streams at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from pipelines.audio import vad
from pipelines.contracts import Float32
from pipelines.registry import Context, Variant

Int16 = npt.NDArray[np.int16]


class SpeechDetector(Protocol):
    """Judges chunks of many streams; the state of each stream is in an object of its own."""

    chunk_samples: int

    def open(self) -> Any:
        """The state of a new stream."""
        ...

    def probabilities(self, states: Sequence[Any], chunks: Int16) -> Float32:
        """The probability of speech in one chunk of each stream; the states move on.

        Args:
            states: The streams, none of them twice.
            chunks: int16 (streams, chunk_samples).

        Returns:
            float32 (streams,) in [0, 1].
        """
        ...


class _State:
    __slots__ = ("hidden", "memory")

    def __init__(self, width: int) -> None:
        self.hidden = np.zeros(width, np.float32)
        self.memory = np.zeros(width, np.float32)


class StreamingSilero:
    """The network of `pipelines.audio.vad`, a chunk at a time: the same numbers, with the streams as the batch."""

    chunk_samples = vad.CHUNK_SAMPLES

    def __init__(self, weights: vad.VadWeights) -> None:
        self._weights = weights
        self._width = weights.state_map.shape[0]

    def open(self) -> _State:
        """See `SpeechDetector`."""
        return _State(self._width)

    def probabilities(self, states: Sequence[_State], chunks: Int16) -> Float32:
        """See `SpeechDetector`."""
        weights, width = self._weights, self._width
        samples = np.multiply(chunks, np.float32(1 / 32_767), dtype=np.float32)
        gates = vad.features(weights, vad.mirrored(samples))
        gates += np.stack([state.hidden for state in states]) @ weights.state_map
        squashed = vad.sigmoid(gates)
        memory = squashed[:, width : 2 * width] * np.stack([state.memory for state in states])
        memory += squashed[:, :width] * np.tanh(gates[:, 2 * width : 3 * width])
        hidden = squashed[:, 3 * width :] * np.tanh(memory)
        for state, own_hidden, own_memory in zip(states, hidden, memory, strict=True):
            state.hidden, state.memory = own_hidden.copy(), own_memory.copy()  # not a view of the whole batch
        return vad.sigmoid(np.maximum(hidden, 0.0) @ weights.output + weights.output_bias)


class EverythingIsSpeech:
    """No detector: segments end where their client or their length limit ends them."""

    chunk_samples = 1_600

    def open(self) -> None:
        """See `SpeechDetector`."""

    def probabilities(self, states: Sequence[None], chunks: Int16) -> Float32:
        """See `SpeechDetector`."""
        return np.ones(len(states), np.float32)


class SileroVad(Variant):
    """`vad/silero`."""

    id = "vad/silero"
    summary = "Silero's network in NumPy, all streams in one batch, 32 ms at a time"

    @classmethod
    @contextmanager
    def _open_impl(cls, context: Context, options: Any) -> Iterator[SpeechDetector]:
        yield StreamingSilero(vad.load_weights())


class NoVad(Variant):
    """`vad/none`."""

    id = "vad/none"
    summary = "takes everything for speech: no pause ends a segment"

    @classmethod
    @contextmanager
    def _open_impl(cls, context: Context, options: Any) -> Iterator[SpeechDetector]:
        yield EverythingIsSpeech()
