"""The tokens of a CTC model as a graph sees them, and how words are spelled with them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

from pipelines.acoustic.tokens import BLANKS, WORD_MARK, TokenList, find_blank, read_symbols
from pipelines.contracts import CtcVocabulary
from pipelines.models.model_card import ctc_card

SPACE = "<space>"
"""How the token between words is written in files."""


@dataclass(frozen=True)
class TokenSet:
    """The token table of a model.

    Attributes:
        pieces: What each token adds to the text, by id; a space where a word begins, nothing for the blank.
        blank: The id of the blank.
    """

    pieces: tuple[str, ...]
    blank: int

    @classmethod
    def of(cls, vocabulary: CtcVocabulary) -> TokenSet:
        """The table of an opened model."""
        return cls(tuple(vocabulary.piece(token) for token in range(len(vocabulary))), vocabulary.blank)

    @classmethod
    def of_symbols(
        cls, symbols: Sequence[str], blank: int | str | None = None, *, lower_case: bool = False
    ) -> TokenSet:
        """A table from the lines of a `tokens.txt`; see `pipelines.acoustic.tokens`."""
        return cls.of(TokenList(symbols, find_blank(symbols, blank, "the vocabulary"), lower_case=lower_case))

    @classmethod
    def of_model(cls, folder: Path) -> TokenSet:
        """The table of a model that is not opened.

        Raises:
            AmiraError: The model is not there, is no CTC model, or its card or table is broken.
        """
        card = ctc_card(folder).vocabulary
        return cls.of_symbols(read_symbols(folder / card.file), card.blank, lower_case=card.lower_case)

    @classmethod
    def read(cls, path: Path) -> TokenSet:
        """Read a table that `text` wrote.

        Raises:
            AmiraError: The file cannot be read, or its ids are not 0, 1, 2...
        """
        return cls.of_symbols(read_symbols(path))

    def text(self) -> str:
        """The lines of a `tokens.txt`."""
        return "".join(f"{symbol} {index}\n" for index, symbol in enumerate(self.symbols))

    def __len__(self) -> int:
        return len(self.pieces)

    @cached_property
    def symbols(self) -> tuple[str, ...]:
        """How each token is written in files."""
        written = []
        for index, piece in enumerate(self.pieces):
            if index == self.blank:
                written.append(BLANKS[0])
            elif piece == " ":
                written.append(SPACE)
            else:
                written.append(piece.replace(" ", WORD_MARK) or f"<unused-{index}>")
        return tuple(written)

    @cached_property
    def sha256(self) -> str:
        """Hash of the table: two models with the same one may share a graph."""
        return hashlib.sha256(self.text().encode()).hexdigest()

    @cached_property
    def marked(self) -> bool:
        """Whether words begin with tokens of their own kind (SentencePiece) instead of following a separator."""
        return any(len(piece) > 1 and piece.startswith(" ") for piece in self.pieces)

    @cached_property
    def separator(self) -> int | None:
        """The id of the token between words, if there is one and words need it."""
        return self.pieces.index(" ") if " " in self.pieces and not self.marked else None

    @cached_property
    def lower_case(self) -> bool:
        """Whether words must be folded to lower case: the table has small letters and no capitals."""
        letters = "".join(self.pieces)
        return any(char.islower() for char in letters) and not any(char.isupper() for char in letters)

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {piece: index for index, piece in enumerate(self.pieces) if piece and index != self.separator}

    @cached_property
    def _longest(self) -> int:
        return max(map(len, self._ids), default=0)

    def spell(self, word: str) -> tuple[int, ...] | None:
        """The tokens of a word, longest match first; `None` if the table cannot spell it."""
        text = f" {word}" if self.marked else word
        tokens: list[int] = []
        at = 0
        while at < len(text):
            sizes = range(min(self._longest, len(text) - at), 0, -1)
            size = next((size for size in sizes if text[at : at + size] in self._ids), 0)
            if not size:
                return None
            tokens.append(self._ids[text[at : at + size]])
            at += size
        return tuple(tokens) or None

    def spellings(self, word: str) -> tuple[tuple[int, ...], ...]:
        """The tokens of a word by longest match and, where that differs, by merges; none if the table cannot spell it.

        A byte-pair table has its tokens in the order in which pairs were merged, and its model learned to write what
        those merges make of a word. From the table alone nobody can tell of which kind it is.
        """
        found = self.spell(word)
        if found is None:
            return ()
        merged = self._merged(word) if self.marked else found
        return (found,) if merged in (None, found) else (found, merged)

    def _merged(self, word: str) -> tuple[int, ...] | None:
        parts = list(f" {word}")
        last = len(self.pieces)
        while len(parts) > 1:
            ranks = [self._ids.get(left + right, last) for left, right in pairwise(parts)]
            best = min(range(len(ranks)), key=ranks.__getitem__)
            if ranks[best] == last:
                break
            parts[best : best + 2] = [parts[best] + parts[best + 1]]
        tokens = tuple(self._ids[part] for part in parts if part in self._ids)
        return tokens if len(tokens) == len(parts) else None
