"""The prefix beam search against the sum over every alignment, and against every word sequence."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from pipelines.contracts import LogProbs
from pipelines.decode import ngram
from pipelines.decode.beam import BeamDecoder, BeamOptions
from pipelines.errors import AmiraError
from tests.small_ctc import LABELS
from tests.synthetic_ctc import ARPA, model, peaky, sentence

EXACT = {"width": 4096, "threshold": 1000.0, "token_floor": -1000.0, "lag_frames": 0, "nbest": 1000}
SOME = (0, 1, 3, 4)  # blank, space, a, b


def whole(values: np.ndarray) -> LogProbs:
    return LogProbs(values[None], np.array([len(values)]))


def few_labels(frames: int, seed: int) -> np.ndarray:
    """Log-probabilities in which only the labels of `SOME` are possible."""
    rng = np.random.default_rng(seed)
    values = np.full((frames, len(LABELS)), -np.inf, np.float32)
    values[:, SOME] = np.log(rng.dirichlet(np.ones(len(SOME)), frames))
    return values


def totals(values: np.ndarray) -> dict[str, float]:
    """The probability of every token sequence's text, by summing over every alignment."""
    found: dict[str, float] = {}
    for path in product(SOME, repeat=len(values)):
        kept = [label for label, before in zip(path, (0, *path), strict=False) if label not in (0, before)]
        text = model().vocabulary.text(kept)
        trailing = bool(kept) and kept[-1] == 1 and text != ""
        key = text + " " * trailing
        found[key] = found.get(key, 0.0) + float(np.exp(sum(values[t, label] for t, label in enumerate(path))))
    return found


@pytest.mark.parametrize("seed", range(6))
def test_scores_are_sums_over_all_alignments(seed: int) -> None:
    values = few_labels(6, seed)
    [readings] = BeamDecoder(model(), BeamOptions(**EXACT), None).decode(whole(values))
    expected = totals(values)
    for reading in readings:
        spelled = "".join(model().vocabulary.piece(token) for token in reading.tokens)
        key = reading.text + " " * (spelled.endswith(" ") and reading.text != "")
        assert np.exp(reading.score) == pytest.approx(expected[key], rel=1e-4)
    best = max(expected, key=lambda text: expected[text])
    assert readings[0].text == best.strip()
    assert [reading.score for reading in readings] == sorted((reading.score for reading in readings), reverse=True)


def test_a_narrow_beam_agrees_where_the_model_is_sure() -> None:
    narrow = BeamDecoder(model(), BeamOptions(width=4), None)
    wide = BeamDecoder(model(), BeamOptions(width=512), None)
    for seed in range(8):
        values = whole(peaky(sentence(seed), seed, doubt=0.05))
        assert narrow.decode(values)[0][0].text == wide.decode(values)[0][0].text == sentence(seed)


def test_what_differs_for_too_long_is_dropped() -> None:
    values = peaky(sentence(3, words=20), 3, doubt=0.4)
    stable = {}
    for lag in (0, 64):
        stream = BeamDecoder(model(), BeamOptions(lag_frames=lag), None).stream()
        stable[lag] = stream.push(values).stable_chars
        total = len(stream.finish()[0].text)
    assert stable[64] > total / 2 > stable[0]


@pytest.fixture
def arpa(tmp_path: Path) -> Path:
    path = tmp_path / "small.arpa"
    path.write_text(ARPA, "utf-8")
    return path


def log10(words: list[str]) -> float:
    """The n-gram's log10 probability of a sentence, by the book."""
    singles: dict[str, tuple[float, float]] = {}
    pairs: dict[tuple[str, str], float] = {}
    unigrams, bigrams = ARPA.split("\\2-grams:")
    for line in (line.split() for line in unigrams.splitlines() if line.startswith("-")):
        singles[line[1]] = float(line[0]), float(line[2]) if len(line) > 2 else 0.0
    for line in (line.split() for line in bigrams.splitlines() if line.startswith("-")):
        pairs[line[1], line[2]] = float(line[0])
    total, before = 0.0, "<s>"
    for word in [*words, "</s>"]:
        known = word if word in singles else "<unk>"
        if (before, known) in pairs:
            total += pairs[before, known]
        else:
            total += singles[before][1] + singles[known][0]
        before = known
    return total


@pytest.mark.parametrize(
    "text", ["the cat sat on the mat", "an ant", "mat the on", "the zebra sat", "qq", "the mat a cat"]
)
def test_the_language_model_adds_what_it_says(arpa: Path, text: str) -> None:
    options = BeamOptions(lm=str(arpa), lm_weight=0.7, word_bonus=1.1, unknown_penalty=-3.0, width=64)
    plain = BeamDecoder(model(), BeamOptions(width=64), None)
    fused = BeamDecoder(model(), options, ngram.load(str(arpa), model().vocabulary))
    values = whole(peaky(text, 1, doubt=0.0))
    [[without, *_]], [[with_lm, *_]] = plain.decode(values), fused.decode(values)
    assert without.text == with_lm.text == text
    words = text.split()
    unknown = sum(word in ("zebra", "qq") for word in words)
    gain = 0.7 * np.log(10) * log10(words) + 1.1 * len(words) - 3.0 * unknown
    assert with_lm.score - without.score == pytest.approx(gain, abs=0.01)  # the beams lose different tails


def test_the_language_model_mends_what_the_frames_leave_open(arpa: Path) -> None:
    values = peaky("the cat sat", 2, doubt=0.0)
    spike = int(np.flatnonzero(values.argmax(axis=1) == LABELS.index("c"))[0])
    values[spike : spike + 2] = values[spike : spike + 2].min()
    values[spike, LABELS.index("c")], values[spike, LABELS.index("k")] = np.log([0.4, 0.6])
    plain = BeamDecoder(model(), BeamOptions(), None)
    fused = BeamDecoder(model(), BeamOptions(lm=str(arpa)), ngram.load(str(arpa), model().vocabulary))
    assert plain.decode(whole(values))[0][0].text == "the kat sat"
    assert fused.decode(whole(values))[0][0].text == "the cat sat"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\\data\\\nngram 1=2\n\n\\1-grams:\n-1 a\n", "1-grams"),
        ("not a language model", "small.arpa"),
        (ARPA.replace("-0.6 the cat", "x the cat"), "small.arpa:"),
    ],
)
def test_a_language_model_that_does_not_parse(arpa: Path, text: str, message: str) -> None:
    arpa.write_text(text, "utf-8")
    with pytest.raises(AmiraError, match=message):
        ngram.load(str(arpa), model().vocabulary)


def test_a_language_model_that_is_not_there() -> None:
    with pytest.raises(AmiraError, match=r"nowhere\.arpa does not exist"):
        ngram.load("nowhere.arpa", model().vocabulary)


@pytest.mark.parametrize(
    ("name", "value"),
    [("width", 0), ("width", 10**9), ("threshold", 0), ("threshold", float("nan")), ("token_floor", 1), ("nbest", 0)],
)
def test_beams_of_no_or_absurd_size(name: str, value: float) -> None:
    with pytest.raises(ValidationError, match=name):
        BeamOptions(**{name: value})
