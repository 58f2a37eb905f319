"""A streaming CTC model in ONNX Runtime: chunks and states in, log-probabilities and states out, as its card says.

Every array of a step is there before the step: a stream owns its states, the model owns a second set that the step
writes, and afterwards the two change places. One stream alone is bound as it is; several are copied into one batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.acoustic.chunks import DTYPES
from pipelines.acoustic.sessions import bind_input, bind_output
from pipelines.acoustic.waveform_stream import WaveformState, WaveformStreaming
from pipelines.contracts import CtcVocabulary, Float32
from pipelines.models.model_card import CtcCard, StreamingCard

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class StateTensor:
    """One of a stream's tensors: the names that it goes in and out by, and what it is."""

    input: str
    output: str
    batch_axis: int
    shape: tuple[int, ...]
    """Of one stream; 1 on the batch axis."""
    dtype: type[np.generic]

    def batched(self, streams: int) -> tuple[int, ...]:
        """The shape of several streams' tensors in one."""
        return (*self.shape[: self.batch_axis], streams, *self.shape[self.batch_axis + 1 :])

    def row(self, array: Array, index: int) -> Array:
        """One stream's part of a batch, with its batch axis kept."""
        return array[(slice(None),) * self.batch_axis + (slice(index, index + 1),)]


class OrtStreamState(WaveformState):
    """A stream's tensors."""

    def __init__(self, owner: OrtStreaming, tensors: list[Array]) -> None:
        super().__init__(owner)
        self.tensors = tensors

    def close(self) -> None:
        """Forget everything."""
        super().close()
        self.tensors = []


class _Scratch:
    """Arrays that live from call to call: each name has one piece of memory, which grows and never shrinks."""

    def __init__(self) -> None:
        self._flat: dict[str, Array] = {}

    def array(self, name: str, shape: tuple[int, ...], dtype: type[np.generic]) -> Array:
        """An array of that shape over the name's memory."""
        size = math.prod(shape)
        flat = self._flat.get(name)
        if flat is None or flat.size < size:
            flat = self._flat[name] = np.zeros(size, dtype)
        return flat[:size].reshape(shape)


class OrtStreaming(WaveformStreaming[OrtStreamState]):
    """A streaming model in the process."""

    def __init__(
        self, card: CtcCard, streaming: StreamingCard, vocabulary: CtcVocabulary, session: Any, chunk_frames: int
    ) -> None:
        super().__init__(card, streaming, vocabulary, chunk_frames)
        self.session = session
        self.state_tensors = state_tensors(streaming, session)
        self._binding = session.io_binding()
        self._scratch = _Scratch()
        self._spare = self._zero_states()
        """Where the step of a single stream writes; it becomes the stream's own, and the stream's old one this."""

    def open(self) -> OrtStreamState:
        """The state of a new stream."""
        return OrtStreamState(self, self._zero_states())

    def close(self) -> None:
        """Drop what is kept from call to call."""
        self._scratch = _Scratch()
        self._spare = []

    def _zero_states(self) -> list[Array]:
        return [np.zeros(state.shape, state.dtype) for state in self.state_tensors]

    def _step(self, states: Sequence[OrtStreamState], samples: Float32, length: int) -> Float32:
        streams, frames = len(states), -(-length // self.shift_samples)
        given = self._scratch.array("samples", (streams, frames * self.shift_samples), np.float32)
        given[:, :length] = samples[:, :length]
        given[:, length:] = 0
        log_probs = self._scratch.array("log_probs", (streams, frames, len(self.vocabulary)), np.float32)
        bind_input(self._binding, self.card.input.name, given)
        bind_output(self._binding, self.card.output.name, log_probs)
        if streams == 1:
            self._run(states[0].tensors, self._spare)
            states[0].tensors, self._spare = self._spare, states[0].tensors
        else:
            self._run_together(states)
        return log_probs

    def _run_together(self, states: Sequence[OrtStreamState]) -> None:
        before, after = (
            [
                self._scratch.array(f"{side} {state.input}", state.batched(len(states)), state.dtype)
                for state in self.state_tensors
            ]
            for side in ("before", "after")
        )
        for index, stream in enumerate(states):
            for spec, batch, own in zip(self.state_tensors, before, stream.tensors, strict=True):
                spec.row(batch, index)[:] = own
        self._run(before, after)
        for index, stream in enumerate(states):
            for spec, batch, own in zip(self.state_tensors, after, stream.tensors, strict=True):
                own[:] = spec.row(batch, index)

    def _run(self, before: list[Array], after: list[Array]) -> None:
        for spec, given, made in zip(self.state_tensors, before, after, strict=True):
            bind_input(self._binding, spec.input, given)
            bind_output(self._binding, spec.output, made)
        self.session.run_with_iobinding(self._binding)


def state_tensors(streaming: StreamingCard, session: Any) -> list[StateTensor]:
    """The states of a checked card as the ONNX file has them."""
    inputs = {each.name: each for each in session.get_inputs()}
    found = []
    for state in streaming.states:
        given = inputs[state.input]
        shape = tuple(1 if axis == state.batch_axis else size for axis, size in enumerate(given.shape))
        found.append(StateTensor(state.input, state.output, state.batch_axis, shape, DTYPES[given.type]))
    return found
