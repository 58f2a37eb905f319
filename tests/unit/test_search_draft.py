"""Drafts from a search behind what is written: the text so far is the beginning, and what was heard goes on from it."""

from __future__ import annotations

import itertools
import types
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from kernels import ctc_prefix
from pipelines.acoustic.tokens import TokenList
from pipelines.contracts import Encoded, Hypothesis, LogProbs
from pipelines.decode import ngram
from pipelines.decode.aed_greedy import GreedyDecoder
from pipelines.decode.beam import BeamDecoder, BeamOptions
from pipelines.decode.search_draft import Heard, PrefixSearch, SearchDraft
from pipelines.decode.speculative import SpeculativeDecoder
from pipelines.errors import AmiraError
from tests.unit.test_speculative import TABLE, Parrot, clip

SIGNS = ["<blk>", " ", *"abcehinopst'"]
SHIFT_S = 0.024


def labels(signs: Sequence[str] = SIGNS) -> types.SimpleNamespace:
    return types.SimpleNamespace(vocabulary=TokenList(signs, 0), frame_shift_s=SHIFT_S)


def heard(text: str, sure: float = 0.9, pause: int = 0) -> np.ndarray:
    """A CTC output: each sign for a frame, a blank behind each, and `pause` more at an underscore."""
    said: list[str] = []
    for sign in text:
        said += ["<blk>"] * pause if sign == "_" else [sign, "<blk>"]
    probabilities = np.full((len(said), len(SIGNS)), (1 - sure) / (len(SIGNS) - 1), np.float32)
    probabilities[np.arange(len(said)), [SIGNS.index(sign) for sign in said]] = sure
    return np.log(probabilities)


@pytest.fixture
def decoder(tmp_path: Path) -> BeamDecoder:
    """A beam with a bigram in which "hat" follows "a", and "pit" follows "the"."""
    arpa = tmp_path / "small.arpa"
    arpa.write_text(
        "\\data\\\nngram 1=9\nngram 2=3\n\n\\1-grams:\n"
        + "\n".join(f"-1.0\t{word}\t-0.5" for word in ("<unk>", "<s>", "</s>", "a", "the", "hat", "pit", "cat", "sat"))
        + "\n\n\\2-grams:\n-0.1\t<s> the\n-0.1\tthe pit\n-0.1\ta hat\n\n\\end\\\n"
    )
    model = labels()
    return BeamDecoder(model, BeamOptions(width=16), ngram.load(str(arpa), model.vocabulary))  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["", "a", "aa", "ab", "aba"])
def test_a_texts_probability_is_the_sum_over_its_alignments(text: str) -> None:
    rng = np.random.default_rng(5)
    log_probs = np.log(rng.dirichlet(np.ones(3), 5)).astype(np.float32)  # blank, a, b
    ends = np.full((6, 2), -np.inf)
    ends[0, 0], ends[1:, 0] = 0, np.cumsum(log_probs[:, 0])
    rest = np.append(np.cumsum(log_probs.max(axis=1)[::-1])[::-1], 0.0).astype(np.float64)
    last, window = -1, np.array([0, 5])
    for sign in text:
        label, after = "-ab".index(sign), np.full_like(ends, -np.inf)
        assert ctc_prefix.extend().call(log_probs, 0, last, label, rest, ends, after, window) == 5
        ends, last = after, label
    for frames in range(6):
        wanted = np.zeros(2)
        for path in itertools.product(range(3), repeat=frames):
            collapsed = "".join("-ab"[label] for label, _ in itertools.groupby(path) if label)
            if collapsed == text:
                in_blank = not path or path[-1] == 0
                wanted[0 if in_blank else 1] += np.exp(sum(log_probs[t, label] for t, label in enumerate(path)))
        np.testing.assert_allclose(np.exp(ends[frames]), wanted, atol=1e-7)
    assert ctc_prefix.extend().call(log_probs, 0, -1, 1, rest, ends[:3].copy(), ends[:3].copy(), window) == -1


def test_frames_far_from_where_a_text_ends_are_left_out() -> None:
    """Beside sums over all frames: the same where it matters, and nothing elsewhere."""
    said = np.log(np.full((60, 3), 1e-15, np.float32))
    said[np.arange(60), [1 if t % 20 == 10 else 2 if t % 20 == 15 else 0 for t in range(60)]] = 0
    rest = np.append(np.cumsum(said.max(axis=1)[::-1])[::-1], 0.0).astype(np.float64)
    ends, window, last = np.full((61, 2), -np.inf), np.array([0, 11]), -1
    ends[0, 0], ends[1:, 0] = 0, np.cumsum(said[:, 0])
    whole = ends
    for label in (1, 2, 1):
        after, everywhere = np.full_like(ends, -np.inf), np.full_like(ends, -np.inf)
        ctc_prefix.extend().call(said, 0, last, label, rest, ends, after, window)
        for t in range(60):
            begins = whole[t, 0] if last == label else np.logaddexp(*whole[t])
            everywhere[t + 1, 1] = np.logaddexp(begins, everywhere[t, 1]) + said[t, label]
            everywhere[t + 1, 0] = np.logaddexp(*everywhere[t]) + said[t, 0]
        ends, whole, last = after, everywhere, label
    low, high = window.tolist()
    assert (low, high) == (31, 36)  # from the second of label 1 to behind the label 2 that follows it
    np.testing.assert_allclose(np.exp(ends[low : high + 1]), np.exp(whole[low : high + 1]), atol=1e-9)
    assert np.isneginf(ends[:low]).all()
    assert np.isneginf(ends[high + 1 :]).all()


