"""The labels of models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable


class Vocabulary(Protocol):
    """Maps token ids to text."""

    def __len__(self) -> int: ...
    def text(self, tokens: Sequence[int]) -> str:
        """The text of a token sequence, without its surrounding blanks."""
        ...


@runtime_checkable
class CtcVocabulary(Vocabulary, Protocol):
    """The labels of a CTC model: its tokens and the blank."""

    blank: int
    """The id of the blank."""

    def piece(self, token: int) -> str:
        """What a token adds to the text, with a space where a word begins or ends; the blank adds nothing."""
        ...


class AedVocabulary(Vocabulary, Protocol):
    """The tokens of an attention encoder-decoder, which are made from text as well as text from them."""

    def encode(self, text: str, *, begins_word: bool = True) -> list[int]:
        """The tokens that the model itself writes `text` with; `begins_word` says whether a space comes before it."""
        ...

    def begins_word(self, token: int) -> bool:
        """Whether a token brings the space before a word."""
        ...
