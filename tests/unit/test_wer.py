"""Error rates against a naive oracle, and intervals against known distributions."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.metrics.wer import (
    WordErrors,
    corpus_wer,
    count_character_errors,
    count_errors,
    paired_wer_difference,
)
from pipelines.errors import NothingMeasuredError

WORDS = st.lists(st.sampled_from("abcd"), max_size=8).map(" ".join)


def levenshtein(reference: list[str], hypothesis: list[str]) -> int:
    row = list(range(len(hypothesis) + 1))
    for i, left in enumerate(reference, 1):
        before, row[0] = row[0], i
        for j, right in enumerate(hypothesis, 1):
            before, row[j] = row[j], min(before + (left != right), row[j] + 1, row[j - 1] + 1)
    return row[-1]


@given(WORDS, WORDS)
def test_word_errors_are_the_edit_distance(reference: str, hypothesis: str) -> None:
    counts = count_errors(reference, hypothesis)
    assert counts.errors == levenshtein(reference.split(), hypothesis.split())
    assert counts.reference_length == len(reference.split())
    assert counts.hits + counts.substitutions + counts.insertions == len(hypothesis.split())


@given(WORDS, WORDS)
def test_character_errors_are_the_edit_distance(reference: str, hypothesis: str) -> None:
    counts = count_character_errors(reference, hypothesis)
    assert counts.errors == levenshtein(list(reference), list(hypothesis))
    assert counts.reference_length == len(reference)


def test_both_sides_are_normalised() -> None:
    assert count_errors("It is 15, Mr. Smith!", "it is fifteen mister smith") == WordErrors(5, 0, 0, 0)
    assert count_errors("the cat sat", "the cat sat on a mat") == WordErrors(3, 0, 0, 3)
    assert count_errors("the cat sat", "a cat") == WordErrors(1, 1, 1, 0)
    assert count_errors("...", "uh huh") == WordErrors(0, 0, 0, 2)


def some(errors: list[int], words: int = 10) -> list[WordErrors]:
    return [WordErrors(words - count, count, 0, 0) for count in errors]


def test_the_rate_is_pooled_over_words() -> None:
    counts = [WordErrors(9, 1, 0, 0), WordErrors(0, 0, 1, 0), WordErrors(0, 0, 0, 2)]
    rate = corpus_wer(counts, [None, None, None])
    assert rate.value == pytest.approx(4 / 11)
    assert (rate.utterances, rate.resampled) == (3, "utterances")


def test_perfect_and_hopeless() -> None:
    perfect = corpus_wer(some([0, 0, 0]), ["a", "b", "c"])
    assert (perfect.value, perfect.low, perfect.high) == (0, 0, 0)
    assert corpus_wer([WordErrors(0, 1, 0, 4)] * 2, ["a", "b"]).value == 5


def test_same_input_same_interval_other_seed_other_interval() -> None:
    counts = some(np.random.default_rng(0).integers(0, 10, 30).tolist())
    first, second = (corpus_wer(counts, [None] * 30) for _ in range(2))
    assert first == second
    assert corpus_wer(counts, [None] * 30, seed=1) != first
    assert first.low < first.value < first.high


def test_speakers_are_drawn_whole() -> None:
    # Two kinds of speakers: all utterances of one share their errors, so 40 utterances tell no more than 4 speakers.
    counts = some([0] * 20 + [5] * 20)
    speakers: list[str | None] = [f"s{n // 10}" for n in range(40)]
    by_speaker, by_utterance = corpus_wer(counts, speakers), corpus_wer(counts, [None] * 40)
    assert by_speaker.resampled == "speakers"
    assert by_speaker.high - by_speaker.low > 2 * (by_utterance.high - by_utterance.low)


def test_one_speaker_falls_back_to_utterances_and_says_so() -> None:
    rate = corpus_wer(some([0, 1, 2, 3]), ["a"] * 4)
    assert rate.resampled == "utterances"
    assert rate.low < rate.value < rate.high


def test_one_utterance_has_no_interval() -> None:
    rate = corpus_wer(some([3]), ["a"])
    assert rate.value == 0.3
    assert math.isnan(rate.low)
    assert math.isnan(rate.high)


def test_draws_without_reference_words_are_left_out() -> None:
    rate = corpus_wer([WordErrors(1, 0, 0, 0), WordErrors(0, 0, 0, 1)], [None, None])
    assert rate.value == 1
    assert np.isfinite([rate.low, rate.high]).all()


def test_nothing_to_score() -> None:
    with pytest.raises(NothingMeasuredError, match="none of the 0 utterances"):
        corpus_wer([], [])
    with pytest.raises(NothingMeasuredError, match="none of the 1 utterances"):
        corpus_wer([WordErrors(0, 0, 0, 1)], [None])
    with pytest.raises(ValueError, match="1 utterances, but 2 groups"):
        corpus_wer(some([1]), ["a", "b"])


def simulated(generator: np.random.Generator, speakers: int) -> tuple[list[WordErrors], list[str | None]]:
    """Four utterances of ten words by each speaker, whose error rate is drawn evenly from 0 to 0.4: mean 0.2."""
    rates = np.repeat(generator.uniform(0, 0.4, speakers), 4)
    return some(generator.binomial(10, rates).tolist()), [f"s{n // 4}" for n in range(4 * speakers)]


def test_the_interval_covers_the_true_rate_as_often_as_it_says() -> None:
    generator = np.random.default_rng(7)
    trials = 300
    covered = 0
    for _ in range(trials):
        rate = corpus_wer(*simulated(generator, 40), resamples=400)
        covered += rate.low <= 0.2 <= rate.high
    # 95 % promised; a percentile bootstrap of 40 speakers keeps 93 to 94 %, and 300 trials scatter by 1.4 points.
    assert 0.89 <= covered / trials <= 0.985


def test_difference_is_candidate_minus_baseline_and_narrower_than_either_rate() -> None:
    generator = np.random.default_rng(3)
    a, speakers = simulated(generator, 40)
    b = [WordErrors(one.hits - 1, one.substitutions + 1, 0, 0) if one.hits else one for one in a]
    found = paired_wer_difference(a, b, speakers)
    rate_a, rate_b = corpus_wer(a, speakers), corpus_wer(b, speakers)
    assert found.value == pytest.approx(rate_b.value - rate_a.value)
    assert 0 < found.low <= found.value <= found.high
    assert found.high - found.low < (rate_a.high - rate_a.low) / 2
    back = paired_wer_difference(b, a, speakers)
    assert (back.value, back.low, back.high) == pytest.approx((-found.value, -found.high, -found.low), abs=1e-3)


def test_no_difference_is_exactly_none() -> None:
    counts, speakers = simulated(np.random.default_rng(0), 5)
    found = paired_wer_difference(counts, counts, speakers)
    assert (found.value, found.low, found.high, found.utterances) == (0, 0, 0, 20)


def test_two_sides_must_be_of_the_same_utterances() -> None:
    with pytest.raises(ValueError, match="references of the two sides differ"):
        paired_wer_difference(some([1], words=10), some([1], words=9), [None])


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 10), st.sampled_from(["a", "b", None])), min_size=2, max_size=12))
def test_the_interval_lies_between_the_best_and_the_worst_utterance(rows: list[tuple[int, str | None]]) -> None:
    errors = [count for count, _ in rows]
    rate = corpus_wer(some(errors), [speaker for _, speaker in rows], resamples=200)
    assert min(errors) / 10 - 1e-12 <= rate.low <= rate.high <= max(errors) / 10 + 1e-12
