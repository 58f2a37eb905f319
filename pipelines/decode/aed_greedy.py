"""`decoder/aed-greedy`: the model's own decoder, one best token at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pipelines.acoustic.moonshine import max_tokens
from pipelines.contracts import AedDecoder, Encoded, EncoderDecoderModel, Hypotheses, Hypothesis
from pipelines.registry import Context, Variant


class GreedyDecoder:
    """Feeds back the most likely token until the end token or the length limit."""

    def __init__(self, model: EncoderDecoderModel) -> None:
        self._model = model

    def decode(self, encoded: Encoded) -> tuple[Hypotheses, int]:
        """See `pipelines.contracts.AedDecoder`."""
        model = self._model
        limit = max_tokens(encoded.audio_s[0], model.max_tokens_per_s)
        tokens: list[int] = []
        token = model.start_token
        steps = 0
        with model.open(encoded, limit) as state:
            while steps < limit:
                logits = model.step(state, (token,))
                steps += 1
                token = int(logits[-1].argmax())
                if token == model.end_token:
                    break
                tokens.append(token)
        # The score would cost a log-softmax over the vocabulary at every step; nobody asked for it here.
        return (Hypothesis(model.vocabulary.text(tokens), tuple(tokens), float("nan")),), steps


class AedGreedy(Variant):
    """`decoder/aed-greedy`."""

    id = "decoder/aed-greedy"
    summary = "the attention decoder's most likely token, step by step"
    families = ("aed",)

    @classmethod
    @contextmanager
    def _open_impl(cls, context: Context, options: Any) -> Iterator[AedDecoder]:
        yield GreedyDecoder(context.parts["acoustic"])