def test_the_search_goes_on_behind_the_text(decoder: BeamDecoder) -> None:
    search = PrefixSearch(decoder, heard("the pit a hat"))
    for said, follows in (("", "the pit a hat"), ("the", " pit a hat"), ("the p", "it a hat"), ("the pit a hat", "")):
        search.say(said)
        found = search.search(1000, 1000)
        assert found is not None
        assert (found.text, found.ended) == (follows, True)
    search.say("the cat")  # taken back, and another word than was heard
    found = search.search(1000, 1000)
    assert found is not None
    assert found.text == " a hat"
    search.say("the")
    found = search.search(8, 1000)
    assert found is not None
    assert not found.ended
    assert " pit a hat".startswith(found.text)


def test_what_is_written_decides_what_an_unclear_word_is(decoder: BeamDecoder) -> None:
    log_probs = heard("the hat")
    log_probs[8:12] = np.log(1 / len(SIGNS))  # of the second word only its t is clear
    search = PrefixSearch(decoder, log_probs)
    for said, follows in (("the", " pit"), ("the h", "at"), ("the p", "it"), ("the c", "at")):
        search.say(said)
        found = search.search(1000, 1000)
        assert found is not None
        assert found.text == follows


def test_pauses_become_commas_and_letters_complete_words(decoder: BeamDecoder) -> None:
    draft = SearchDraft(PrefixSearch(decoder, heard("the cat_ sat", pause=30)), TABLE, SHIFT_S)
    assert TABLE.text(draft.ahead([], 30)) == "The cat, sat."
    assert TABLE.text(draft.ahead(TABLE.encode("The"), 30)) == "cat, sat."
    assert TABLE.text(draft.ahead(TABLE.encode("The c"), 30)) == "at, sat."
    assert TABLE.text(draft.ahead(TABLE.encode("The cat,"), 30)) == "sat."
    assert draft.ahead(TABLE.encode("The cat, sat."), 30) == []
    assert len(draft.ahead(TABLE.encode("The"), 2)) == 2


def test_a_text_that_the_clip_has_no_room_for_has_no_draft(decoder: BeamDecoder) -> None:
    search = PrefixSearch(decoder, heard("a"))
    search.say("the cat sat")
    assert search.search(100, 100) is None
    assert SearchDraft(search, TABLE, SHIFT_S).ahead(TABLE.encode("The cat sat"), 5) == []


class _Listener:
    """A CTC model that hears what it is told to."""

    def __init__(self, log_probs: np.ndarray) -> None:
        self.log_probs = log_probs

    def infer(self, batch: object) -> LogProbs:
        return LogProbs(self.log_probs[None], np.array([len(self.log_probs)]))


@pytest.mark.parametrize("written", ["The cat sat on the cat.", "The cat, a hat.", "The pit. The cat", "Phi, phi!", ""])
@pytest.mark.parametrize("sounds", ["the cat sat on the cat", "the pat a at", "cat", "ooo ooo ooo ooo"])
def test_whatever_was_heard_the_text_is_greedys(decoder: BeamDecoder, written: str, sounds: str) -> None:
    model = Parrot(TABLE.encode(written) if written else [])
    encoded: Encoded = clip(20)
    [wanted], steps = GreedyDecoder(model).decode(encoded)
    listener = _Listener(heard(sounds))
    speculative = SpeculativeDecoder(model, (listener, decoder), 5, search_again=True)  # type: ignore[arg-type]
    draft = speculative.draft(None)  # type: ignore[arg-type]
    assert isinstance(draft[0], Heard)
    [found], passes = speculative.check(encoded, draft)
    assert found.tokens == wanted.tokens
    assert passes <= steps
    if sounds == "the cat sat on the cat" and written.startswith("The cat sat"):
        assert passes <= -(-steps // 6) + 1
    [plain], single = speculative.check(encoded, (Hypothesis("", (), 0.0),))
    assert (plain.tokens, single) == (wanted.tokens, steps)


def test_search_again_needs_a_beam_and_a_space(decoder: BeamDecoder) -> None:
    with pytest.raises(AmiraError, match="decoder/beam"):
        SpeculativeDecoder(Parrot([]), None, 5, search_again=True)
    spaceless = BeamDecoder(labels(["<blk>", "a"]), BeamOptions(), None)  # type: ignore[arg-type]
    with pytest.raises(AmiraError, match="space between words"):
        PrefixSearch(spaceless, np.zeros((3, 2), np.float32))


def test_without_an_ngram_the_search_goes_on_too() -> None:
    bare = BeamDecoder(labels(), BeamOptions(width=8), None)  # type: ignore[arg-type]
    search = PrefixSearch(bare, heard("the cat sat"))
    search.say("the c")
    found = search.search(1000, 1000)
    assert found is not None
    assert found.text == "at sat"
