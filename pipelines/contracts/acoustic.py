"""Acoustic models: of CTC, streaming, and encoder-decoders."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, runtime_checkable

from pipelines.contracts.data import AudioBatch, Encoded, Float32, LogProbs
from pipelines.contracts.vocabulary import AedVocabulary, CtcVocabulary


@runtime_checkable
class AcousticModel(Protocol):
    """Full utterance to CTC log-probabilities."""

    vocabulary: CtcVocabulary
    frame_shift_s: float

    def warm_up(self) -> None:
        """Pay every first-time cost now: lazy allocation, compilation, page faults."""
        ...

    def infer(self, batch: AudioBatch) -> LogProbs:
        """Log-probabilities of every frame of every clip; a clip that is too short for a frame has none.

        The arrays are the model's own and are overwritten by the next call: copy what must live longer.
        """
        ...


class StreamState(Protocol):
    """What a streaming model remembers of one stream. Only the model that opened it looks inside."""

    def close(self) -> None:
        """Give its buffers back; the state is of no use afterwards."""
        ...


@runtime_checkable
class StreamingAcousticModel(Protocol):
    """Chunks of many streams to CTC log-probabilities, each stream's state carried by its own `StreamState`."""

    vocabulary: CtcVocabulary
    frame_shift_s: float
    chunk_samples: int
    """Samples of a chunk."""
    lookahead_samples: int
    """Audio after a frame's own end that the model waits for, beyond the chunk that the frame is in."""

    def warm_up(self) -> None:
        """Pay every first-time cost now: lazy allocation, compilation, page faults."""
        ...

    def open(self) -> StreamState:
        """The state of a new stream."""
        ...

    def infer_chunk(self, states: Sequence[StreamState], chunks: AudioBatch) -> LogProbs:
        """Log-probabilities of one chunk of each of the streams, in order; the states move on.

        A chunk shorter than `chunk_samples`, were it empty, is its stream's last: `chunks.lengths` says how much of it
        is real. A model that waits for audio behind a chunk gives its frames with a later one, all that are left with
        the last.
        The arrays are the model's own and are overwritten by the next call.

        Raises:
            ValueError: A chunk is longer than `chunk_samples`, a state belongs to another model, is closed, has had
                its last chunk, or is named twice.
        """
        ...


@runtime_checkable
class EncoderDecoderModel(Protocol):
    """An attention encoder-decoder (AED): encode once, then feed tokens and get the next token's logits."""

    vocabulary: AedVocabulary
    frame_shift_s: float
    start_token: int
    end_token: int
    max_tokens_per_s: float
    min_samples: int
    """The shortest clip the encoder takes, in samples."""
    max_step_tokens: int
    """Tokens that one step takes at most."""

    def warm_up(self) -> None:
        """Pay every first-time cost now: lazy allocation, compilation, page faults."""
        ...

    def encode(self, batch: AudioBatch) -> AbstractContextManager[Encoded]:
        """Encode the batch; the hidden states' buffer goes back when the block ends."""
        ...

    def open(self, encoded: Encoded, max_tokens: int) -> AbstractContextManager[Any]:
        """The model's own state for decoding `encoded` (one clip) up to `max_tokens`.

        It holds the keys of the clip and of the tokens so far; its buffers go back when the block ends.
        """
        ...

    def step(self, state: Any, tokens: Sequence[int]) -> Float32:
        """Feed `tokens` and return the logits after each: float32 (len(tokens), vocabulary).

        The array is the model's own and is overwritten by the next step.
        """
        ...

    def rewind(self, state: Any, length: int) -> None:
        """Forget all tokens that were fed but the first `length`.

        Raises:
            ValueError: Fewer were fed.
        """
        ...
