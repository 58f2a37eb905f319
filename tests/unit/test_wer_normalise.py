"""The normaliser: its rules, one by one, and what must hold for any text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.metrics.normalise import normalise
from harness.metrics.numbers import cardinal, ordinal

ANY_TEXT = st.text(alphabet=st.one_of(st.characters(), st.sampled_from("0123456789,.'’`-$£%&stndrhm x")), max_size=20)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        (" \n. -- ", ""),
        ("Ever tried. Ever failed!", "ever tried ever failed"),
        ("It’s o‘clock, don`t", "it's o'clock don't"),
        ("'quoted' rock 'n' roll dogs' ''", "quoted rock n roll dogs"),
        ("ill-disposed—young man", "ill disposed young man"),
        ("M.O.R. M-O-R m o r", "m o r m o r m o r"),
        ("Mr. Dashwood, Mrs Bennet and DR. No", "mister dashwood missus bennet and doctor no"),
        ("café naïve ﬁne ＡＢ", "cafe naive fine ab"),
        ("snake_case", "snake case"),
        ("R&D", "r and d"),
    ],
)
def test_rules(text: str, expected: str) -> None:
    assert normalise(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("15", "fifteen"),
        ("0 100 101 999", "zero one hundred one hundred one nine hundred ninety nine"),
        ("1,234 12,000,001", "one thousand two hundred thirty four twelve million one"),
        ("1995 1905 1900", "nineteen ninety five nineteen oh five nineteen hundred"),
        ("2005 2024", "two thousand five twenty twenty four"),
        ("5000 29340 007", "five thousand two nine three four zero zero zero seven"),
        ("3.14 0.5", "three point one four zero point five"),
        ("1st 2nd 3rd 12th 21st 30th 100th", "first second third twelfth twenty first thirtieth one hundredth"),
        ("the 1990s and 80s", "the nineteen nineties and eighties"),
        ("$5 $1 $1.50 £20 50%", "five dollars one dollar one dollar fifty twenty pounds fifty percent"),
        ("33-4-6, 92.", "thirty three four six ninety two"),
        ("mp3 b4", "mp three b four"),
    ],
)  # fmt: skip
def test_numbers(text: str, expected: str) -> None:
    assert normalise(text) == expected


@given(ANY_TEXT)
def test_idempotent(text: str) -> None:
    once = normalise(text)
    assert normalise(once) == once


@given(ANY_TEXT)
def test_only_words_of_lower_case_letters_and_inner_apostrophes(text: str) -> None:
    normal = normalise(text)
    assert normal == " ".join(normal.split())
    for word in normal.split():
        assert all(sign.isalpha() or sign == "'" for sign in word)
        assert not word.startswith("'")
        assert not word.endswith("'")


@given(st.text(alphabet="abcdefghijklmnopqrstuvwxyz' ", max_size=30))
def test_case_and_punctuation_do_not_matter(text: str) -> None:
    assert normalise(text.upper() + "!") == normalise(text)


@given(st.integers(0, 10**15 - 1))
def test_cardinals_read_back(value: int) -> None:
    assert _value(cardinal(value)) == value


def _value(words: str) -> int:
    """A naive reader of English numbers."""
    units = {cardinal(n): n for n in range(20)} | {cardinal(n): n for n in range(20, 100, 10)}
    scales = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
    total = part = 0
    for word in words.split():
        if word in scales:
            total, part = total + part * scales[word], 0
        elif word == "hundred":
            part *= 100
        else:
            part += units[word]
    return total + part


def test_cardinals_are_english() -> None:
    assert [cardinal(n) for n in (0, 13, 20, 42, 110, 1_000_000)] == [
        "zero", "thirteen", "twenty", "forty two", "one hundred ten", "one million",
    ]  # fmt: skip


@given(st.integers(0, 10**6))
def test_ordinals_differ_from_their_cardinal_in_the_last_word_alone(value: int) -> None:
    *head, last = ordinal(value).split()
    assert head == cardinal(value).split()[:-1]
    assert last.endswith(("th", "first", "second", "third"))
