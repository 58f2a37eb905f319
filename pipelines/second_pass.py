"""The `finals` axis: what a segment says for good, once it has ended."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from pipelines.assemble import AedRecognizer, Pipeline
from pipelines.contracts import EncoderDecoderModel, Hypotheses, Hypothesis, Trace, Transcript
from pipelines.decode.speculative import SpeculativeDecoder
from pipelines.errors import AmiraError
from pipelines.first_pass import heard_words
from pipelines.registry import Context, Variant
from pipelines.wishes import Wishes, unable

_NO_LETTER = re.compile(r"[^\w']+")
DRAFT_TOKENS = 7
"""Drafted tokens that one pass of the attention decoder checks."""


class SecondPass(Protocol):
    """Settles segments; called from several threads."""

    def settle(self, pcm: bytes, draft: Hypotheses | None) -> Transcript:
        """What the segment says: PCM16 at 16 kHz, and what the first pass made of it, where there is one."""
        ...

    def personal(self, wishes: Wishes) -> SecondPass:
        """The same for one session.

        Raises:
            AmiraError: It cannot do what the session wishes.
        """
        ...


class _Recognised:
    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline

    def settle(self, pcm: bytes, draft: Hypotheses | None) -> Transcript:
        return self._pipeline.transcribe(pcm)

    def personal(self, wishes: Wishes) -> SecondPass:
        return _Recognised(self._pipeline.personal(wishes))


class _Draft:
    def settle(self, pcm: bytes, draft: Hypotheses | None) -> Transcript:
        if draft is None:
            raise AmiraError(
                "'finals/first-pass' needs a first pass, but the partials have none. "
                'Choose partials = "streaming", or finals = "second-pass"'
            )
        return Transcript(draft, ())

    def personal(self, wishes: Wishes) -> SecondPass:
        return self  # the first pass has done it


class _Heard:
    def settle(self, pcm: bytes, draft: Hypotheses | None) -> Transcript:
        return Transcript((heard_words(len(pcm) // 2),), ())

    def personal(self, wishes: Wishes) -> SecondPass:
        raise unable(wishes, "the null recogniser")


class SecondPassFinals(Variant):
    """`finals/second-pass`."""

    id = "finals/second-pass"
    summary = "a whole-utterance pipeline hears the ended segment again"

    @classmethod
    @contextmanager
    def _open_impl(cls, context: Context, options: Any) -> Iterator[SecondPass]:
        with context.parts["second"]() as pipeline:
            pipeline.warm_up()
            yield _Recognised(pipeline)


class _Checked:
    """The draft of the first pass is checked by the model's decoder; without one it decodes step by step."""

    def __init__(self, recognizer: AedRecognizer) -> None:
        self._recognizer = recognizer

    def settle(self, pcm: bytes, draft: Hypotheses | None) -> Transcript:
        trace = Trace()
        words = _NO_LETTER.sub(" ", draft[0].text.lower()) if draft else ""
        given = Hypothesis(words, (), math.nan)
        hypotheses, steps = self._recognizer.recognize(pcm, trace, given)
        return Transcript(hypotheses, tuple(trace.spans), steps)

    def personal(self, wishes: Wishes) -> SecondPass:
        raise unable(wishes, "the attention model of the finals (finals/speculative)")


class SpeculativeFinals(Variant):
    """`finals/speculative`."""

    id = "finals/speculative"
    summary = "the attention model checks the first pass's text, many tokens a pass; its own text comes out"

    @classmethod
    @contextmanager
    def _open_impl(cls, context: Context, options: Any) -> Iterator[SecondPass]:
        with context.parts["second_parts"]() as parts:
            model = parts["acoustic"]
            if not isinstance(model, EncoderDecoderModel):
                raise AmiraError(
                    "'finals/speculative' needs an attention model that checks drafts, which [recognizer.second] "
                    'is not. Use finals = "second-pass" with it'
                )
            model.warm_up()
            tokens = min(DRAFT_TOKENS, model.max_step_tokens - 1)
            decoder = SpeculativeDecoder(model, None, tokens)
            yield _Checked(AedRecognizer(parts["memory"], parts["kernel"], model, decoder))


class FirstPassFinals(Variant):
    """`finals/first-pass`."""

    id = "finals/first-pass"
    summary = "what the first pass says is final: no second model"

    @classmethod
    @contextmanager
    def _open_impl(cls, context: Context, options: Any) -> Iterator[SecondPass]:
        yield _Draft()


class NullFinals(Variant):
    """`finals/null`."""

    id = "finals/null"
    summary = "says how much it heard: what is left is the server's own cost"

    @classmethod
    @contextmanager
    def _open_impl(cls, context: Context, options: Any) -> Iterator[SecondPass]:
        yield _Heard()
