"""Vocabularies of CTC models in the layouts that are in use, and words with times made from them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.acoustic.tokens import TokenList, find_blank, read_symbols
from pipelines.contracts import CtcVocabulary, Word
from pipelines.decode.words import timed_words
from pipelines.errors import AmiraError


def written(folder: Path, text: str) -> Path:
    path = folder / "tokens.txt"
    path.write_text(text, "utf-8")
    return path


def test_characters_with_ids(tmp_path: Path) -> None:
    symbols = read_symbols(written(tmp_path, "<blk> 0\n<space> 1\n' 2\na 3\nb 4\n"))
    vocabulary = TokenList(symbols, find_blank(symbols, None, "tokens.txt"))
    assert isinstance(vocabulary, CtcVocabulary)
    assert (len(vocabulary), vocabulary.blank) == (5, 0)
    assert vocabulary.text([1, 3, 1, 0, 1, 4, 2, 4, 1]) == "a b'b"


@pytest.mark.parametrize("space", ["\u2581 1", " 1", "  1", "| 1", "<SPACE> 1"])
def test_ways_to_write_a_space(space: str, tmp_path: Path) -> None:
    symbols = read_symbols(written(tmp_path, f"<blk> 0\n{space}\na 2\r\n"))
    assert TokenList(symbols, 0).text([2, 1, 2]) == "a a"


def test_sentence_pieces_out_of_order_with_the_blank_last(tmp_path: Path) -> None:
    symbols = read_symbols(written(tmp_path, "\u2581THE 1\n<unk> 0\nRE 2\n\u2581CAT 3\n<blk> 4\n"))
    vocabulary = TokenList(symbols, find_blank(symbols, "<blk>", "tokens.txt"), lower_case=True)
    assert vocabulary.blank == 4
    assert vocabulary.text([1, 2, 4, 0, 3]) == "there cat"


def test_lines_without_ids(tmp_path: Path) -> None:
    symbols = read_symbols(written(tmp_path, "<blank>\n7\n8\n"))
    assert symbols == ["<blank>", "7", "8"]


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "is empty"), ("a 0\nb 2\n", "none of them is id 1"), ("a 0\nb 0\n", "none of them is id 1")],
)
def test_broken_vocabularies(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(AmiraError, match=message):
        read_symbols(written(tmp_path, text))


@pytest.mark.parametrize(
    ("blank", "message"),
    [(3, "ids 0 to 2"), ("<b>", "no label <b>"), (None, r"no label <blk> or .* blank = ID or 'SYMBOL'")],
)
def test_a_blank_that_is_not_there(blank: int | str | None, message: str) -> None:
    with pytest.raises(AmiraError, match=message):
        find_blank(["a", "b", "c"], blank, "tokens.txt")


def test_words_of_characters() -> None:
    vocabulary = TokenList(["<blk>", "<space>", "a", "b"], 0)
    frames = [(0, 1), (3, 3), (4, 5), (7, 7), (8, 8), (9, 9)]
    words = timed_words(vocabulary, [2, 3, 1, 1, 3, 2], frames, [0.9, 0.5, 0.1, 0.1, 0.8, 0.7], 0.5)
    assert words == (Word("ab", 0.0, 2.0, 0.5), Word("ba", 4.0, 5.0, 0.7))


def test_words_of_pieces_with_marks() -> None:
    vocabulary = TokenList(["<blk>", "\u2581the", "re", "\u2581", "\u2581a\u2581b"], 0)
    words = timed_words(vocabulary, [1, 2, 1, 3, 4], [(i, i) for i in range(5)], [0.5] * 5, 1.0)
    assert [word.text for word in words] == ["there", "the", "a", "b"]
    assert [(word.start_s, word.end_s) for word in words] == [(0, 2), (2, 3), (4, 5), (4, 5)]


def test_no_tokens_no_words() -> None:
    assert timed_words(TokenList(["<blk>", "a"], 0), [], [], [], 0.024) == ()
