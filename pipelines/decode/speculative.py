"""`decoder/speculative`: the text of a CTC model is a draft that the attention decoder checks, many tokens at a time.

One pass over a draft gives the decoder's own choice after each of its tokens. The tokens up to the first that it would
not have chosen, and its own choice there, are exactly what it would have written step by step; the rest is thrown
away, and the draft is taken up again behind the correction. Leviathan, Kalman, Matias (2023), with greedy acceptance.

So it is as long as a token's logits do not depend on how many others a pass has: bit by bit on `simd@int8`, to a
millionth on the FP32 variants, and not on `ort@int8`, which finds one scale for the activations of a whole pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from pipelines import registry
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
from pipelines.decode.beam import BeamDecoder
from pipelines.decode.draft import Draft, WordDraft
from pipelines.decode.search_draft import Heard, PrefixSearch, SearchDraft
from pipelines.errors import AmiraError
from pipelines.registry import Context, Variant


class DraftOptions(BaseModel):
    """Where drafts come from.

    Attributes:
        draft_model: A CTC model, e.g. `moonshine-ctc`.
        draft_acoustic: How it runs.
        draft_decoder: How its log-probabilities become text.
        draft_options: Options of that decoder.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    draft_model: str = Field(min_length=1)
    draft_acoustic: str = "ort@fp32"
    draft_decoder: str = "greedy"
    draft_options: dict[str, Any] = {}


class SpeculativeOptions(DraftOptions):
    """Options of `decoder/speculative`.

    Attributes:
        draft_tokens: Tokens that one pass checks at most.
        search_again: Before each pass, search the CTC model's output again behind what is written (`draft_decoder` must
            be `beam`): more tokens of the draft are right, and a search takes about a millisecond.
    """

    draft_tokens: int = Field(default=6, ge=1, le=64)
    search_again: bool = False


@dataclass(frozen=True, slots=True)
class Checked:
    """What the check of a draft came to.

    Attributes:
        tokens: What the decoder writes, without start and end tokens.
        passes: Sequential passes of the decoder.
        proposed: Drafted tokens that were fed.
        accepted: Those of them that the decoder would have written itself.
    """

    tokens: tuple[int, ...]
    passes: int
    proposed: int
    accepted: int


