"""A CTC model in ONNX Runtime: waveform in, log-probabilities out, as its card says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np

from pipelines.acoustic.sessions import bind_input, bind_output, open_session
from pipelines.acoustic.tokens import TokenList, find_blank, read_symbols
from pipelines.contracts import SAMPLE_RATE, AcousticModel, AudioBatch, Buffers, CtcVocabulary, Float32, Int64, LogProbs
from pipelines.models.model_card import CtcCard, ctc_card, file_of
from pipelines.registry import Context

WARM_UP_S = 1.0


class OrtCtc:
    """Implements `pipelines.contracts.AcousticModel`.

    Inputs and outputs are bound; the outputs are leased from the pipeline's buffers and go back at the next call.
    """

    def __init__(self, card: CtcCard, vocabulary: TokenList, session: Any, buffers: Buffers) -> None:
        self.vocabulary: CtcVocabulary = vocabulary
        self.frame_shift_s = card.output.shift_samples / SAMPLE_RATE
        self._card, self._session, self._buffers = card, session, buffers
        self._held = ExitStack()

    def warm_up(self) -> None:
        """Run once on a second of silence."""
        count = round(WARM_UP_S * SAMPLE_RATE)
        self.infer(AudioBatch(np.zeros((1, count), np.float32), np.array([count])))

    def frames(self, samples: int | Int64) -> Any:
        """Frames of clips of so many samples; below 0 for some that are too short."""
        return (samples - self._card.input.window_samples) // self._card.output.shift_samples + 1

    def infer(self, batch: AudioBatch) -> LogProbs:
        """See `pipelines.contracts.AcousticModel.infer`."""
        self.close()
        samples, lengths = batch.samples, np.ascontiguousarray(batch.lengths, np.int64)
        window = self._card.input.window_samples
        if samples.shape[1] < window:
            samples = self._padded(samples, window)
        shape = (samples.shape[0], int(self.frames(samples.shape[1])), len(self.vocabulary))
        values: Float32 = self._lease(shape, np.float32)
        frames: Int64 = self._lease((samples.shape[0],), np.int64)
        binding = self._session.io_binding()
        bind_input(binding, self._card.input.name, samples)
        bind_input(binding, self._card.input.lengths, lengths)
        bind_output(binding, self._card.output.name, values)
        bind_output(binding, self._card.output.lengths, frames)
        self._session.run_with_iobinding(binding)
        return LogProbs(values, frames)

    def close(self) -> None:
        """Give the outputs of the last call back."""
        self._held.close()

    def _padded(self, samples: Float32, window: int) -> Float32:
        """Clips that are all shorter than one frame, with zeros behind them; their lengths still say so."""
        padded: Float32 = self._lease((samples.shape[0], window), np.float32)
        padded[:, : samples.shape[1]] = samples
        padded[:, samples.shape[1] :] = 0
        return padded

    def _lease(self, shape: tuple[int, ...], dtype: Any) -> Any:
        return self._held.enter_context(self._buffers.lease(shape, dtype))


@contextmanager
def open_ctc(context: Context, precision: str) -> Iterator[AcousticModel]:
    """The CTC model of a context in one precision.

    Raises:
        AmiraError: A file is missing or broken, or card, vocabulary and ONNX contradict each other.
    """
    card = ctc_card(context.folder)
    path = context.folder / card.vocabulary.file
    symbols = read_symbols(path)
    blank = find_blank(symbols, card.vocabulary.blank, str(path))
    vocabulary = TokenList(symbols, blank, lower_case=card.vocabulary.lower_case)
    session = open_session(file_of(card, context.folder, precision), context.threads)
    model = OrtCtc(card, vocabulary, session, context.buffers)
    try:
        yield model
    finally:
        model.close()
