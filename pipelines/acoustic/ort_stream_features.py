"""A streaming CTC model of features in ONNX Runtime, as toolkits export it: windows and caches to frames and caches.

The samples of a stream become feature frames as they come. A step takes a window of them, which may begin before its
chunk and end behind it; the next window starts one chunk later. Steps of streams that wait together run in one batch
where the file has a batch axis everywhere, else one after the other.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.acoustic.card_check import feature_shift
from pipelines.acoustic.chunks import DTYPES, check_chunks
from pipelines.acoustic.front import SHIFT_SAMPLES, Features, FeatureStream
from pipelines.contracts import SAMPLE_RATE, AudioBatch, CtcVocabulary, Float32, Kernels, LogProbs
from pipelines.errors import AmiraError
from pipelines.models.model_card import CtcCard, FeaturesCard, MadeCard, StreamingCard

Array = npt.NDArray[Any]


class FeatureStreamState:
    """Implements `pipelines.contracts.StreamState`."""

    def __init__(self, owner: OrtFeatureStreaming, features: FeatureStream, tensors: list[Array]) -> None:
        self.owner, self.features, self.tensors = owner, features, tensors
        self.steps = 0
        self.heard = 0
        """Samples."""
        self.given = 0
        """Frames."""
        self.ended = False
        """Whether it has had its last chunk."""

    def close(self) -> None:
        """Forget everything."""
        self.ended = True
        self.tensors = []


class OrtFeatureStreaming:
    """Implements `pipelines.contracts.StreamingAcousticModel`, and `AcousticModel` by streaming whole clips.

    A stream has a frame for every `shift_samples` of its audio, the last one begun and not complete. Behind its end the
    model hears silence.

    Args:
        card: The card, with the name of each state.
        streaming: Its section.
        features: Its section.
        vocabulary: The labels.
        session: Of the model's file.
        head: Of the second file, or `None`.
        kernels: Make the features.
    """

    def __init__(
        self,
        card: CtcCard,
        streaming: StreamingCard,
        features: FeaturesCard,
        vocabulary: CtcVocabulary,
        session: Any,
        head: Any,
        kernels: Kernels,
    ) -> None:
        self.vocabulary: CtcVocabulary = vocabulary
        self.shift_samples = card.output.shift_samples
        self.frame_shift_s = self.shift_samples / SAMPLE_RATE
        self.chunk_frames = streaming.chunk_frames
        self.chunk_samples = self.chunk_frames * self.shift_samples
        self._card, self._streaming, self._session, self._head, self._kernels = card, streaming, session, head, kernels
        self._front = Features(features, kernels)
        assert streaming.window_frames is not None
        self._window, self._shift = streaming.window_frames, feature_shift(card, streaming)
        ahead = SHIFT_SAMPLES * (self._window - streaming.history_frames - 1) + self._front.reach
        self.lookahead_samples = max(ahead - self.chunk_samples, 0)
        self._inputs = {each.name: each for each in session.get_inputs()}
        numbers: tuple[MadeCard, ...] = (*streaming.constants, *streaming.counters)
        self._batched = all(state.batch_axis >= 0 for state in streaming.states) and all(
            len(self._inputs[each.input].shape) == 1 for each in numbers
        )
        self._outputs = [card.output.name, *(state.output for state in streaming.states)]

    def warm_up(self) -> None:
        """Run a few chunks of silence."""
        state = self.open()
        silence = AudioBatch(np.zeros((1, self.chunk_samples), np.float32), np.array([self.chunk_samples]))
        for _ in range(3):
            self.infer_chunk([state], silence)
        self.infer_chunk([state], AudioBatch(silence.samples[:, :0], np.array([0])))

    def open(self) -> FeatureStreamState:
        """The state of a new stream."""
        tensors = []
        for state in self._streaming.states:
            given = self._inputs[state.input]
            sizes = state.shape or given.shape
            shape = [1 if axis == state.batch_axis else size for axis, size in enumerate(sizes)]
            tensors.append(np.full(shape, state.start, DTYPES[given.type]))
        return FeatureStreamState(self, FeatureStream(self._front, self._streaming.history_frames), tensors)

    def infer_chunk(self, states: Sequence[FeatureStreamState], chunks: AudioBatch) -> LogProbs:
        """See `pipelines.contracts.StreamingAcousticModel.infer_chunk`."""
        check_chunks(self, self.chunk_samples, states, chunks)
        for state, samples, length in zip(states, chunks.samples, chunks.lengths.tolist(), strict=True):
            state.heard += length
            state.features.push(samples[:length])
            if length < self.chunk_samples:
                state.ended = True
                self._silence(state)
        found: list[list[Float32]] = [[] for _ in states]
        while ready := [row for row, state in enumerate(states) if self._ready(state)]:
            for rows in self._together([states[row] for row in ready]):
                values = self._step([states[ready[row]] for row in rows])
                for row, frames in zip(rows, values, strict=True):
                    found[ready[row]].append(frames)
        return self._gathered(states, found)

    def infer(self, batch: AudioBatch) -> LogProbs:
        """Whole clips, streamed side by side; see `pipelines.contracts.AcousticModel.infer`."""
        states = [self.open() for _ in batch.lengths]
        parts: list[list[Float32]] = [[] for _ in states]
        for start in range(0, int(batch.lengths.max(initial=0)) + 1, self.chunk_samples):
            rows = [row for row, state in enumerate(states) if not state.ended]
            lengths = np.clip(batch.lengths[rows] - start, 0, self.chunk_samples)
            chunk = batch.samples[rows, start : start + self.chunk_samples]
            said = self.infer_chunk([states[row] for row in rows], AudioBatch(chunk, lengths))
            for row, values, count in zip(rows, said.values, said.lengths, strict=True):
                parts[row].append(values[:count])
        frames = np.array([sum(map(len, part)) for part in parts], np.int64)
        values = np.zeros((len(states), int(frames.max(initial=0)), len(self.vocabulary)), np.float32)
        for row, part in enumerate(parts):
            values[row, : frames[row]] = np.concatenate(part)
        return LogProbs(values, frames)

    def close(self) -> None:
        """Nothing is held between calls."""

    def _silence(self, state: FeatureStreamState) -> None:
        """What a stream is followed by: enough for all of its frames."""
        steps = -(-self._frames(state) // self.chunk_frames)
        needed = SHIFT_SAMPLES * ((steps - 1) * self._shift + self._window - self._streaming.history_frames - 1)
        needed += self._front.reach
        if steps and needed > state.heard:
            state.features.push(np.zeros(needed - state.heard, np.float32))

    def _frames(self, state: FeatureStreamState) -> int:
        """The frames of all that a stream has said so far."""
        return -(-state.heard // self.shift_samples)

    def _ready(self, state: FeatureStreamState) -> bool:
        done = state.ended and state.steps * self.chunk_frames >= self._frames(state)
        return len(state.features.frames) >= self._window and not done

    def _together(self, states: Sequence[FeatureStreamState]) -> list[list[int]]:
        """Which of them run in one step: all whose tensors have the same shapes."""
        if not self._batched:
            return [[row] for row in range(len(states))]
        groups: dict[tuple[Any, ...], list[int]] = defaultdict(list)
        for row, state in enumerate(states):
            groups[tuple(array.shape for array in state.tensors)].append(row)
        return list(groups.values())

    def _step(self, states: Sequence[FeatureStreamState]) -> Float32:
        """Move streams on by one chunk; returns float32 (streams, chunk frames, labels)."""
        windows = np.stack([state.features.frames[: self._window] for state in states])
        if self._card.features and self._card.features.channels_first:
            windows = np.ascontiguousarray(windows.transpose(0, 2, 1))
        cards = self._streaming.states
        tensors = [state.tensors for state in states]
        feeds = {self._card.input.name: windows, **self._made(states)}
        for index, card in enumerate(cards):
            parts = [own[index] for own in tensors]
            feeds[card.input] = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=card.batch_axis)
        values, *after = self._session.run(self._outputs, feeds)
        if self._head is not None and self._card.head is not None:
            [values] = self._head.run([self._card.head.output], {self._card.head.input: values})
        self._check_output(values)
        for row, state in enumerate(states):
            state.tensors = [
                part if len(states) == 1 else np.ascontiguousarray(np.take(part, [row], axis=card.batch_axis))
                for card, part in zip(cards, after, strict=True)
            ]
            state.features.drop(self._shift)
            state.steps += 1
        return self._normalised(values)

    def _made(self, states: Sequence[FeatureStreamState]) -> dict[str, Array]:
        """The inputs that are made anew for each step."""
        streaming = self._streaming
        steps = np.array([state.steps for state in states])
        feeds: dict[str, Array] = {}
        if self._card.input.lengths is not None:
            feeds[self._card.input.lengths] = np.full(len(states), self._window)
        for constant in streaming.constants:
            feeds[constant.input] = np.full(len(states), constant.value)
        for counter in streaming.counters:
            each = self.chunk_frames if counter.step is None else counter.step
            feeds[counter.input] = counter.start + each * steps
        for name, value in feeds.items():
            shape = value.shape if self._inputs[name].shape else ()
            feeds[name] = value.reshape(shape).astype(DTYPES[self._inputs[name].type])
        for mask in streaming.masks:
            real = np.minimum(steps * self.chunk_frames, mask.cached_frames)[:, None]
            places = np.arange(mask.cached_frames + self.chunk_frames)[None]
            feeds[mask.input] = (places >= mask.cached_frames - real)[:, None]
        return feeds

    def _check_output(self, values: Float32) -> None:
        if values.shape[1:] != (self.chunk_frames, len(self.vocabulary)):
            raise AmiraError(
                f"model '{self._card.name}' gives {values.shape[1]} frames of {values.shape[2]} labels for a chunk, "
                f"its card has chunk_frames = {self.chunk_frames} and {len(self.vocabulary)} labels in "
                f"{self._card.vocabulary.file}. Mend the card"
            )

    def _normalised(self, values: Float32) -> Float32:
        if self._card.output.kind == "logits":
            flat = np.ascontiguousarray(values).reshape(-1, values.shape[2])
            self._kernels.log_softmax(flat, flat)
            values = flat.reshape(values.shape)
        return values

    def _gathered(self, states: Sequence[FeatureStreamState], found: list[list[Float32]]) -> LogProbs:
        lengths = np.array([sum(map(len, parts)) for parts in found], np.int64)
        for row, state in enumerate(states):
            if state.ended:  # not the frames of the silence behind the end
                lengths[row] = min(lengths[row], self._frames(state) - state.given)
            state.given += int(lengths[row])
        values = np.zeros((len(states), int(lengths.max(initial=0)), len(self.vocabulary)), np.float32)
        for row, parts in enumerate(found):
            if lengths[row]:
                values[row, : lengths[row]] = np.concatenate(parts)[: lengths[row]]
        return LogProbs(values, lengths)
