"""A second n-gram for the lattices of a graph: from ARPA to an acceptor over the graph's own words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from pipelines.decode import openfst
from pipelines.errors import AmiraError
from pipelines.graphs import arpa, compose
from pipelines.graphs.folder import GraphFolder, write_symbols
from pipelines.paths import home

UNKNOWN_COST = 10.0
"""What a word of the graph costs that the n-gram does not have; it leaves no context."""


def load(name: str, folder: GraphFolder) -> openfst.Transducer:
    """Read a word n-gram; label 0 is its back-off.

    Args:
        name: Path of an ARPA file, plain or gzip; a relative one may also be relative to the project's folder.
        folder: The graph; it must be one of words.

    Raises:
        AmiraError: The file is not there or does not parse, shares no word with the graph, or the graph has no words.
    """
    if folder.card.kind != "words":
        raise AmiraError(
            f"graph '{folder.path.name}' is one of tokens: a word n-gram cannot rescore its lattices. "
            "Build one of words: amira graph build"
        )
    given = Path(name).expanduser()
    path = next((place for place in (given, home() / given) if place.is_file()), None)
    if path is None:
        raise AmiraError(f"language model {name} does not exist. Name an ARPA file, plain or gzip")
    spoken = {word.lower(): word for word in folder.words[1:] if word not in (compose.BACKOFF, arpa.BEGIN, arpa.END)}
    table = list(folder.words)
    table += [symbol for symbol in (compose.BACKOFF, arpa.BEGIN, arpa.END) if symbol not in table]
    with TemporaryDirectory(prefix="amira-k2-") as scratch:
        kept, words, binary = (Path(scratch) / part for part in ("kept.arpa", "words.txt", "G.fst"))
        arpa.rewrite(path, kept, lambda word: spoken.get(word.lower()))
        write_symbols(words, table)
        if not compose.grammar_fst(kept, words).write(str(binary)):
            raise AmiraError(f"cannot write {binary}: the disk may be full")
        grammar = openfst.read(binary)
    backoff = table.index(compose.BACKOFF)
    known = set(np.unique(grammar.inputs).tolist())
    missing = np.array([i for i, word in enumerate(table) if word in spoken.values() and i not in known], np.int32)
    [rootless] = np.setdiff1d(np.arange(grammar.finals.size), grammar.sources[grammar.inputs == backoff])[:1]
    root = np.full(missing.size, rootless, np.int32)
    return replace(
        grammar,
        sources=np.concatenate([grammar.sources, root]),
        targets=np.concatenate([grammar.targets, root]),
        inputs=np.concatenate([np.where(grammar.inputs == backoff, 0, grammar.inputs), missing]).astype(np.int32),
        outputs=np.concatenate([grammar.outputs, missing]).astype(np.int32),
        costs=np.concatenate([grammar.costs, np.full(missing.size, UNKNOWN_COST, np.float32)]),
    )
