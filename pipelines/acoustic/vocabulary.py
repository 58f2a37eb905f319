"""The token table that the model's package ships."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
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


class TokenTable:
    """Maps token ids to text (see `pipelines.contracts.Vocabulary`)."""

    def __init__(self, tokens: list[bytes]) -> None:
        self._tokens = tokens

    def __len__(self) -> int:
        return len(self._tokens)

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
