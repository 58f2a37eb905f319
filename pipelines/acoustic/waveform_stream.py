"""What streaming models of the waveform have in common, wherever their steps run: last chunks, whole clips."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Generic, TypeVar

import numpy as np

from pipelines.acoustic.chunks import check_chunks
from pipelines.contracts import SAMPLE_RATE, AudioBatch, CtcVocabulary, Float32, LogProbs
from pipelines.models.model_card import CtcCard, StreamingCard


class WaveformState:
    """Implements `pipelines.contracts.StreamState`, as far as every model needs it."""

    def __init__(self, owner: object) -> None:
        self.owner = owner
        self.ended = False
        """Whether it has had its last chunk."""

    def close(self) -> None:
        """Forget everything."""
        self.ended = True


S = TypeVar("S", bound=WaveformState)


class WaveformStreaming(ABC, Generic[S]):
    """Implements `pipelines.contracts.StreamingAcousticModel`, and `AcousticModel` by streaming whole clips.

    One call at a time: the arrays of a step are the model's own.
    """

    def __init__(self, card: CtcCard, streaming: StreamingCard, vocabulary: CtcVocabulary, chunk_frames: int) -> None:
        self.card = card
        self.vocabulary: CtcVocabulary = vocabulary
        self.shift_samples = card.output.shift_samples
        self.frame_shift_s = self.shift_samples / SAMPLE_RATE
        self.chunk_frames = chunk_frames
        self.chunk_samples = chunk_frames * self.shift_samples
        self.lookahead_samples = streaming.lookahead_samples or 0

    @abstractmethod
    def open(self) -> S:
        """The state of a new stream."""

    @abstractmethod
    def _step(self, states: Sequence[S], samples: Float32, length: int) -> Float32:
        """Move streams on by the first `length` samples of each row, zeros behind them up to a whole frame.

        Returns:
            float32 (streams, frames, labels), overwritten by the next step.
        """

    def warm_up(self) -> None:
        """Run a few chunks of silence."""
        state = self.open()
        silence = AudioBatch(np.zeros((1, self.chunk_samples), np.float32), np.array([self.chunk_samples]))
        for _ in range(3):
            self.infer_chunk([state], silence)
        state.close()

    def infer_chunk(self, states: Sequence[S], chunks: AudioBatch) -> LogProbs:
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
