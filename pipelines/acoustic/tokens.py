"""`tokens.txt`: the labels of a CTC model, one a line.

Two layouts are in use. With ids (icefall, WeNet, sherpa, NeMo exports), a line is a symbol, a space and its id, in any
order; without, a line is a symbol and its number is the id. A space inside the text is `<space>`, U+2581, or itself.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from pipelines.errors import AmiraError

WORD_MARK = "\u2581"
"""Stands for a space in a token (SentencePiece)."""
BLANKS = ("<blk>", "<blank>", "<eps>", "<b>", "[blank]")
"""What the blank is called, in the order in which it is looked for."""
_SPACES = ("<space>", "<SPACE>", "|")
_WITH_ID = re.compile(r"(.*?)[ \t]+([0-9]+)")
_SPECIAL = re.compile(r"<[^<>]*>|\[[a-z]+\]")


class TokenList:
    """Maps the labels of a CTC model to text (see `pipelines.contracts.CtcVocabulary`).

    Args:
        symbols: The labels by id.
        blank: The id of the blank.
        lower_case: Whether the text is written in lower case, for models that were trained on capitals alone.
    """

    def __init__(self, symbols: Sequence[str], blank: int, *, lower_case: bool = False) -> None:
        self.blank = blank
        pieces = [_piece(symbol) for symbol in symbols]
        self._pieces = [piece.lower() for piece in pieces] if lower_case else pieces
        self._pieces[blank] = ""

    def __len__(self) -> int:
        return len(self._pieces)

    def piece(self, token: int) -> str:
        """What a token adds to the text."""
        return self._pieces[token]

    def text(self, tokens: Sequence[int]) -> str:
        """The text of a token sequence, with single spaces between its words."""
        return " ".join("".join(self._pieces[token] for token in tokens).split())


def _piece(symbol: str) -> str:
    if symbol in _SPACES:
        return " "
    if _SPECIAL.fullmatch(symbol):
        return ""  # <unk>, <sos/eos>: labels that no text is made of
    return symbol.replace(WORD_MARK, " ")


def read_symbols(path: Path) -> list[str]:
    """The labels of a `tokens.txt`, by id.

    Raises:
        AmiraError: It cannot be read, has no lines, or its ids are not 0, 1, 2, ...
    """
    try:
        lines = path.read_text("utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise AmiraError(
            f"cannot read the vocabulary {path}: {error}. A model folder needs one label a line, or 'label id'"
        ) from error
    lines = [line.rstrip("\r") for line in lines if line.rstrip("\r")]
    if not lines:
        raise AmiraError(f"the vocabulary {path} is empty. It needs one label a line, or 'label id'")
    found = [_WITH_ID.fullmatch(line) for line in lines]
    if not all(found):
        return lines
    symbols = {int(match[2]): match[1] or " " for match in found if match}
    if sorted(symbols) != list(range(len(lines))):
        missing = next(index for index in range(len(lines)) if index not in symbols)
        raise AmiraError(
            f"the vocabulary {path} has {len(lines)} lines, but none of them is id {missing}: "
            "ids must be 0, 1, 2, ... without gaps or repeats. Export it again"
        )
    return [symbols[index] for index in range(len(lines))]


def find_blank(symbols: Sequence[str], wanted: int | str | None, where: str) -> int:
    """The id of the blank.

    Args:
        symbols: The labels by id.
        wanted: Its id or symbol; `None` to look for one of the usual names.
        where: The file, for messages.

    Raises:
        AmiraError: There is no such label.
    """
    if isinstance(wanted, int):
        if not 0 <= wanted < len(symbols):
            raise AmiraError(f"blank {wanted} is no label of {where}: it has ids 0 to {len(symbols) - 1}")
        return wanted
    names = BLANKS if wanted is None else (wanted,)
    for name in names:
        if name in symbols:
            return symbols.index(name)
    raise AmiraError(
        f"{where} has no label {' or '.join(names)}. Say which one is the blank: blank = ID or 'SYMBOL' under "
        "[vocabulary] of its model-card.toml"
    )
