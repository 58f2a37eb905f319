"""The matched-pair test cuts and counts as NIST's description of it does, and calls chance what is chance."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest

from harness.metrics.mapsswe import matched_pairs, segments

REFERENCE = "it was the best of times it was the worst of times it was"
A = "its the best of times it is the worst of times or it was"
B = "it was the best times it won the test of times it was"


def test_segments_are_cut_where_both_had_two_words_right() -> None:
    """The example that explains the test: four segments, with 2, 0, 1, 1 and 0, 1, 2, 0 errors."""
    assert segments(REFERENCE, A, B) == [(2, 0), (0, 1), (1, 2), (1, 0)]


def test_the_statistic_is_the_mean_over_its_standard_error() -> None:
    found = matched_pairs([(REFERENCE, A, B)])
    differences = np.array([-2, 1, 1, -1])
    assert found.segments == 4
    assert found.mean == pytest.approx(differences.mean())
    assert found.z == pytest.approx(differences.mean() / (differences.std(ddof=1) / sqrt(4)))
    assert found.p_value is not None
    assert 0.7 < found.p_value < 0.8


def test_one_word_between_two_errors_does_not_part_them() -> None:
    assert segments("a b c d e", "x b y d e", "a b c d e") == [(2, 0)]
    assert segments("a b c d e f", "x b c y e f", "a b c d e f") == [(1, 0), (1, 0)]


def test_insertions_count_where_they_are() -> None:
    assert segments("a b c d", "a b c d", "uh a b c d um") == [(0, 1), (0, 1)]
    assert segments("a b", "", "a b") == [(2, 0)]


def test_equal_texts_and_empty_references() -> None:
    assert matched_pairs([("a b c", "a b c", "a b c"), ("", "x", "y")]).p_value is None
    same = matched_pairs([("a b c", "a x c", "a x c")])
    assert (same.segments, same.mean, same.p_value) == (1, 0, None)


def test_systems_that_err_alike_are_rarely_called_different() -> None:
    """5 % of the time, give or take: two systems with errors of their own at one rate."""
    rng = np.random.default_rng(4)
    words = [chr(97 + letter) * 3 for letter in range(26)]
    called = 0
    for _ in range(120):
        rows = []
        for _ in range(12):
            said = [words[place] for place in rng.integers(0, 26, 20)]
            sides = [" ".join("zzzz" if rng.random() < 0.08 else word for word in said) for _ in range(2)]
            rows.append((" ".join(said), *sides))
        p_value = matched_pairs(rows).p_value
        called += p_value is not None and p_value < 0.05
    assert called <= 14
