"""The reading graph: every way in which somebody may read a known text aloud, with what each costs.

A reader goes through the words of the text, and may skip one, say something else in its place, put a word in, begin a
word and break off, go back some words or start again from the top. Words that are not the text's are spelled letter
by letter, each letter at a price, so that they win only where the text's own word does not fit the sound.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.errors import AmiraError
from pipelines.graphs.compose import ctc_fst
from pipelines.graphs.tokens import TokenSet

MOST_TOKENS = 5_000
"""A word that is not the text's may be any tokens, at every place of the text."""
MAX_WORDS = 1_000
"""Longest expected text: a page or two. A reader is at one place of it, and the graph grows with each word."""


@dataclass(frozen=True)
class ReadingCosts:
    """What departing from the text costs, as negative log-probabilities.

    Attributes:
        skip: Leaving a word out.
        misread: Saying something else in place of a word.
        insert: Saying a word more.
        letter: Each letter of a word that is not the text's.
        back: Going back, by whatever number of words.
        back_word: Each word that is gone back.
        restart: Starting again from the top.
        false_start: Beginning a word and breaking off.
        back_words: Words that a reader goes back at most, other than to the top.
    """

    skip: float = 6.0
    misread: float = 5.0
    insert: float = 7.0
    letter: float = 2.0
    back: float = 4.0
    back_word: float = 0.5
    restart: float = 6.0
    false_start: float = 4.0
    back_words: int = 8


@dataclass(frozen=True)
class ReadingGraph:
    """A text as a graph to search.

    Attributes:
        words: The expected words, as the text has them, without punctuation.
        spelled: The same in the letters of the model.
        fst: `kaldifst.StdVectorFst`; input label = token id + 1. Output labels say what begins there (`meaning`).
        tokens: The model's token table.
    """

    words: tuple[str, ...]
    spelled: tuple[str, ...]
    fst: Any
    tokens: TokenSet

    def meaning(self, label: int) -> tuple[str, int]:
        """`read` or `begun` with the number of a word, or `misread` with that of the word in whose place it stands.

        `inserted` comes with the number of the word before which it stands.
        """
        kind, position = divmod(label - 1, len(self.words) + 1)
        return _KINDS[kind], position


_KINDS = ("read", "begun", "misread", "inserted")
_READ, _BEGUN, _MISREAD, _INSERTED = range(4)


def expected_words(text: str) -> list[str]:
    """The words of a text: split at spaces and hyphens, without the punctuation around them.

    Raises:
        AmiraError: There is none, or there are too many.
    """
    plain = unicodedata.normalize("NFKC", text).replace("\u2019", "'").replace("-", " ").replace("\u2014", " ")
    words = [word for word in (_stripped(word) for word in plain.split()) if word]
    if not words:
        raise AmiraError("the expected text has no words: give the text that the reader is to read")
    if len(words) > MAX_WORDS:
        raise AmiraError(
            f"the expected text has {len(words)} words, at most {MAX_WORDS} are understood: give the page that is read"
        )
    return words


def _stripped(word: str) -> str:
    keep = [index for index, sign in enumerate(word) if sign.isalnum()]
    return word[keep[0] : keep[-1] + 1] if keep else ""


def reading_graph(text: str, tokens: TokenSet, costs: ReadingCosts) -> ReadingGraph:
    """The graph of a text.

    Raises:
        AmiraError: The text has no words or too many, the model too many tokens, or they cannot spell a word.
    """
    import kaldifst

    if len(tokens) > MOST_TOKENS:
        raise AmiraError(
            f"the model has {len(tokens):,} tokens, and each of them an arc at every word of the expected text: "
            f"{MOST_TOKENS:,} are the most. Follow the text with a model of fewer, e.g. moonshine-ctc"
        )
    words = expected_words(text)
    spelled = [_spelled_alike(word, tokens) for word in words]
    spellings = [tokens.spell(word) for word in spelled]
    lost = [word for word, spelling in zip(words, spellings, strict=True) if spelling is None]
    if lost:
        raise AmiraError(
            f"the model's tokens cannot spell: {', '.join(dict.fromkeys(lost))}. Write numbers and signs as words"
        )
    lines = _Lines([spelling for spelling in spellings if spelling], tokens, costs).lines()
    paths = kaldifst.compile("\n".join(lines) + "\n")
    kaldifst.arcsort(paths, "ilabel")
    topology = ctc_fst(tokens, 0)
    kaldifst.arcsort(topology, "olabel")
    graph = kaldifst.compose(topology, paths)
    return ReadingGraph(tuple(words), tuple(spelled), graph, tokens)


