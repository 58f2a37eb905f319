"""The data types and protocols that every pipeline is made of.

Time is `perf_counter_ns` integers with the unit in the name. Audio inside a pipeline is mono float32 in
[-1, 1) at 16 kHz; on its way in it is PCM16 little-endian bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from kernels.stream_calls import GreedyReader, RingWriter

SAMPLE_RATE = 16_000
STAGES = ("ingest", "features", "queue", "connection", "draft", "acoustic", "decode", "post")
"""The stages of a request, in order. `engine` stands for a peer's whole engine, which cannot be looked into."""
ENGINE_STAGE = "engine"

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class AudioBatch:
    """Waveforms of one batch, padded with zeros to the longest.

    Attributes:
        samples: float32 (batch, samples), in [-1, 1).
        lengths: int64 (batch,), samples that are real in each row.
    """

    samples: Float32
    lengths: Int64


@dataclass(frozen=True, slots=True)
class LogProbs:
    """Frame-wise log-probabilities of a CTC model.

    Attributes:
        values: float32 (batch, frames, vocabulary).
        lengths: int64 (batch,), frames that are real in each row.
    """

    values: Float32
    lengths: Int64


@dataclass(frozen=True, slots=True)
class Encoded:
    """What an encoder hands to an attention decoder.

    Attributes:
        hidden: float32 (batch, frames, width).
        lengths: int64 (batch,), frames that are real in each row.
        audio_s: length of each clip in seconds, for the decoder's length limit.
    """

    hidden: Float32
    lengths: Int64
    audio_s: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Word:
    """A recognised word; times in seconds from the start of the clip, confidence in [0, 1]."""

    text: str
    start_s: float
    end_s: float
    confidence: float


@dataclass(frozen=True, slots=True)
class ReadWord:
    """How a word of an expected text was read.

    Attributes:
        word: The word, as the text has it.
        status: `read`, `repeated` (read more than once), `misread` (something else in its place), or `skipped`.
        said: What was said; empty where it was skipped.
        start_s, end_s: When, in seconds from the start of the clip; `nan` where it was skipped.
        confidence: In [0, 1].
        attempts: How often it was tried, false starts included.
        before: Words that were put in before it.
    """

    word: str
    status: str
    said: str
    start_s: float
    end_s: float
    confidence: float
    attempts: int
    before: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """One reading of a clip.

    Attributes:
        text: The words, in the model's own spelling.
        tokens: Token ids without start and end tokens.
        score: Log-probability of the tokens under the model; `nan` where the model does not give one.
        words: Word times, empty where the decoder has none.
        reading: How each word of an expected text was read; empty where none was expected.
    """

    text: str
    tokens: tuple[int, ...]
    score: float
    words: tuple[Word, ...] = ()
    reading: tuple[ReadWord, ...] = ()


Hypotheses = tuple[Hypothesis, ...]
"""The n-best readings of one clip, best first."""


@dataclass(frozen=True, slots=True)
class Span:
    """A stage of a request: `perf_counter_ns` at its start, and how long it took."""

    stage: str
    start_ns: int
    duration_ns: int


@dataclass(frozen=True, slots=True)
class Transcript:
    """What a pipeline says about one clip, and the spans of how it got there."""

    hypotheses: Hypotheses
    spans: tuple[Span, ...]
    steps: int = 0
    """Sequential decoder passes that it took (0 where there are none)."""

    @property
    def text(self) -> str:
        """The best reading."""
        return self.hypotheses[0].text


class Vocabulary(Protocol):
    """Maps token ids to text."""

    def __len__(self) -> int: ...
    def text(self, tokens: Sequence[int]) -> str:
        """The text of a token sequence, without its surrounding blanks."""
        ...


@runtime_checkable
class CtcVocabulary(Vocabulary, Protocol):
    """The labels of a CTC model: its tokens and the blank."""

    blank: int
    """The id of the blank."""

    def piece(self, token: int) -> str:
        """What a token adds to the text, with a space where a word begins or ends; the blank adds nothing."""
        ...


class AedVocabulary(Vocabulary, Protocol):
    """The tokens of an attention encoder-decoder, which are made from text as well as text from them."""

    def encode(self, text: str, *, begins_word: bool = True) -> list[int]:
        """The tokens that the model itself writes `text` with; `begins_word` says whether a space comes before it."""
        ...

    def begins_word(self, token: int) -> bool:
        """Whether a token brings the space before a word."""
        ...


