"""The units that our CTC models write: characters, pieces learned from the transcripts, or the package's tokens."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol

from pipelines.acoustic.tokens import WORD_MARK
from pipelines.acoustic.vocabulary import BYTES, TokenTable, parse
from pipelines.errors import AmiraError
from pipelines.models.source import TOKENIZER, verified

if TYPE_CHECKING:
    from training.config import TrainingConfig

BLANK = 0
CHARACTERS = ("<blank>", " ", "'", *"abcdefghijklmnopqrstuvwxyz")
BPE_FILE = "units.model"
_SINGLE = {character.encode() for character in (WORD_MARK, "'", *"abcdefghijklmnopqrstuvwxyz")}
_LOWER_CASE = re.compile(f"(?:{WORD_MARK})?[a-z']+".encode())


class Units(Protocol):
    """Text to ids and back; id 0 is the blank."""

    labels: tuple[str, ...]
    """As `tokens.txt` has them."""

    def encode(self, text: str) -> list[int]:
        """The ids of a normalised text; characters outside of the vocabulary are passed over."""
        ...

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of ids."""
        ...


class CharacterUnits:
    """Implements `Units`: a letter, an apostrophe or a space each."""

    labels = tuple("<space>" if character == " " else character for character in CHARACTERS)
    _ids: ClassVar = {character: index for index, character in enumerate(CHARACTERS)}

    def encode(self, text: str) -> list[int]:
        """See `Units`."""
        return [self._ids[character] for character in text if character in self._ids]

    def decode(self, tokens: Sequence[int]) -> str:
        """See `Units`."""
        return "".join(CHARACTERS[token] for token in tokens if token != BLANK)


class PieceUnits:
    """Implements `Units`: pieces of words by SentencePiece, the blank in the place of what it calls unknown.

    Args:
        model: A SentencePiece model, as `learn_pieces` gives it.
    """

    def __init__(self, model: bytes) -> None:
        from sentencepiece import SentencePieceProcessor

        self._processor = SentencePieceProcessor(model_proto=model)
        pieces = [self._processor.id_to_piece(index) for index in range(self._processor.get_piece_size())]
        self.labels = ("<blank>", *pieces[1:])

    def encode(self, text: str) -> list[int]:
        """See `Units`."""
        return [int(token) for token in self._processor.encode(_known(text)) if token != BLANK]

    def decode(self, tokens: Sequence[int]) -> str:
        """See `Units`."""
        return "".join(self.labels[token] for token in tokens if token != BLANK).replace(WORD_MARK, " ").strip()


class TokenUnits:
    """Implements `Units`: the tokens of the package's decoder that lower-case English is spelled with.

    Args:
        tokens: The decoder's table, as `pipelines.acoustic.vocabulary.parse` reads it.
        kept: The decoder's number of each label but the blank: label 1 is `kept[0]`.
    """

    def __init__(self, tokens: Sequence[bytes], kept: Iterable[int]) -> None:
        self.kept = tuple(kept)
        own = {*self.kept, *BYTES}
        self._table = TokenTable([token if index in own else b"" for index, token in enumerate(tokens)])
        self._ids = {token: label for label, token in enumerate(self.kept, 1)}
        self.labels = ("<blank>", *(tokens[index].decode("utf-8", "replace") for index in self.kept))

    def encode(self, text: str) -> list[int]:
        """See `Units`."""
        return [self._ids[token] for token in self._table.encode(text) if token in self._ids]

    def decode(self, tokens: Sequence[int]) -> str:
        """See `Units`."""
        return self._table.text([self.kept[token - 1] for token in tokens if token != BLANK])


def package_tokens(texts: Iterable[str], limit: int = 0) -> TokenUnits:
    """Those of lower-case English, and whatever else these normalised transcripts are spelled with.

    Args:
        texts: The transcripts; of no account with a limit.
        limit: Only so many tokens, see `first_tokens`; 0 for all.

    Raises:
        AmiraError: The package's files are missing or have the wrong hash, or so few tokens spell nothing.
    """
    tokens = parse(verified(TOKENIZER).read_bytes())
    return TokenUnits(tokens, first_tokens(tokens, limit) if limit else kept_tokens(tokens, texts))


def kept_tokens(tokens: Sequence[bytes], texts: Iterable[str]) -> list[int]:
    """The numbers of the tokens in a table that lower-case English or these normalised transcripts are spelled with."""
    table = TokenTable(list(tokens))
    said = {token for text in texts for token in table.encode(text)}
    return [
        index
        for index, token in enumerate(tokens)
        if index in said or (index not in BYTES and _LOWER_CASE.fullmatch(token))
    ]


def first_tokens(tokens: Sequence[bytes], limit: int) -> list[int]:
    """The numbers of so many tokens of lower-case English: the single characters, and the pairs that were merged first.

    A token's number is the rank of its merge, and what it was merged from has a lower one, so that these are the table
    of the same algorithm stopped earlier: every word is spelled, in more and shorter tokens.

    Raises:
        AmiraError: There are as many single characters.
    """
    english = [index for index, token in enumerate(tokens) if index not in BYTES and _LOWER_CASE.fullmatch(token)]
    single = [index for index, token in enumerate(tokens) if index not in BYTES and token in _SINGLE]
    if limit <= len(single):
        raise AmiraError(f"{limit} tokens are too few: {len(single)} are single characters")
    merged = [index for index in english if index not in single]
    return sorted([*single, *merged[: limit - len(single)]])


def learn_pieces(texts: Iterable[str], size: int) -> bytes:
    """A SentencePiece model of byte-pair pieces, the same for the same texts.

    Args:
        texts: Normalised transcripts.
        size: How many pieces, with the blank.

    Raises:
        AmiraError: The texts are too few for so many pieces, or have more characters than pieces.
    """
    from sentencepiece import SentencePieceTrainer

    model = io.BytesIO()
    try:
        SentencePieceTrainer.train(
            sentence_iterator=iter([_known(text) for text in texts]),
            model_writer=model,
            vocab_size=size,
            model_type="bpe",
            character_coverage=1.0,
            required_chars="".join(character for character in CHARACTERS[1:] if character != " "),
            normalization_rule_name="identity",
            unk_id=BLANK,
            bos_id=-1,
            eos_id=-1,
            pad_id=-1,
            num_threads=1,
            minloglevel=2,
        )
    except RuntimeError as error:
        raise AmiraError(
            f"cannot learn {size} pieces from the transcripts: {error}. Choose another bpe_size"
        ) from error
    return model.getvalue()


def open_units(config: TrainingConfig, texts: Iterable[str], folder: Path) -> Units:
    """The units of a training; pieces are learned once, and kept in its folder.

    Raises:
        AmiraError: Pieces cannot be learned from the texts.
    """
    if config.units == "characters":
        return CharacterUnits()
    if config.units == "tokens":
        return package_tokens(texts, config.token_limit)
    path = folder / BPE_FILE
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        part.write_bytes(learn_pieces(texts, config.bpe_size))
        part.replace(path)
    units = PieceUnits(path.read_bytes())
    if len(units.labels) != config.bpe_size:
        raise AmiraError(
            f"{path} has {len(units.labels)} pieces, the configuration's bpe_size is {config.bpe_size}. "
            "Train in another folder"
        )
    return units


def collapse(units: Units, labels: Sequence[int]) -> str:
    """The text of a best path: repeats become one, blanks go."""
    kept = [label for index, label in enumerate(labels) if index == 0 or label != labels[index - 1]]
    return " ".join(units.decode(kept).split())


def _known(text: str) -> str:
    return "".join(character for character in text if character in CHARACTERS)
