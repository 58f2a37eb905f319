"""A word n-gram for the prefix beam search: from ARPA through kaldilm to arrays, and the lexicon tree of its words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt

from kernels.ctc_prefix_beam import Ngram
from pipelines.contracts import CtcVocabulary
from pipelines.decode import openfst
from pipelines.decode.beam import LanguageModel
from pipelines.errors import AmiraError
from pipelines.graphs import arpa, compose
from pipelines.graphs.folder import EPSILON, write_symbols
from pipelines.graphs.tokens import TokenSet
from pipelines.paths import home


def load(name: str, vocabulary: CtcVocabulary) -> LanguageModel:
    """Read a word n-gram for a model of characters.

    Args:
        name: Path of an ARPA file, plain or gzip; a relative one may also be relative to the project's folder.
        vocabulary: The model's. It must have a label for the space between words.

    Raises:
        AmiraError: The file is not there or does not parse, the vocabulary cannot spell a word of it, has no space,
            or kaldilm is not installed.
    """
    if find_spec("kaldilm") is None or find_spec("kaldifst") is None:
        raise AmiraError("reading a language model needs kaldilm and kaldifst: pip install 'amira-asr[wfst]'")
    given = Path(name).expanduser()
    path = next((place for place in (given, home() / given) if place.is_file()), None)
    if path is None:
        raise AmiraError(f"language model {name} does not exist. Name an ARPA file, plain or gzip")
    tokens = TokenSet.of(vocabulary)
    if tokens.separator is None:
        raise AmiraError(
            "the prefix beam search takes a word n-gram with models whose labels have a space of their own; this one "
            "marks words inside its labels. Use a graph instead: amira graph build, decoder/kaldi-decoder"
        )
    spellings: dict[str, tuple[int, ...]] = {}
    for word in arpa.words(path):
        spelling = tokens.spell(word.lower())
        if spelling is not None:
            spellings[word.lower()] = spelling
    words = [EPSILON, *spellings, arpa.UNKNOWN, compose.BACKOFF, arpa.BEGIN, arpa.END]
    ids = {word: index for index, word in enumerate(words)}
    with TemporaryDirectory(prefix="amira-ngram-") as scratch:
        kept, table, binary = (Path(scratch) / part for part in ("kept.arpa", "words.txt", "G.fst"))
        arpa.rewrite(path, kept, lambda word: _kept(word, spellings))
        write_symbols(table, words)
        if not compose.grammar_fst(kept, table).write(str(binary)):
            raise AmiraError(f"cannot write {binary}: the disk may be full")
        grammar = openfst.read(binary)
    children, spelt = _tree({ids[word]: spelling for word, spelling in spellings.items()}, len(vocabulary))
    arrays = _automaton(grammar, ids[compose.BACKOFF], ids[arpa.END], children, spelt)
    unknown = ids[arpa.UNKNOWN] if (grammar.inputs == ids[arpa.UNKNOWN]).any() else -1
    return LanguageModel(arrays, grammar.start, ids[arpa.END], unknown)


def _kept(word: str, spellings: Mapping[str, Sequence[int]]) -> str | None:
    small = word.lower()
    if small == arpa.UNKNOWN or (small in spellings and (word == small or word.isupper())):
        return small
    return None


def _tree(spellings: Mapping[int, Sequence[int]], labels: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """The lexicon tree: children (nodes, labels) and the word at each node, -1 for none."""
    room = 1 + sum(len(spelling) for spelling in spellings.values())
    children, words = np.full((room, labels), -1, np.int32), np.full(room, -1, np.int32)
    count = 1
    for word, spelling in spellings.items():
        node = 0
        for label in spelling:
            if children[node, label] < 0:
                children[node, label] = count
                count += 1
            node = int(children[node, label])
        words[node] = word
    return children[:count].copy(), words[:count].copy()


def _automaton(
    grammar: openfst.Transducer,
    backoff: int,
    end: int,
    children: npt.NDArray[np.int32],
    words: npt.NDArray[np.int32],
) -> Ngram:
    """The acceptor as sorted arcs; its final weights become arcs of the end of the sentence."""
    states = grammar.finals.size
    backs = grammar.inputs == backoff
    backoffs, backoff_scores = np.full(states, -1, np.int32), np.zeros(states, np.float32)
    backoffs[grammar.sources[backs]] = grammar.targets[backs]
    backoff_scores[grammar.sources[backs]] = -grammar.costs[backs]
    ends = np.flatnonzero(np.isfinite(grammar.finals)).astype(np.int32)
    sources = np.concatenate([grammar.sources[~backs], ends])
    labels = np.concatenate([grammar.inputs[~backs], np.full(ends.size, end, np.int32)])
    scores = -np.concatenate([grammar.costs[~backs], grammar.finals[ends]])
    targets = np.concatenate([grammar.targets[~backs], ends])
    order = np.lexsort((labels, sources))
    offsets = np.concatenate([[0], np.cumsum(np.bincount(sources, minlength=states))])
    return Ngram(children, words, offsets, labels[order], scores[order], targets[order], backoff_scores, backoffs)