class Buffers(Protocol):
    """Where the arrays of the hot path come from (the `memory` axis)."""

    def lease(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> AbstractContextManager[npt.NDArray[np.generic]]:
        """An uninitialised C-contiguous array for the time of a `with` block."""
        ...


@runtime_checkable
class Kernels(Protocol):
    """The hot loops of a pipeline (the `kernel` axis).

    Arrays are C-contiguous, native, and of exactly the type that is written here; outputs are the caller's and are
    writable. Everything else is a ValueError that names the argument, the same from every implementation. Ties go to
    the smaller index, and a NaN counts as larger than every number.
    """

    def pcm16_to_float32(self, pcm: bytes | memoryview, out: Float32) -> None:
        """Convert PCM16 little-endian `pcm` (2 * n bytes) to float32 `out` (n,), scaled by 1 / 32,768."""
        ...

    def pcm16_into_ring(self, pcm: bytes | memoryview, ring: Float32, position: int) -> int:
        """The same into a ring buffer from `position` on, around its end; returns the position after it."""
        ...

    def mulaw_to_float32(self, codes: bytes | memoryview, out: Float32) -> None:
        """Convert 8-bit G.711 mu-law `codes` (n bytes) to float32 `out` (n,)."""
        ...

    def alaw_to_float32(self, codes: bytes | memoryview, out: Float32) -> None:
        """Convert 8-bit G.711 A-law `codes` (n bytes) to float32 `out` (n,)."""
        ...

    def argmax(self, x: Float32, out: Int64) -> None:
        """The index of the largest element of each row of `x` (rows, n) into `out` (rows,)."""
        ...

    def ctc_greedy(
        self, log_probs: Float32, blank: int, carry: Int64, tokens: Int64, confidences: Float32, frames: Int64
    ) -> int:
        """Best path of `log_probs` (T, V), repeats collapsed and blanks dropped; returns how many tokens it has.

        Args:
            log_probs: float32 (T, V).
            blank: The id of the blank.
            carry: int64 (1,), in and out: the label of the frame before; the blank at the start of a stream.
            tokens: int64 (>= T,): the tokens.
            confidences: float32 (>= T,): the probability of each token in its best frame.
            frames: int64 (>= T, 2): first and last frame of each token.
        """
        ...

    def ring_writer(self, ring: Float32) -> RingWriter:
        """`pcm16_into_ring` bound to a stream's ring: the chunk is the only argument of a call."""
        ...

    def greedy_reader(self, blank: int, capacity: int) -> GreedyReader:
        """`ctc_greedy` bound to a stream's carry and to outputs for chunks of up to `capacity` frames."""
        ...

    def transpose(self, x: Float32, out: Float32) -> None:
        """Copy `x` (B, C, T) to `out` (B, T, C)."""
        ...

    def log_softmax(self, x: Float32, out: Float32) -> None:
        """Log-probabilities of each row of logits `x` (rows, n) into `out` (rows, n), which may be `x`."""
        ...

    def top_k(self, x: Float32, values: Float32, indices: Int64) -> None:
        """The k largest elements of each row of `x` (rows, n), falling, into `values` and `indices` (rows, k)."""
        ...

    def log_mel(
        self, power: Float32, weights: Float32, starts: Int64, ends: Int64, guard: float, floor: float, out: Float32
    ) -> None:
        """Log-mel energies `out` (frames, mels) of power spectra `power` (frames, bins).

        Args:
            power: float32 (frames, bins).
            weights: float32 (total,): the mel triangles without their zeros, one behind the other.
            starts: int64 (mels,): the first bin of each triangle.
            ends: int64 (mels,): the bin behind its last.
            guard: Added to each energy.
            floor: What an energy counts as at least.
            out: float32 (frames, mels).
        """
        ...


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

        A chunk shorter than `chunk_samples` is its stream's last: `chunks.lengths` says how much of it is real.
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


class AedDecoder(Protocol):
    """Turns an encoded clip into text with the model's own decoder (the `decoder` axis, AED family)."""

    def decode(self, encoded: Encoded) -> tuple[Hypotheses, int]:
        """The n-best readings of one clip and the number of sequential decoder passes."""
        ...


@runtime_checkable
class DraftingDecoder(Protocol):
    """An `AedDecoder` that hears the clip itself first and writes a draft, which it then checks with the model."""

    def draft(self, batch: AudioBatch) -> Hypotheses:
        """What another, quicker recogniser makes of the clip, best first."""
        ...

    def check(self, encoded: Encoded, draft: Hypotheses) -> tuple[Hypotheses, int]:
        """The n-best readings of one clip and the number of sequential decoder passes, with the help of a draft."""
        ...


@dataclass(frozen=True, slots=True)
class Partial:
    """What a decoder stream has understood so far.

    Attributes:
        text: The best reading up to now.
        stable_chars: Its first characters that no later chunk changes.
    """

    text: str
    stable_chars: int


class DecoderStream(Protocol):
    """Decodes one stream chunk by chunk."""

    def push(self, log_probs: Float32) -> Partial:
        """Take the log-probabilities of the next frames, float32 (frames, vocabulary)."""
        ...

    def finish(self) -> Hypotheses:
        """The n-best readings of everything that was pushed: the same as `Decoder.decode` of all of it at once."""
        ...


class Decoder(Protocol):
    """Turns log-probabilities into text (the `decoder` axis, CTC family)."""

    def decode(self, log_probs: LogProbs) -> list[Hypotheses]:
        """The n-best readings of every clip of the batch."""
        ...

    def stream(self) -> DecoderStream:
        """A decoder for one stream."""
        ...


@runtime_checkable
class ExpectingDecoder(Protocol):
    """A `Decoder` that can be told what is going to be read."""

    def expecting(self, text: str) -> Decoder:
        """A decoder for readings of `text`."""
        ...


class Recognizer(Protocol):
    """Audio in, text out: what a pipeline runs, whatever family it is of."""

    def warm_up(self) -> None:
        """Pay every first-time cost now: lazy allocation, compilation, page faults."""
        ...

    def recognize(self, pcm: bytes | memoryview, trace: Trace) -> tuple[Hypotheses, int]:
        """Recognise one clip of PCM16 little-endian mono at 16 kHz; returns n-best and decoder passes."""
        ...


@dataclass(slots=True)
class Trace:
    """Collects the spans of one request."""

    spans: list[Span] = field(default_factory=list)

    def span(self, stage: str) -> _OpenSpan:
        """`with trace.span("decode"):` times the block as that stage."""
        return _OpenSpan(self, stage)

    def __iter__(self) -> Iterator[Span]:
        return iter(self.spans)


class _OpenSpan:
    __slots__ = ("_stage", "_start_ns", "_trace")

    def __init__(self, trace: Trace, stage: str) -> None:
        self._trace = trace
        self._stage = stage

    def __enter__(self) -> None:
        self._start_ns = perf_counter_ns()

    def __exit__(self, *exc: object) -> None:
        self._trace.spans.append(Span(self._stage, self._start_ns, perf_counter_ns() - self._start_ns))
