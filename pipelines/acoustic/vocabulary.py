"""The token table that the model's package ships."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache
from itertools import pairwise
from pathlib import Path

from pipelines.errors import AmiraError

BLANK = "\u2581"
"""Stands for a space in a token."""


def parse(data: bytes) -> list[bytes]:
    """Read a `tokenizer.bin`: byte strings one after the other, each behind its length.

    A length below 128 is one byte; else the low seven bits of the first byte plus 128 times the next.

    Raises:
        ValueError: The data ends inside a token.
    """
    tokens: list[bytes] = []
    at = 0
    while at < len(data):
        size = data[at]
        at += 1
        if size >= 128:
            if at >= len(data):
                raise ValueError(f"the token table ends inside the length of token {len(tokens)}")
            size = size - 128 + 128 * data[at]
            at += 1
        if at + size > len(data):
            raise ValueError(f"the token table ends inside token {len(tokens)}")
        tokens.append(data[at : at + size])
        at += size
    return tokens


BYTES = range(3, 259)
"""Tokens that stand for single bytes, for text that the others cannot spell."""


KEPT_SPELLINGS = 16_384
"""Texts whose tokens are remembered: drafts are spelled word by word, and most words come again."""


class TokenTable:
    """Maps token ids to text and text to token ids (see `pipelines.contracts.AedVocabulary`).

    The table is of the byte-pair kind: its tokens were added in the order in which pairs were merged, so that the id
    is the rank of the merge; only single characters stand at the end.
    """

    def __init__(self, tokens: list[bytes]) -> None:
        self._tokens = tokens
        # The first of equals is kept, but a character of its own is preferred to the byte of the same value.
        self._ids = {token: index for index, token in reversed(list(enumerate(tokens))) if index not in BYTES}
        self._merged = lru_cache(KEPT_SPELLINGS)(self._merge)

    def __len__(self) -> int:
        return len(self._tokens)

    def encode(self, text: str, *, begins_word: bool = True) -> list[int]:
        """See `pipelines.contracts.AedVocabulary`: merges the pair of the lowest rank until none is left."""
        return list(self._merged((BLANK if begins_word else "") + text.replace(" ", BLANK)))

    def _merge(self, marked: str) -> tuple[int, ...]:
        parts = [character.encode() for character in marked]
        while len(parts) > 1:
            ranks = [self._ids.get(left + right, len(self._tokens)) for left, right in pairwise(parts)]
            best = min(range(len(ranks)), key=ranks.__getitem__)
            if ranks[best] == len(self._tokens):
                break
            parts[best : best + 2] = [parts[best] + parts[best + 1]]
        return tuple(token for part in parts for token in self._spelled(part))

    def begins_word(self, token: int) -> bool:
        """See `pipelines.contracts.AedVocabulary`."""
        return token < len(self._tokens) and self._tokens[token].startswith(BLANK.encode())

    def _spelled(self, part: bytes) -> list[int]:
        token = self._ids.get(part)
        return [BYTES[byte] for byte in part] if token is None else [token]

    def text(self, tokens: Sequence[int]) -> str:
        """The text of a token sequence; ids beyond the table (the model's padding) say nothing."""
        pieces = (self._tokens[token] for token in tokens if token < len(self._tokens))
        return b"".join(pieces).decode("utf-8", "replace").replace(BLANK, " ").strip()


@cache
def load(path: Path) -> TokenTable:
    """The token table at `path`.

    Raises:
        AmiraError: It is not there or does not parse.
    """
    try:
        return TokenTable(parse(path.read_bytes()))
    except (OSError, ValueError) as error:
        raise AmiraError(
            f"cannot read the token table {path}: {error}. Build the models again: amira models build --force"
        ) from error