class SpeculativeDecoder:
    """Checks drafts with an attention decoder (see `pipelines.contracts.DraftingDecoder`).

    Args:
        model: The encoder-decoder whose text is wanted.
        drafter: A CTC model and its decoder, or `None` where drafts come from elsewhere.
        draft_tokens: Tokens that one pass checks at most.
        search_again: Search again behind what is written; the drafter's decoder must then be a `BeamDecoder`.
    """

    def __init__(
        self,
        model: EncoderDecoderModel,
        drafter: tuple[AcousticModel, Decoder] | None,
        draft_tokens: int,
        search_again: bool = False,
    ) -> None:
        if draft_tokens >= model.max_step_tokens:
            raise AmiraError(
                f"a pass of this acoustic variant takes {model.max_step_tokens} tokens: no room for a draft of "
                f"{draft_tokens} behind the token before it. Lower draft_tokens, or pick another: amira variants"
            )
        self._model, self._drafter, self._draft_tokens = model, drafter, draft_tokens
        self._searcher: BeamDecoder | None = None
        if search_again:
            if drafter is None or not isinstance(drafter[1], BeamDecoder):
                raise AmiraError("search_again searches with decoder/beam: set draft_decoder = 'beam', or leave it out")
            self._searcher = drafter[1]

    def draft(self, batch: AudioBatch) -> Hypotheses:
        """See `pipelines.contracts.DraftingDecoder`."""
        if self._drafter is None:
            raise RuntimeError("this decoder has no draft model of its own")
        acoustic, decoder = self._drafter
        heard = acoustic.infer(batch)
        [hypotheses] = decoder.decode(heard)
        if self._searcher is None:
            return hypotheses
        best = hypotheses[0]
        # A copy: the next clip may be heard before this one is checked.
        log_probs = heard.values[0, : heard.lengths[0]].copy()
        return (Heard(best.text, best.tokens, best.score, best.words, log_probs=log_probs), *hypotheses[1:])

    def check(self, encoded: Encoded, draft: Hypotheses) -> tuple[Hypotheses, int]:
        """See `pipelines.contracts.DraftingDecoder`."""
        best = draft[0]
        if self._searcher and isinstance(best, Heard):
            search = PrefixSearch(self._searcher, best.log_probs)
            checked = self.followed(encoded, SearchDraft(search, self._model.vocabulary, self._searcher.frame_shift_s))
        else:
            checked = self.checked(encoded, best.text.lower().split())
        text = self._model.vocabulary.text(checked.tokens)
        return (Hypothesis(text, checked.tokens, float("nan")),), checked.passes

    def decode(self, encoded: Encoded) -> tuple[Hypotheses, int]:
        """Without a draft: the same text, step by step (see `pipelines.contracts.AedDecoder`)."""
        return self.check(encoded, (Hypothesis("", (), float("nan")),))

    def checked(self, encoded: Encoded, words: Sequence[str]) -> Checked:
        """Write the text of a clip, with a draft of its words in lower case."""
        return self.followed(encoded, WordDraft(words, self._model.vocabulary) if words else None)

    def followed(self, encoded: Encoded, draft: Draft | None) -> Checked:
        """Write the text of a clip with the help of a draft; without one, token by token."""
        model = self._model
        limit = max_tokens(encoded.audio_s[0], model.max_tokens_per_s)
        tokens: list[int] = []
        passes = proposed = accepted = 0
        last = model.start_token
        with model.open(encoded, limit) as state:
            while len(tokens) < limit:
                room = limit - len(tokens) - 1
                ahead = draft.ahead(tokens, min(self._draft_tokens, room)) if draft and room else []
                chosen = model.step(state, [last, *ahead]).argmax(axis=1).tolist()
                passes += 1
                proposed += len(ahead)
                right = next((index for index, token in enumerate(ahead) if token != chosen[index]), len(ahead))
                accepted += right
                for token in chosen[: right + 1]:
                    if token == model.end_token:
                        return Checked(tuple(tokens), passes, proposed, accepted)
                    tokens.append(token)
                # Fed and right so far: the start token and all of the text but its last token.
                model.rewind(state, len(tokens))
                last = tokens[-1]
        return Checked(tuple(tokens), passes, proposed, accepted)


class Speculative(Variant):
    """`decoder/speculative`."""

    id = "decoder/speculative"
    summary = "the attention decoder checks a CTC model's text, many tokens a pass; the text is that of aed-greedy"
    families = ("aed",)
    options = SpeculativeOptions

    @classmethod
    @contextmanager
    def _open_impl(cls, context: Context, options: SpeculativeOptions) -> Iterator[SpeculativeDecoder]:
        with open_drafter(context, options) as drafter:
            yield SpeculativeDecoder(context.parts["acoustic"], drafter, options.draft_tokens, options.search_again)


@contextmanager
def open_drafter(context: Context, options: DraftOptions) -> Iterator[tuple[AcousticModel, Decoder]]:
    """The CTC model of the options and its decoder, on the pipeline's own buffers and kernels.

    Raises:
        AmiraError: They are not here, or are not for CTC models.
    """
    parts = {axis: context.parts[axis] for axis in ("memory", "kernel")}
    draft = Context(context.models_dir, options.draft_model, context.threads, parts)
    names = {"acoustic": options.draft_acoustic, "decoder": options.draft_decoder}
    with ExitStack() as stack:
        for axis, name in names.items():
            variant = registry.get(name if name.startswith(f"{axis}/") else f"{axis}/{name}")
            if "ctc" not in variant.families:
                raise AmiraError(f"'{variant.id}' is not for CTC models, which drafts come from: see amira variants")
            given = options.draft_options if axis == "decoder" else {}
            parts[axis] = stack.enter_context(variant.open(draft, **given))
        parts["acoustic"].warm_up()
        yield parts["acoustic"], parts["decoder"]
