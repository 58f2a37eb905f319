"""Which words a graph knows and how they are spelled: by the model's own tokens, so that no phones are needed."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pipelines.errors import AmiraError
from pipelines.graphs.tokens import TokenSet

Lexicon = dict[str, tuple[tuple[int, ...], ...]]
"""The spellings of each word, as token ids."""


def spelled(words: Iterable[str], tokens: TokenSet) -> tuple[Lexicon, list[str]]:
    """The spellings of words, and the words that the table cannot spell."""
    lexicon: Lexicon = {}
    lost: list[str] = []
    for word in words:
        spellings = tokens.spellings(word)
        if spellings:
            lexicon[word] = spellings
        else:
            lost.append(word)
    return lexicon, lost


def read(path: Path, tokens: TokenSet) -> Lexicon:
    """Read a lexicon: `WORD TOKEN...` a line; a word may have several lines.

    Raises:
        AmiraError: It cannot be read, a line has no tokens, or a token is not in the table.
    """
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise AmiraError(f"lexicon {path} cannot be read: {error}. Name a text file 'WORD TOKEN...'.") from error
    ids = {symbol: index for index, symbol in enumerate(tokens.symbols) if index != tokens.blank}
    found: dict[str, list[tuple[int, ...]]] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        word, *symbols = line.split()
        if not symbols:
            raise AmiraError(f"{path}:{number}: word '{word}' has no tokens. Write 'WORD TOKEN...'.")
        unknown = [symbol for symbol in symbols if symbol not in ids]
        if unknown:
            raise AmiraError(f"{path}:{number}: '{unknown[0]}' is not a token of the model. See its tokens.txt.")
        spelling = tuple(ids[symbol] for symbol in symbols)
        if spelling not in found.setdefault(word, []):
            found[word].append(spelling)
    if not found:
        raise AmiraError(f"lexicon {path} has no words. Write 'WORD TOKEN...', one a line.")
    return {word: tuple(spellings) for word, spellings in found.items()}


def write(path: Path, lexicon: Lexicon, tokens: TokenSet) -> None:
    """Write a lexicon, one spelling a line."""
    lines = (
        f"{word} {' '.join(tokens.symbols[token] for token in spelling)}\n"
        for word, spellings in lexicon.items()
        for spelling in spellings
    )
    path.write_text("".join(lines), "utf-8")
