"""A decoding graph on disk: what a decoder needs to search it, and what it was made from.

build/graphs/NAME/
  HLG.fst       transducer (OpenFst binary, tropical): input label = token id + 1, output label = word id
  words.txt     `WORD ID` a line, `<eps>` is 0
  tokens.txt    `SYMBOL ID` a line: the model's token table
  lexicon.txt   `WORD TOKEN...` a line: how each word is spelled
  graph.toml    the card: kind, sources with their hashes, sizes
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from pipelines.acoustic.tokens import WORD_MARK
from pipelines.contracts import CtcVocabulary
from pipelines.errors import AmiraError, unknown
from pipelines.graphs.tokens import SPACE, TokenSet

CARD_FILE, FST_FILE = "graph.toml", "HLG.fst"
WORDS_FILE, TOKENS_FILE, LEXICON_FILE = "words.txt", "tokens.txt", "lexicon.txt"
EPSILON = "<eps>"


class Source(BaseModel):
    """A file that a graph was made from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    what: str
    name: str
    sha256: str


class GraphCard(BaseModel):
    """What a graph is.

    Attributes:
        kind: `words`: output labels are words; `tokens`: they are tokens, and words are what separators divide.
        key: Hash of everything that the graph was made from: sources, token table, settings, and our own recipe.
        vocabulary_sha256: Hash of the token table that it fits.
        ngram_order: Order of the language model; 0 where all words are equally likely.
        lm_scale: What the language model's log-probabilities were multiplied by.
        word_bonus: Added to the log-probability of a path for each word on it.
        words: Words that it knows.
        states: States of `HLG.fst`.
        arcs: Arcs of `HLG.fst`.
        bytes: Size of `HLG.fst`.
        build_s: Seconds that composing took.
        sources: The files that it was made from.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["words", "tokens"]
    key: str
    vocabulary_sha256: str
    ngram_order: int
    lm_scale: float
    word_bonus: float
    words: int
    states: int
    arcs: int
    bytes: int
    build_s: float
    sources: tuple[Source, ...] = ()

    def to_toml(self) -> str:
        """The text of `graph.toml`."""
        values = self.model_dump()
        lines = [f"{key} = {json.dumps(value)}" for key, value in values.items() if key != "sources"]
        for source in values["sources"]:
            lines += ["", "[[sources]]", *(f"{key} = {json.dumps(value)}" for key, value in source.items())]
        return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class GraphFolder:
    """An opened graph folder; the transducer itself is read when it is asked for."""

    path: Path
    card: GraphCard
    tokens: TokenSet

    @classmethod
    def open(cls, path: Path) -> GraphFolder:
        """Open a graph.

        Args:
            path: Its folder, or the name of one under the folder of graphs.

        Raises:
            AmiraError: It is not there, or a file of it is missing or broken.
        """
        from pipelines.paths import graphs_dir

        folder = path if path.is_dir() or path.is_absolute() else graphs_dir() / path
        if not (folder / CARD_FILE).is_file():
            have = [card.parent.name for card in graphs_dir().glob(f"*/{CARD_FILE}")]
            raise unknown("graph", str(path), have, "Build it: amira graph build")
        try:
            card = GraphCard(**tomllib.loads((folder / CARD_FILE).read_text("utf-8")))
        except (OSError, ValueError, ValidationError) as error:
            raise AmiraError(f"{folder / CARD_FILE} is broken: {error}. {_REMEDY}") from error
        for name in (FST_FILE, WORDS_FILE, TOKENS_FILE):
            if not (folder / name).is_file():
                raise AmiraError(f"graph {folder} has no {name}. {_REMEDY}")
        return cls(folder, card, TokenSet.read(folder / TOKENS_FILE))

    @property
    def fst_path(self) -> Path:
        """The file of the transducer."""
        return self.path / FST_FILE

    @cached_property
    def words(self) -> tuple[str, ...]:
        """The word of each output label; label 0 is `<eps>`."""
        return read_symbols(self.path / WORDS_FILE)

    @cached_property
    def lexicon(self) -> dict[str, tuple[str, ...]]:
        """How each word is spelled, as symbols of the token table (one of its spellings, if it has several)."""
        lines = (self.path / LEXICON_FILE).read_text("utf-8").splitlines()
        entries = (line.split() for line in lines if line.strip())
        return {entry[0]: tuple(entry[1:]) for entry in entries}

    def read_fst(self) -> Any:
        """The transducer as a `kaldifst.StdVectorFst`. kaldi-decoder does not keep it alive: the caller must.

        Raises:
            AmiraError: The file is broken.
        """
        import kaldifst

        fst = kaldifst.StdVectorFst.read(str(self.fst_path))
        if fst is None:
            raise AmiraError(f"{self.fst_path} is not a transducer that OpenFst reads. {_REMEDY}")
        return fst

    def check_vocabulary(self, vocabulary: CtcVocabulary | TokenSet) -> None:
        """Make sure that a model's tokens are those of this graph.

        Raises:
            AmiraError: They differ.
        """
        model = vocabulary if isinstance(vocabulary, TokenSet) else TokenSet.of(vocabulary)
        if model != self.tokens:
            raise AmiraError(
                f"graph '{self.path.name}' is made for {len(self.tokens)} tokens ({_sample(self.tokens)}), but the "
                f"model has {len(model)} ({_sample(model)}). Build a graph for this model: amira graph build --model"
            )

    def text(self, labels: Sequence[int]) -> str:
        """The text of a sequence of output labels."""
        if self.card.kind == "words":
            return " ".join(self.words[label] for label in labels)
        pieces = (self.words[label] for label in labels)
        joined = "".join(" " if piece == SPACE else piece for piece in pieces)
        return " ".join(joined.replace(WORD_MARK, " ").split())


def read_symbols(path: Path) -> tuple[str, ...]:
    """Read a symbol table whose ids are 0, 1, 2...

    Raises:
        AmiraError: It cannot be read, or an id is missing or twice there.
    """
    try:
        rows = [line.rsplit(" ", 1) for line in path.read_text("utf-8").split("\n") if line.strip()]
        table = {int(id_): word for word, id_ in rows}
    except (OSError, ValueError) as error:
        raise AmiraError(f"symbol table {path} is broken: {error}. {_REMEDY}") from error
    if sorted(table) != list(range(len(rows))):
        raise AmiraError(f"symbol table {path} has {len(rows)} lines, but not the ids 0 to {len(rows) - 1}. {_REMEDY}")
    return tuple(table[index] for index in range(len(rows)))


def write_symbols(path: Path, symbols: Sequence[str]) -> None:
    """Write a symbol table with ids 0, 1, 2..."""
    path.write_text("".join(f"{symbol} {index}\n" for index, symbol in enumerate(symbols)), "utf-8")


_REMEDY = "Build the graph again: amira graph build"


def _sample(tokens: TokenSet) -> str:
    shown = " ".join(repr(symbol) for symbol in tokens.symbols[:6])
    return f"{shown}..." if len(tokens) > 6 else shown
