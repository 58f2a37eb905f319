"""A CTC model of any make in ONNX Runtime: waveform or features in, log-probabilities or logits out."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipelines.acoustic.front import Features
from pipelines.contracts import SAMPLE_RATE, AudioBatch, CtcVocabulary, Float32, Kernels, LogProbs
from pipelines.errors import AmiraError
from pipelines.models.model_card import CtcCard

WARM_UP_S = 1.0
MIN_SAMPLES = 1_600
"""0.1 s: what is shorter has no frames. No word fits in, and many models fail on so few."""


class OrtAny:
    """Implements `pipelines.contracts.AcousticModel` for models that say little about themselves.

    How many frames come out is known only after a run, so ONNX Runtime makes the output's memory.
    """

    def __init__(self, card: CtcCard, vocabulary: CtcVocabulary, session: Any, kernels: Kernels) -> None:
        self.vocabulary: CtcVocabulary = vocabulary
        self.frame_shift_s = card.output.shift_samples / SAMPLE_RATE
        self._card, self._session, self._kernels = card, session, kernels
        self._front = Features(card.features, kernels) if card.features else None
        self._types = {each.name: each.type for each in session.get_inputs()}

    def warm_up(self) -> None:
        """Run once on a second of silence."""
        count = round(WARM_UP_S * SAMPLE_RATE)
        self.infer(AudioBatch(np.zeros((1, count), np.float32), np.array([count])))

    def infer(self, batch: AudioBatch) -> LogProbs:
        """See `pipelines.contracts.AcousticModel.infer`."""
        lengths = np.where(batch.lengths >= MIN_SAMPLES, batch.lengths, 0)
        clips = [row[:length] for row, length in zip(batch.samples, lengths, strict=True)]
        rows = [clip if self._front is None else self._front(clip) for clip in clips]
        if self._card.input.lengths and self._card.output.lengths:
            return self._together(rows)
        found = [self._together([row]) for row in rows]
        frames = np.array([part.lengths[0] for part in found], np.int64)
        values = np.zeros((len(rows), int(frames.max(initial=0)), len(self.vocabulary)), np.float32)
        for row, part in enumerate(found):
            values[row, : frames[row]] = part.values[0, : frames[row]]
        return LogProbs(values, frames)

    def close(self) -> None:
        """Nothing is held between calls."""

    def _together(self, rows: list[Float32]) -> LogProbs:
        lengths = np.array([len(row) for row in rows], np.int64)
        if not lengths.max(initial=0):
            return LogProbs(np.zeros((len(rows), 0, len(self.vocabulary)), np.float32), np.zeros(len(rows), np.int64))
        padded = np.zeros((len(rows), int(lengths.max()), *rows[0].shape[1:]), np.float32)
        for row, values in enumerate(rows):
            padded[row, : len(values)] = values
        card = self._card
        if card.features and card.features.channels_first:
            padded = np.ascontiguousarray(padded.transpose(0, 2, 1))
        feeds = {card.input.name: padded}
        if card.input.lengths:
            feeds[card.input.lengths] = self._as_wanted(card.input.lengths, lengths)
        names = [card.output.name, *([card.output.lengths] if card.output.lengths else [])]
        values, *frames = self._session.run(names, feeds)
        return self._log_probs(values, frames[0] if frames else np.full(len(rows), values.shape[1]), lengths)

    def _log_probs(self, values: Float32, frames: Any, lengths: Any) -> LogProbs:
        if values.shape[2] != len(self.vocabulary):
            raise AmiraError(
                f"model '{self._card.name}' gives {values.shape[2]} labels, its {self._card.vocabulary.file} has "
                f"{len(self.vocabulary)}. Take the vocabulary that the model was trained with"
            )
        if self._card.output.kind == "logits":
            flat = np.ascontiguousarray(values).reshape(-1, values.shape[2])
            self._kernels.log_softmax(flat, flat)
            values = flat.reshape(values.shape)
        real = np.minimum(np.asarray(frames, np.int64), values.shape[1])
        return LogProbs(np.ascontiguousarray(values), np.where(lengths > 0, real, 0))

    def _as_wanted(self, name: str, lengths: Any) -> Any:
        return lengths.astype(np.int32) if self._types[name] == "tensor(int32)" else lengths
