"""A CTC model in ONNX Runtime: waveform in, log-probabilities out, as its card says."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import numpy as np

from pipelines.acoustic.sessions import bind_input, bind_output
from pipelines.contracts import SAMPLE_RATE, AudioBatch, Buffers, CtcVocabulary, Float32, Int64, LogProbs
from pipelines.models.model_card import WholeClip

WARM_UP_S = 1.0


class OrtCtc:
    """Implements `pipelines.contracts.AcousticModel`.

    Inputs and outputs are bound; the outputs are leased from the pipeline's buffers and go back at the next call.
    """

    def __init__(self, clip: WholeClip, vocabulary: CtcVocabulary, session: Any, buffers: Buffers) -> None:
        self._clip = clip
        self.vocabulary: CtcVocabulary = vocabulary
        self.frame_shift_s = clip.shift_samples / SAMPLE_RATE
        self._session, self._buffers = session, buffers
        self._held = ExitStack()

    def warm_up(self) -> None:
        """Run once on a second of silence."""
        count = round(WARM_UP_S * SAMPLE_RATE)
        self.infer(AudioBatch(np.zeros((1, count), np.float32), np.array([count])))

    def frames(self, samples: int | Int64) -> Any:
        """Frames of clips of so many samples; below 0 for some that are too short."""
        return (samples - self._clip.window_samples) // self._clip.shift_samples + 1

    def infer(self, batch: AudioBatch) -> LogProbs:
        """See `pipelines.contracts.AcousticModel.infer`."""
        self.close()
        samples, lengths = batch.samples, np.ascontiguousarray(batch.lengths, np.int64)
        if samples.shape[1] < self._clip.window_samples:
            samples = self._padded(samples)
        shape = (samples.shape[0], int(self.frames(samples.shape[1])), len(self.vocabulary))
        values: Float32 = self._lease(shape, np.float32)
        frames: Int64 = self._lease((samples.shape[0],), np.int64)
        binding = self._session.io_binding()
        bind_input(binding, self._clip.samples, samples)
        bind_input(binding, self._clip.lengths, lengths)
        bind_output(binding, self._clip.log_probs, values)
        bind_output(binding, self._clip.frames, frames)
        self._session.run_with_iobinding(binding)
        return LogProbs(values, frames)

    def close(self) -> None:
        """Give the outputs of the last call back."""
        self._held.close()

    def _padded(self, samples: Float32) -> Float32:
        """Clips that are all shorter than one frame, with zeros behind them; their lengths still say so."""
        padded: Float32 = self._lease((samples.shape[0], self._clip.window_samples), np.float32)
        padded[:, : samples.shape[1]] = samples
        padded[:, samples.shape[1] :] = 0
        return padded

    def _lease(self, shape: tuple[int, ...], dtype: Any) -> Any:
        return self._held.enter_context(self._buffers.lease(shape, dtype))
