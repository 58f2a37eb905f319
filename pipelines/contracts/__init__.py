"""The data types and protocols that every pipeline is made of, one module for each family of them."""

from __future__ import annotations

from pipelines.contracts.acoustic import AcousticModel, EncoderDecoderModel, StreamingAcousticModel, StreamState
from pipelines.contracts.data import (
    SAMPLE_RATE,
    AudioBatch,
    Encoded,
    Float32,
    Hypotheses,
    Hypothesis,
    Int64,
    LogProbs,
    Partial,
    ReadWord,
    Word,
)
from pipelines.contracts.decoders import (
    AedDecoder,
    BiasedDecoder,
    Decoder,
    DecoderStream,
    DraftingDecoder,
    ExpectingDecoder,
    Recognizer,
)
from pipelines.contracts.hot_path import Buffers, Kernels
from pipelines.contracts.serving import Connections
from pipelines.contracts.trace import ENGINE_STAGE, STAGES, Span, Trace, Transcript
from pipelines.contracts.vocabulary import AedVocabulary, CtcVocabulary, Vocabulary

__all__ = [
    "ENGINE_STAGE",
    "SAMPLE_RATE",
    "STAGES",
    "AcousticModel",
    "AedDecoder",
    "AedVocabulary",
    "AudioBatch",
    "BiasedDecoder",
    "Buffers",
    "Connections",
    "CtcVocabulary",
    "Decoder",
    "DecoderStream",
    "DraftingDecoder",
    "Encoded",
    "EncoderDecoderModel",
    "ExpectingDecoder",
    "Float32",
    "Hypotheses",
    "Hypothesis",
    "Int64",
    "Kernels",
    "LogProbs",
    "Partial",
    "ReadWord",
    "Recognizer",
    "Span",
    "StreamState",
    "StreamingAcousticModel",
    "Trace",
    "Transcript",
    "Vocabulary",
    "Word",
]
