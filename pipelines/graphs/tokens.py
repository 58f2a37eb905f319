"""The tokens of a CTC model as a graph sees them, and how words are spelled with them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pipelines.errors import AmiraError

BLANKS = ("<blk>", "<blank>", "<eps>", "<pad>", "[PAD]", "_")
"""How token tables write the blank of CTC; the first token is it where none of these is there."""
PREFIX = "\u2581"
"""Begins a word in the tables of SentencePiece; a token of its own in tables of characters."""
SEPARATORS = (" ", PREFIX, "|", "<space>", "<sp>")
"""How token tables of characters write the gap between words."""


@dataclass(frozen=True)
class TokenSet:
    """The token table of a model.

    Attributes:
        symbols: The text of every token, by id.
        blank: The id of the blank.
    """

    symbols: tuple[str, ...]
    blank: int

    @classmethod
    def from_symbols(cls, symbols: Sequence[str]) -> TokenSet:
        """A table whose blank is found by its name, else the first token."""
        blank = next((symbols.index(name) for name in BLANKS if name in symbols), 0)
        return cls(tuple(symbols), blank)

    @classmethod
    def read(cls, path: Path) -> TokenSet:
        """Read a `tokens.txt`: a symbol and its id a line, in any order.

        Raises:
            AmiraError: The file cannot be read, a line is broken, or the ids are not 0, 1, 2...
        """
        try:
            lines = path.read_text("utf-8").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise AmiraError(
                f"token table {path} cannot be read: {error}. Build the model: amira models build"
            ) from error
        found: dict[int, str] = {}
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            # A table of characters may have the space itself as a symbol, so only the last field is split off.
            symbol, _, id_ = line.rstrip().rpartition(" ")
            if not id_.isdigit():
                raise AmiraError(f"{path}:{number}: expected 'SYMBOL ID', got {line!r}. Mend that line.")
            if int(id_) in found:
                raise AmiraError(f"{path}:{number}: id {id_} is already '{found[int(id_)]}'. Mend that line.")
            found[int(id_)] = symbol or " "
        if sorted(found) != list(range(len(found))) or not found:
            raise AmiraError(
                f"{path}: {len(found)} tokens, but their ids are not 0 to {len(found) - 1}. Mend the file."
            )
        return cls.from_symbols([found[index] for index in range(len(found))])

    def text(self) -> str:
        """The lines of a `tokens.txt`."""
        return "".join(f"{symbol} {index}\n" for index, symbol in enumerate(self.symbols))

    def __len__(self) -> int:
        return len(self.symbols)

    @cached_property
    def sha256(self) -> str:
        """Hash of the table: two models with the same one may share a graph."""
        return hashlib.sha256(self.text().encode()).hexdigest()

    @cached_property
    def separator(self) -> int | None:
        """The id of the token between words; `None` where a word begins with a token of its own kind."""
        if any(len(symbol) > 1 and symbol.startswith(PREFIX) for symbol in self.symbols):
            return None
        return next((self.symbols.index(name) for name in SEPARATORS if name in self.symbols), None)

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {symbol: index for index, symbol in enumerate(self.symbols) if index not in (self.blank, self.separator)}

    @cached_property
    def _longest(self) -> int:
        return max(map(len, self._ids), default=0)

    def spell(self, word: str) -> tuple[int, ...] | None:
        """The tokens of a word, longest match first; `None` if the table cannot spell it."""
        text = word if self.separator is not None or PREFIX not in "".join(self.symbols) else PREFIX + word
        tokens: list[int] = []
        at = 0
        while at < len(text):
            for size in range(min(self._longest, len(text) - at), 0, -1):
                token = self._ids.get(text[at : at + size])
                if token is not None:
                    tokens.append(token)
                    at += size
                    break
            else:
                return None
        return tuple(tokens) or None
