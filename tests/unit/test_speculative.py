"""Speculative decoding: whatever the draft, the text is that of greedy decoding, in fewer passes where it helps."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.acoustic.vocabulary import BLANK, BYTES, TokenTable
from pipelines.contracts import AudioBatch, DraftingDecoder, Encoded, Hypothesis
from pipelines.decode.aed_greedy import GreedyDecoder
from pipelines.decode.draft import WordDraft
from pipelines.decode.rescore import RescoringDecoder
from pipelines.decode.speculative import SpeculativeDecoder
from pipelines.errors import AmiraError

MERGES = ["th", "the", "▁the", "▁T", "▁The", "at", "▁c", "▁cat", "▁s", "▁sat", "on", "▁on", "▁S", "▁P", "hi", "▁a"]
CHARACTERS = ["▁", *"abcdefghijklmnopqrstuvwxyzTSP.,'!?"]
TABLE = TokenTable(
    [
        b"<unk>",
        b"<s>",
        b"</s>",
        *(bytes([value]) for value in range(256)),
        *(m.encode() for m in [*MERGES, *CHARACTERS]),
    ]
)
START, END = 1, 2


class Parrot:
    """An encoder-decoder that always says the same tokens, and something else after anything that it did not say."""

    vocabulary = TABLE
    frame_shift_s = 0.024
    start_token, end_token = START, END
    max_tokens_per_s = 6.5
    min_samples = 1
    max_step_tokens = 16

    def __init__(self, tokens: Sequence[int]) -> None:
        self.tokens = [*tokens, END]
        self.fed: list[int] = []

    def warm_up(self) -> None: ...

    @contextmanager
    def encode(self, batch: AudioBatch) -> Iterator[Encoded]:
        yield clip(1.0)

    @contextmanager
    def open(self, encoded: Encoded, max_tokens: int) -> Iterator[int]:
        self.fed, self.room = [], max_tokens
        yield 0

    def step(self, state: Any, tokens: Sequence[int]) -> np.ndarray:
        assert 1 <= len(tokens) <= self.max_step_tokens
        assert len(self.fed) + len(tokens) <= self.room
        logits = np.zeros((len(tokens), len(TABLE)), np.float32)
        for row, token in enumerate(tokens):
            self.fed.append(token)
            said = [START, *self.tokens]
            right = self.fed == said[: len(self.fed)]
            logits[row, said[len(self.fed)] if right else (sum(self.fed) * 7919) % len(TABLE)] = 1
        return logits

    def rewind(self, state: Any, length: int) -> None:
        assert 0 <= length <= len(self.fed)
        del self.fed[length:]


def clip(seconds: float) -> Encoded:
    return Encoded(np.zeros((1, 1, 416), np.float32), np.array([1]), (seconds,))


@given(st.text(st.sampled_from([*"abctheT .,'é"]), max_size=60))
def test_tokens_give_back_the_text(text: str) -> None:
    text = " ".join(text.split())
    assert TABLE.text(TABLE.encode(text)) == text


def test_text_is_merged_in_the_order_of_the_table() -> None:
    def pieces(text: str, **options: bool) -> list[str]:
        return [TABLE.text([token]) for token in TABLE.encode(text, **options)]

    assert pieces("the cat") == ["the", "cat"]
    assert pieces("that") == ["", "th", "at"]  # "▁th" is no token
    assert pieces("at", begins_word=False) == ["at"]
    assert TABLE.encode("é", begins_word=False) == [BYTES[value] for value in "é".encode()]
    assert TABLE.begins_word(TABLE.encode("cat")[0])
    assert not TABLE.begins_word(TABLE.encode("at", begins_word=False)[0])
    assert BLANK.encode() in [TABLE._tokens[token] for token in TABLE.encode(".")]


@pytest.mark.parametrize("seed", range(60))
def test_whatever_the_draft_the_text_is_greedys(seed: int) -> None:
    rng = random.Random(seed)
    words = rng.choices(["the", "The", "cat", "sat,", "on", "a", "Phi", "pat.", "it's"], k=rng.randint(0, 14))
    model = Parrot(TABLE.encode(" ".join(words)))
    seconds = rng.choice([0.2, 1.0, 20.0])  # the first two cut the text off at the length limit
    [wanted], steps = GreedyDecoder(model).decode(clip(seconds))
    drafted = [word.lower().strip(",.") for word in words]
    for _ in range(rng.randint(0, 3)):
        at = rng.randint(0, len(drafted))
        drafted[at : at + rng.randint(0, 2)] = rng.choices(["the", "cot", "fi", "on", "zebra"], k=rng.randint(0, 2))
    decoder = SpeculativeDecoder(model, None, rng.choice([1, 3, 7, 15]))
    [found], passes = decoder.check(clip(seconds), (Hypothesis(" ".join(drafted), (), 0.0),))
    assert found.tokens == wanted.tokens
    assert found.text == wanted.text
    assert passes <= steps
    [undrafted], single = decoder.decode(clip(seconds))
    assert (undrafted.tokens, single) == (wanted.tokens, steps)


def test_a_good_draft_saves_most_passes_and_a_bad_one_none() -> None:
    text = "The cat sat on the cat, the cat on a cat."
    model = Parrot(TABLE.encode(text))
    decoder = SpeculativeDecoder(model, None, 15)
    good = decoder.checked(clip(20), ["the", "cat", "sat", "on", "the", "cat", "the", "cat", "on", "a", "cat"])
    assert good.passes == 2  # the comma is the one thing that the draft could not know
    assert good.accepted >= len(good.tokens) - 1
    bad = decoder.checked(clip(20), ["zebra"] * 9)
    assert bad.passes == len(bad.tokens) + 1 - bad.accepted
    assert bad.tokens == good.tokens


@pytest.mark.parametrize(
    ("written", "draft", "next_words"),
    [
        ("", "the cat sat", "The cat sat."),
        ("The", "the cat sat", "cat sat."),
        ("The cat,", "the cat sat", "sat."),
        ("The c", "the cat sat", "at sat."),
        ("The dog", "the cat sat", "sat."),
        ("The cat sat.", "the cat sat", ""),
        ("The cat.", "the cat sat on", "Sat on."),
        ("A big cat", "a cat sat", "sat."),
        ("", "yes the cat but the cat", "Yes, the cat, but the cat."),
        ("Yes", "yes the cat but the cat", ", the cat, but the cat."),
        ("Yes, the cat,", "yes the cat but the cat", "but the cat."),
        ("The", "cat sat", "sat."),  # a word in place of "cat" is likelier than one more
    ],
)
def test_the_draft_is_followed_from_where_the_text_is(written: str, draft: str, next_words: str) -> None:
    ahead = WordDraft(draft.split(), TABLE).ahead(TABLE.encode(written) if written else [], 30)
    assert TABLE.text(ahead) == next_words


def test_is_a_drafting_decoder_and_refuses_models_without_room() -> None:
    model = Parrot([])
    assert isinstance(SpeculativeDecoder(model, None, 7), DraftingDecoder)
    assert not isinstance(GreedyDecoder(model), DraftingDecoder)
    model.max_step_tokens = 1
    with pytest.raises(AmiraError, match="no room for a draft of 7"):
        SpeculativeDecoder(model, None, 7)


def test_rescoring_weighs_both_models() -> None:
    model = Parrot(TABLE.encode("The cat sat."))
    draft = (Hypothesis("the cot sat", (), -1.0), Hypothesis("the cat sat", (), -2.0))
    for weight, best in ((0.0, "The cot sat."), (1.0, "The cat sat.")):
        ranked, passes = RescoringDecoder(model, None, weight).check(clip(20), draft)
        assert [ranked[0].text, len(ranked), passes] == [best, 2, 2]
        assert ranked[0].score >= ranked[1].score


def test_a_text_has_the_probability_of_its_tokens() -> None:
    tokens = TABLE.encode("The cat sat on a cat, on the cat, on a cat.")
    model = Parrot(tokens)
    decoder = RescoringDecoder(model, None, 1.0)
    row = np.zeros(len(TABLE))
    row[0] = 1  # the parrot's logits: 1 for what it says, 0 for everything else
    each = 1 - np.log(np.exp(row).sum())
    found, passes = decoder.log_prob(clip(20), tokens)
    assert found == pytest.approx(each * (len(tokens) + 1))
    assert passes == -(-(len(tokens) + 1) // model.max_step_tokens)
    assert decoder.log_prob(clip(0.2), tokens) == (-np.inf, 0)
    [plain], _ = decoder.decode(clip(20))
    assert plain.tokens == tuple(tokens)
