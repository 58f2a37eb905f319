"""`decoder/rescore`: the attention decoder chooses among the n-best readings of a CTC model, by their joint score."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from pydantic import Field

from pipelines.acoustic.moonshine import max_tokens
from pipelines.contracts import (
    AcousticModel,
    AudioBatch,
    Decoder,
    Encoded,
    EncoderDecoderModel,
    Hypotheses,
    Hypothesis,
)
from pipelines.decode.aed_greedy import GreedyDecoder
from pipelines.decode.draft import written
from pipelines.decode.speculative import DraftOptions, open_drafter
from pipelines.registry import Context, Variant


class RescoreOptions(DraftOptions):
    """Where the readings come from, and what the attention decoder's word counts.

    Attributes:
        draft_decoder: A decoder that gives several readings.
        weight: Weight of the attention decoder's log-probability; the CTC score has the rest.
    """

    draft_decoder: str = "beam"
    draft_options: dict[str, Any] = Field(default={"nbest": 8})
    weight: float = Field(default=0.5, ge=0, le=1)


class RescoringDecoder:
    """Scores drafts with an attention decoder (see `pipelines.contracts.DraftingDecoder`)."""

    def __init__(
        self, model: EncoderDecoderModel, drafter: tuple[AcousticModel, Decoder] | None, weight: float
    ) -> None:
        self._model, self._drafter, self._weight = model, drafter, weight

    def draft(self, batch: AudioBatch) -> Hypotheses:
        """See `pipelines.contracts.DraftingDecoder`."""
        if self._drafter is None:
            raise RuntimeError("this decoder has no draft model of its own")
        acoustic, decoder = self._drafter
        [hypotheses] = decoder.decode(acoustic.infer(batch))
        return hypotheses

    def check(self, encoded: Encoded, draft: Hypotheses) -> tuple[Hypotheses, int]:
        """See `pipelines.contracts.DraftingDecoder`: the drafts, the likeliest of both models first."""
        scored: list[Hypothesis] = []
        passes = 0
        for hypothesis in draft:
            tokens = self._model.vocabulary.encode(written(hypothesis.text.lower().split()))
            log_prob, taken = self.log_prob(encoded, tokens)
            passes += taken
            joint = self._weight * log_prob + (1 - self._weight) * hypothesis.score
            text = self._model.vocabulary.text(tokens)
            scored.append(Hypothesis(text, tuple(tokens), joint, hypothesis.words))
        return tuple(sorted(scored, key=lambda one: -one.score)), passes

    def decode(self, encoded: Encoded) -> tuple[Hypotheses, int]:
        """Without drafts there is nothing to choose from: the decoder's own text (see `AedDecoder`)."""
        return GreedyDecoder(self._model).decode(encoded)

    def log_prob(self, encoded: Encoded, tokens: Sequence[int]) -> tuple[float, int]:
        """Log-probability of a text under the attention decoder, its end included, and the passes that it took.

        Minus infinity for a text that is longer than the decoder writes for such a clip.
        """
        from scipy import special

        model = self._model
        limit = max_tokens(encoded.audio_s[0], model.max_tokens_per_s)
        fed, wanted = [model.start_token, *tokens], [*tokens, model.end_token]
        if len(fed) > limit:
            return -np.inf, 0
        total, size = 0.0, model.max_step_tokens
        with model.open(encoded, limit) as state:
            for start in range(0, len(fed), size):
                logits = model.step(state, fed[start : start + size])
                rows = special.log_softmax(logits.astype(np.float64), axis=1)
                total += float(rows[np.arange(len(rows)), wanted[start : start + size]].sum())
        return total, -(-len(fed) // size)


class Rescore(Variant):
    """`decoder/rescore`."""

    id = "decoder/rescore"
    summary = "the attention decoder chooses among a CTC model's n-best readings by joint score"
    families = ("aed",)
    options = RescoreOptions

    @classmethod
    @contextmanager
    def _open_impl(cls, context: Context, options: RescoreOptions) -> Iterator[RescoringDecoder]:
        with open_drafter(context, options) as drafter:
            yield RescoringDecoder(context.parts["acoustic"], drafter, options.weight)