def _spelled_alike(word: str, tokens: TokenSet) -> str:
    """A word in the letters that the model has: small ones and without accents, where it has no others."""
    if tokens.spell(word) is not None:
        return word
    lower = word.lower()
    if tokens.spell(lower) is not None:
        return lower
    return "".join(sign for sign in unicodedata.normalize("NFKD", lower) if not unicodedata.combining(sign))


class _Lines:
    """Writes the arcs over tokens. Two states for each position in the text: a word may begin, a word has ended."""

    def __init__(self, spellings: Sequence[tuple[int, ...]], tokens: TokenSet, costs: ReadingCosts) -> None:
        self._spellings, self._tokens, self._costs = spellings, tokens, costs
        self._count = len(spellings)
        self._states = 2 * (self._count + 1)
        self._written: list[str] = []

    def lines(self) -> list[str]:
        """The lines of the transducer; its start comes first."""
        costs, count = self._costs, self._count
        for position in range(count + 1):
            begin, end = self._begin(position), self._end(position)
            if position < count:
                spelling = self._spellings[position]
                self._word(begin, self._end(position + 1), spelling, self._label(_READ, position), 0.0)
                for size in range(1, len(spelling)):
                    self._word(begin, end, spelling[:size], self._label(_BEGUN, position), costs.false_start)
                self._arc(begin, self._begin(position + 1), 0, 0, costs.skip)
            self._separate(position)
            self._others(position)
            for back in range(1, min(position, costs.back_words) + 1):
                self._arc(begin, self._begin(position - back), 0, 0, costs.back + back * costs.back_word)
            if position > costs.back_words:
                self._arc(begin, self._begin(0), 0, 0, costs.restart)
        self._written += [str(self._begin(count)), str(self._end(count))]  # who breaks off has skipped the rest
        return self._written

    def _begin(self, position: int) -> int:
        return 2 * position

    def _end(self, position: int) -> int:
        return 2 * position + 1

    def _label(self, kind: int, position: int) -> int:
        return 1 + kind * (self._count + 1) + position

    def _arc(self, source: int, target: int, label: int, output: int, cost: float) -> None:
        self._written.append(f"{source} {target} {label} {output} {cost:.6g}")

    def _separate(self, position: int) -> None:
        separator = self._tokens.separator
        begin, end = self._begin(position), self._end(position)
        self._arc(end, begin, 0 if separator is None else separator + 1, 0, 0.0)
        if separator is not None and position == 0:
            self._arc(begin, begin, separator + 1, 0, 0.0)
        if position < self._count:
            # Words may be left out behind the last one, too, where no separator follows.
            self._arc(end, self._end(position + 1), 0, 0, self._costs.skip)

    def _word(self, source: int, target: int, spelling: Sequence[int], label: int, cost: float) -> None:
        here = source
        for index, token in enumerate(spelling):
            last = index == len(spelling) - 1
            there = target if last else self._states
            self._arc(here, there, token + 1, 0 if index else label, 0.0 if index else cost)
            here = there
            self._states += not last

    def _others(self, position: int) -> None:
        """A word that is not the text's, in place of the next one or before it."""
        costs = self._costs
        ways = [(_INSERTED, self._end(position), costs.insert)]
        if position < self._count:
            ways.append((_MISREAD, self._end(position + 1), costs.misread))
        letters = [
            (token, piece)
            for token, piece in enumerate(self._tokens.pieces)
            if piece and token not in (self._tokens.blank, self._tokens.separator)
        ]
        for kind, target, cost in ways:
            loop = self._states
            self._states += 1
            for token, piece in letters:
                price = costs.letter * len(piece.strip())
                if not self._tokens.marked or piece.startswith(" "):
                    self._arc(self._begin(position), loop, token + 1, self._label(kind, position), cost + price)
                if not piece.startswith(" "):
                    self._arc(loop, loop, token + 1, 0, price)
            self._arc(loop, target, 0, 0, 0.0)
