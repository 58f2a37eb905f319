"""Character errors, age groups and confusions of a run's cases."""

from __future__ import annotations

import pytest

from harness.metrics.confusions import confusions
from harness.records import Utterance
from harness.scores import Scores


def utterance(name: str, text: str | None, *, age: float | None = None, corpus: str = "c") -> Utterance:
    return Utterance(id=name, corpus=corpus, text=text, speaker=name, duration_s=1, sha256="", age=age)


ROWS = [
    utterance("a", "the cat sat", age=6),
    utterance("b", "the dog ran", age=9.5),
    utterance("d", "a bird flew", age=18),
    utterance("e", "no age here"),
    utterance("f", "other", corpus="o"),
]
SAID = {"a": "the cat", "b": "the dog ran", "d": "a bird blew", "e": "oh no age hear", "f": "other"}


@pytest.fixture
def scores() -> Scores:
    return Scores({row.id: row for row in ROWS}, {"x": SAID})


def test_wer_by_age(scores: Scores) -> None:
    found = scores.wer_by_age("x")
    assert set(found) == {"c"}
    assert {age: (rate["value"], rate["utterances"]) for age, rate in found["c"].items()} == {
        "under 8": (pytest.approx(1 / 3), 1),
        "8 to 10": (0.0, 1),
        "18 and over": (pytest.approx(1 / 3), 1),
    }


def test_cer_counts_characters(scores: Scores) -> None:
    found = scores.cer("x")
    # " sat" is missing, "flew" became "blew", "oh " came in, "here" became "hear"
    assert found["c"]["value"] == pytest.approx((4 + 1 + 3 + 2) / 44)
    assert found["o"]["value"] == 0


def test_a_difference_in_all_corpora_counts_each_word_once() -> None:
    right = {row.id: row.text or "" for row in ROWS}
    scores = Scores({row.id: row for row in ROWS}, {"right": right, "said": SAID})
    found = scores.difference_in_all("said", "right")
    assert found is not None
    # of 13 words one is missing, two are wrong, and one came in
    assert (found["value"], found["utterances"]) == (pytest.approx(4 / 13), 5)
    assert scores.difference("said", "right")["o"]["value"] == 0
    one = Scores({row.id: row for row in ROWS[:3]}, {"right": right, "said": SAID})
    assert one.difference_in_all("said", "right") is None


def test_confusions(scores: Scores) -> None:
    assert scores.confusions("x") == {
        "substituted": [
            {"word": "flew", "became": "blew", "count": 1},
            {"word": "here", "became": "hear", "count": 1},
        ],
        "deleted": [{"word": "sat", "count": 1}],
        "inserted": [{"word": "oh", "count": 1}],
    }
    assert scores.confusions("nothing") == {"substituted": [], "deleted": [], "inserted": []}


def test_the_most_frequent_come_first_and_few() -> None:
    pairs = [("a b", "a x")] * 3 + [("c", "y")] * 2 + [("d", "z"), ("", "only this"), ("Mr. B", "mister b")]
    found = confusions(pairs, most=2)
    assert found["substituted"] == [
        {"word": "b", "became": "x", "count": 3},
        {"word": "c", "became": "y", "count": 2},
    ]
    assert found["inserted"] == [{"word": "only", "count": 1}, {"word": "this", "count": 1}]
