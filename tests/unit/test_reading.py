"""The reading graph: what a reader did with a text, found in log-probabilities of what was said."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.plan import parse_plan
from pipelines.assemble import CtcRecognizer, Pipeline
from pipelines.contracts import ExpectingDecoder, Hypothesis, LogProbs
from pipelines.decode.reading import KEPT_GRAPHS, ReadingDecoder, ReadingOptions
from pipelines.errors import AmiraError
from pipelines.graphs.reading import MAX_WORDS, expected_words
from tests.synthetic_ctc import model, peaky

pytest.importorskip("kaldifst")

TEXT = "The cat sat on that mat."


@pytest.fixture(scope="module")
def decoder() -> Iterator[ReadingDecoder]:
    opened = ReadingDecoder(model(), ReadingOptions())
    yield opened
    opened.graphs.close()


def read(decoder: ReadingDecoder, said: str, text: str = TEXT) -> Hypothesis:
    values = peaky(said, 1, doubt=0.02)
    [[best, *_]] = decoder.expecting(text).decode(LogProbs(values[None], np.array([len(values)])))
    return best


@pytest.mark.parametrize(
    ("said", "statuses", "heard"),
    [
        ("the cat sat on that mat", "read read read read read read", "the cat sat on that mat"),
        ("the cat on that mat", "read read skipped read read read", "the cat on that mat"),
        ("the cat sat", "read read read skipped skipped skipped", "the cat sat"),
        ("the dog sat on that mat", "read misread read read read read", "the dog sat on that mat"),
        ("the cat cat sat on that mat", "read repeated read read read read", "the cat cat sat on that mat"),
        ("the cat the cat sat on that mat", "repeated repeated read read read read", "the cat the cat sat on that mat"),
        ("the ca cat sat on that mat", "read read read read read read", "the ca cat sat on that mat"),
        ("the big cat sat on that mat", "read read read read read read", "the big cat sat on that mat"),
    ],
)
def test_says_how_each_word_was_read(decoder: ReadingDecoder, said: str, statuses: str, heard: str) -> None:
    best = read(decoder, said)
    assert " ".join(word.status for word in best.reading) == statuses
    assert best.text == heard
    assert [word.word for word in best.reading] == ["The", "cat", "sat", "on", "that", "mat"]
    assert [word.text for word in best.words] == heard.split()
    for word in best.reading:
        if word.status == "skipped":
            assert math.isnan(word.start_s)
            assert word.said == ""
        else:
            assert 0 < word.start_s < word.end_s
            assert 0 < word.confidence <= 1
    assert all(first.end_s <= second.start_s for first, second in pairwise(best.words))


def test_false_starts_and_words_put_in_are_told(decoder: ReadingDecoder) -> None:
    begun = read(decoder, "the ca cat sat on that mat").reading[1]
    assert (begun.said, begun.attempts) == ("cat", 2)
    put_in = read(decoder, "the big cat sat on that mat").reading[1]
    assert (put_in.said, put_in.attempts, put_in.before) == ("cat", 1, ("big",))


def test_times_are_when_the_word_was_said(decoder: ReadingDecoder) -> None:
    values = peaky("the cat", 1, doubt=0.0)
    [[best]] = decoder.expecting("the cat").decode(LogProbs(values[None], np.array([len(values)])))
    spikes = np.flatnonzero(values.argmax(axis=1))
    assert best.words[0].start_s == pytest.approx(spikes[0] * 0.024)
    assert best.words[1].end_s == pytest.approx((spikes[-1] + 1) * 0.024)


def test_the_text_helps_where_the_sound_is_unclear(decoder: ReadingDecoder) -> None:
    values = np.log(
        0.6 * np.exp(peaky("the cot sat on that mat", 1, doubt=0.02))
        + 0.4 * np.exp(peaky("the cat sat on that mat", 1, doubt=0.02))
    )
    [[best]] = decoder.expecting(TEXT).decode(LogProbs(values[None].astype(np.float32), np.array([len(values)])))
    assert best.text == "the cat sat on that mat"


@settings(max_examples=25, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1000), doubt=st.floats(0, 0.6), cuts=st.lists(st.integers(0, 200), max_size=20))
def test_a_stream_ends_as_the_whole_clip_does(
    decoder: ReadingDecoder, seed: int, doubt: float, cuts: list[int]
) -> None:
    values = peaky("the cat the cat sat on a mat", seed, doubt=doubt)
    bound = decoder.expecting(TEXT)
    stream, stable = bound.stream(), ""
    edges = sorted({0, len(values), *(cut for cut in cuts if cut < len(values))})
    for start, end in pairwise(edges):
        partial = stream.push(values[start:end])
        assert partial.text[: len(stable)] == stable
        assert len(stable) <= partial.stable_chars <= len(partial.text)
        stable = partial.text[: partial.stable_chars]
    [best] = stream.finish()
    [[whole]] = bound.decode(LogProbs(values[None], np.array([len(values)])))
    assert best.text == whole.text
    assert [word.status for word in best.reading] == [word.status for word in whole.reading]
    assert best.text[: len(stable)] == stable


def test_nothing_said_is_everything_skipped(decoder: ReadingDecoder) -> None:
    silence = np.full((1, 1, len(model().vocabulary)), -9, np.float32)
    silence[:, :, 0] = -0.01
    [[best]] = decoder.expecting("the cat").decode(LogProbs(silence, np.array([1])))
    assert (best.text, [word.status for word in best.reading]) == ("", ["skipped", "skipped"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no words"),
        (" ... !", "has no words"),
        ("word " * (MAX_WORDS + 1), f"at most {MAX_WORDS}"),
        ("the 7 cats", "cannot spell: 7"),
    ],
)
def test_texts_that_cannot_be_followed(decoder: ReadingDecoder, text: str, message: str) -> None:
    with pytest.raises(AmiraError, match=message):
        decoder.expecting(text)


def test_without_a_text_it_says_what_is_missing(decoder: ReadingDecoder) -> None:
    with pytest.raises(AmiraError, match="none was given"):
        decoder.decode(LogProbs(np.zeros((1, 1, 29), np.float32), np.array([1])))
    assert isinstance(decoder, ExpectingDecoder)


def test_words_of_a_text() -> None:
    assert expected_words("“Don’t stop,” she said—well-known!") == ["Don't", "stop", "she", "said", "well", "known"]


def test_graphs_are_built_once_and_in_the_background() -> None:
    opened = ReadingDecoder(model(), ReadingOptions())
    first = opened.graphs.prepare("the cat")
    assert opened.graphs.prepare("the cat") is first
    assert opened.graphs.get("the cat") is first.result()
    for index in range(KEPT_GRAPHS):
        opened.graphs.prepare("a cat " * (index + 1))
    assert opened.graphs.prepare("the cat") is not first
    opened.graphs.close()


def test_a_plan_may_hand_the_reference_to_those_who_follow_a_text() -> None:
    source = Path("experiments/013-reading/plan.toml").read_text("utf-8")
    assert parse_plan(source, Path("plan.toml")).expected_text == "reference"
    with pytest.raises(AmiraError, match="expected_text"):
        parse_plan(source.replace('"reference"', '"prompt"'), Path("plan.toml"))


def test_pipelines_say_whether_they_follow_a_text(decoder: ReadingDecoder) -> None:
    opened = Pipeline(CtcRecognizer(None, None, None, decoder))  # type: ignore[arg-type]
    assert opened.follows_text
    assert isinstance(opened.expecting("the cat"), Pipeline)
    other = Pipeline(CtcRecognizer(None, None, None, decoder.expecting("the cat")))  # type: ignore[arg-type]
    assert not other.follows_text
    with pytest.raises(AmiraError, match="cannot follow an expected text"):
        other.expecting("the cat")
