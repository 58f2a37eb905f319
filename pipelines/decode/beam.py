"""`decoder/beam`: our CTC prefix beam search, with a word n-gram where one is named."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from pipelines.contracts import AcousticModel, Float32, Hypotheses, Hypothesis, Partial
from pipelines.decode.alignment import Aligner
from pipelines.decode.ctc import CtcDecoder, Frames, Search
from pipelines.registry import Context, Variant

BLOCK = 64
"""Frames that are searched in one call: bounds how much room the tree of prefixes must have before it."""


class BeamOptions(BaseModel):
    """Options of `decoder/beam`.

    Attributes:
        width: Prefixes that are kept from frame to frame.
        threshold: How far below the best a prefix may fall, in natural log, before it is dropped.
        token_floor: Labels below this log-probability are not tried in a frame (its best label always is).
        lag_frames: For how many frames a prefix may differ from the best one before it is dropped, so that what is
            older becomes stable; 0 for any number.
        nbest: Readings that are returned.
        lm: A word n-gram in ARPA format: its path, or the name of a file in `build/lm`.
        lm_weight: What its log-probabilities are multiplied by.
        word_bonus: Added for every word.
        unknown_penalty: Added (negative) for a word that is not in the n-gram.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    width: int = Field(default=32, ge=1, le=4096)
    threshold: float = Field(default=10.0, gt=0, le=1000, allow_inf_nan=False)
    token_floor: float = Field(default=-5.0, lt=0, ge=-1000, allow_inf_nan=False)
    lag_frames: int = Field(default=64, ge=0, le=100_000)
    nbest: int = Field(default=1, ge=1, le=1000)
    lm: str | None = None
    lm_weight: float = Field(default=0.5, ge=0, le=10, allow_inf_nan=False)
    word_bonus: float = Field(default=1.5, ge=-100, le=100, allow_inf_nan=False)
    unknown_penalty: float = Field(default=-10.0, le=0, ge=-1000, allow_inf_nan=False)


@dataclass(frozen=True)
class LanguageModel:
    """A word n-gram as the search wants it.

    Attributes:
        arrays: See `kernels.ctc_prefix_beam.Ngram`.
        start: The n-gram's state at the start of a sentence.
        end: Its word for the end of a sentence.
        unknown: Its unknown word, or -1.
    """

    arrays: Any
    start: int
    end: int
    unknown: int


class BeamDecoder(CtcDecoder):
    """Prefix beam search; a score is the log-probability of the text over all alignments, plus the language model's."""

    def __init__(self, model: AcousticModel, options: BeamOptions, language_model: LanguageModel | None) -> None:
        from kernels import ctc_prefix_beam

        super().__init__(model)
        self.options = options
        self.language_model = language_model
        pieces = [model.vocabulary.piece(label) for label in range(len(model.vocabulary))]
        self.space = pieces.index(" ") if " " in pieces else -1
        self.ngram = language_model.arrays if language_model else ctc_prefix_beam.no_ngram()
        self.unknown = np.array([language_model.unknown if language_model else -1, options.unknown_penalty])
        self.advance = ctc_prefix_beam.advance().call
        self.close = ctc_prefix_beam.close().call
        self.aligner = Aligner(model.vocabulary, model.frame_shift_s)

    def _open_search(self) -> Search:
        return _BeamSearch(self)


class _BeamSearch:
    def __init__(self, decoder: BeamDecoder) -> None:
        from kernels.ctc_prefix_beam import BEAM, CONTEXT, NODES, SPELLING, TOKEN

        width = decoder.options.width
        self._decoder = decoder
        self._nodes = np.full((1 + BLOCK * width, 7), -1, np.int32)
        self._node_scores = np.zeros(1 + BLOCK * width)
        self._beam = np.zeros(width, np.int32)
        self._beam_scores = np.full((width, 2), -np.inf)
        self._state = np.zeros(3, np.int64)
        self._state[NODES] = self._state[BEAM] = 1
        self._nodes[0, TOKEN] = decoder.space
        self._nodes[0, SPELLING] = 0
        self._nodes[0, CONTEXT] = decoder.language_model.start if decoder.language_model else -1
        self._beam_scores[0, 0] = 0.0
        self._frames = Frames()

    def push(self, log_probs: Float32) -> None:
        self._frames.add(log_probs)
        decoder = self._decoder
        options = decoder.options
        for start in range(0, len(log_probs), BLOCK):
            block = log_probs[start : start + BLOCK]
            self._make_room(len(block) * options.width)
            decoder.advance(
                block, decoder.vocabulary.blank, decoder.space, options.width, options.threshold, options.token_floor,
                options.lag_frames, options.lm_weight, options.word_bonus, decoder.unknown, *decoder.ngram,
                self._nodes, self._node_scores, self._beam, self._beam_scores, self._state,
            )  # fmt: skip

    def partial(self) -> Partial:
        from kernels.ctc_prefix_beam import BEAM, ancestor, path

        size = self._state[BEAM]
        beam = self._beam[:size]
        scores = np.logaddexp(*self._beam_scores[:size].T) + self._node_scores[beam]
        text = self._decoder.vocabulary.text
        agreed = ancestor(self._nodes, beam)
        return Partial(text(path(self._nodes, int(beam[scores.argmax()]))), len(text(path(self._nodes, agreed))))

    def finish(self) -> Hypotheses:
        from kernels.ctc_prefix_beam import path

        decoder, options = self._decoder, self._decoder.options
        totals = np.empty(options.width)
        end = decoder.language_model.end if decoder.language_model else -1
        size = decoder.close(
            options.lm_weight, options.word_bonus, decoder.unknown, end, *decoder.ngram,
            self._nodes, self._node_scores, self._beam, self._beam_scores, self._state, totals,
        )  # fmt: skip
        found: dict[str, Hypothesis] = {}
        log_probs = self._frames.all()
        for index in np.argsort(-totals[:size], kind="stable"):
            tokens = path(self._nodes, int(self._beam[index]))
            text = decoder.vocabulary.text(tokens)
            if text in found:  # the same but for a space at an edge
                continue
            words = decoder.aligner.words(log_probs, tokens)
            found[text] = Hypothesis(text, tuple(tokens), float(totals[index]), words)
            if len(found) == options.nbest:
                break
        return tuple(found.values())

    def _make_room(self, more: int) -> None:
        have, need = len(self._nodes), int(self._state[0]) + more
        if need > have:
            size = max(need, 2 * have)
            self._nodes = np.concatenate([self._nodes, np.full((size - have, 7), -1, np.int32)])
            self._node_scores = np.concatenate([self._node_scores, np.zeros(size - have)])


class Beam(Variant):
    """`decoder/beam`."""

    id = "decoder/beam"
    summary = "CTC prefix beam search in numba, with a word n-gram where option 'lm' names one"
    options = BeamOptions
    families = ("ctc",)

    @classmethod
    @contextmanager
    def _open_impl(cls, context: Context, options: BeamOptions) -> Iterator[BeamDecoder]:
        model = context.parts["acoustic"]
        language_model = None
        if options.lm is not None:
            from pipelines.decode import ngram

            language_model = ngram.load(options.lm, model.vocabulary)
        yield BeamDecoder(model, options, language_model)
