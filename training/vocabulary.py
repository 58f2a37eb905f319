"""The characters that our CTC models write."""

from __future__ import annotations

from collections.abc import Sequence

BLANK = 0
CHARACTERS = ("<blank>", " ", "'", *"abcdefghijklmnopqrstuvwxyz")
_IDS = {character: index for index, character in enumerate(CHARACTERS)}


def encode(text: str) -> list[int]:
    """The ids of a normalised text; characters outside of the vocabulary are passed over."""
    return [_IDS[character] for character in text if character in _IDS]


def decode(tokens: Sequence[int]) -> str:
    """The text of ids."""
    return "".join(CHARACTERS[token] for token in tokens if token != BLANK)


def collapse(labels: Sequence[int]) -> str:
    """The text of a best path: repeats become one, blanks go."""
    kept = [label for index, label in enumerate(labels) if index == 0 or label != labels[index - 1]]
    return " ".join(decode(kept).split())
