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

from pipelines.acoustic.chunks import DTYPES, check_chunks
from pipelines.acoustic.sessions import bind_input, bind_output
from pipelines.contracts import SAMPLE_RATE, AudioBatch, CtcVocabulary, Float32, LogProbs
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


class OrtStreamState:
    """Implements `pipelines.contracts.StreamState`."""

    def __init__(self, owner: OrtStreaming, tensors: list[Array]) -> None:
        self.owner, self.tensors = owner, tensors
        self.ended = False
        """Whether it has had its last chunk."""

    def close(self) -> None:
        """Forget everything."""
        self.ended = True
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


class OrtStreaming:
    """Implements `pipelines.contracts.StreamingAcousticModel`, and `AcousticModel` by streaming whole clips.

    One call at a time: the arrays of a step are the model's own.
    """

    def __init__(
        self, card: CtcCard, streaming: StreamingCard, vocabulary: CtcVocabulary, session: Any, chunk_frames: int
    ) -> None:
        self.card, self.session = card, session
        self.vocabulary: CtcVocabulary = vocabulary
        self.shift_samples = card.output.shift_samples
        self.frame_shift_s = self.shift_samples / SAMPLE_RATE
        self.chunk_frames = chunk_frames
        self.chunk_samples = chunk_frames * self.shift_samples
        self.lookahead_samples = streaming.lookahead_samples or 0
        self.state_tensors = _state_tensors(streaming, session)
        self._binding = session.io_binding()
        self._scratch = _Scratch()
        self._spare = self._zero_states()
        """Where the step of a single stream writes; it becomes the stream's own, and the stream's old one this."""

    def warm_up(self) -> None:
        """Run a few chunks of silence."""
        state = self.open()
        silence = AudioBatch(np.zeros((1, self.chunk_samples), np.float32), np.array([self.chunk_samples]))
        for _ in range(3):
            self.infer_chunk([state], silence)
        state.close()

    def open(self) -> OrtStreamState:
        """The state of a new stream."""
        return OrtStreamState(self, self._zero_states())

    def infer_chunk(self, states: Sequence[OrtStreamState], chunks: AudioBatch) -> LogProbs:
        """See `pipelines.contracts.StreamingAcousticModel.infer_chunk`."""
        check_chunks(self, self.chunk_samples, states, chunks)
        lengths = chunks.lengths
        frames = -(-lengths // self.shift_samples)
        whole = np.flatnonzero(lengths == self.chunk_samples)
        if len(whole) == len(states):
            return LogProbs(self._step(states, chunks.samples, self.chunk_samples), frames)
        values = np.zeros((len(states), self.chunk_frames, len(self.vocabulary)), np.float32)
        # A stream's last chunk runs alone, in a step of just its own frames: in a longer one its frames would attend
        # to the silence behind the end.
        groups = [whole.tolist(), *([row] for row in np.flatnonzero(lengths < self.chunk_samples).tolist())]
        for rows in groups:
            if rows and frames[rows[0]]:
                length = int(lengths[rows[0]])
                found = self._step([states[row] for row in rows], chunks.samples[rows], length)
                values[rows, : found.shape[1]] = found
        for row in np.flatnonzero(lengths < self.chunk_samples).tolist():
            states[row].ended = True
        return LogProbs(values, frames)

    def infer(self, batch: AudioBatch) -> LogProbs:
        """Whole clips, streamed one after the other; see `pipelines.contracts.AcousticModel.infer`."""
        frames = -(-batch.lengths // self.shift_samples)
        longest = int(frames.max(initial=0))
        values = np.zeros((len(frames), longest, len(self.vocabulary)), np.float32)
        for row, length in enumerate(batch.lengths):
            state = self.open()
            for start in range(0, int(length), self.chunk_samples):
                end = min(start + self.chunk_samples, int(length))
                chunk = AudioBatch(batch.samples[row : row + 1, start:end], np.array([end - start]))
                found = self.infer_chunk([state], chunk)
                first = start // self.shift_samples
                values[row, first : first + int(found.lengths[0])] = found.values[0, : int(found.lengths[0])]
            state.close()
        return LogProbs(values, frames)

    def close(self) -> None:
        """Drop what is kept from call to call."""
        self._scratch = _Scratch()
        self._spare = []

    def _zero_states(self) -> list[Array]:
        return [np.zeros(state.shape, state.dtype) for state in self.state_tensors]

    def _step(self, states: Sequence[OrtStreamState], samples: Float32, length: int) -> Float32:
        """Move streams on by the first `length` samples of each row, zeros behind them up to a whole frame.

        Returns:
            float32 (streams, frames, labels), overwritten by the next step.
        """
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


def _state_tensors(streaming: StreamingCard, session: Any) -> list[StateTensor]:
    """The states of a checked card as the ONNX file has them."""
    inputs = {each.name: each for each in session.get_inputs()}
    found = []
    for state in streaming.states:
        given = inputs[state.input]
        shape = tuple(1 if axis == state.batch_axis else size for axis, size in enumerate(given.shape))
        found.append(StateTensor(state.input, state.output, state.batch_axis, shape, DTYPES[given.type]))
    return found
