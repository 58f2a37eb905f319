"""From sources to a graph folder, once for each content."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from time import perf_counter
from typing import Literal

from pipelines.errors import AmiraError
from pipelines.graphs import arpa, compose, lexicon
from pipelines.graphs.folder import (
    CARD_FILE,
    EPSILON,
    FST_FILE,
    LEXICON_FILE,
    TOKENS_FILE,
    WORDS_FILE,
    GraphCard,
    GraphFolder,
    Source,
    write_symbols,
)
from pipelines.graphs.tokens import TokenSet
from pipelines.models.source import sha256

RECIPE_VERSION = 2
"""Counts up with every change of the recipe, so that graphs are built anew."""
NAME = re.compile(r"^[a-z0-9][a-z0-9._-]*$")
Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class GraphRecipe:
    """What a graph is made from.

    Attributes:
        tokens: The model's token table.
        kind: `words`, or `tokens` for a graph whose language model is one over tokens.
        arpa: The language model; `None` makes all words equally likely.
        lexicon: Spellings of the user's own; a word that is not in it is spelled by the table.
        words: Words beside those of the language model.
        order: Highest n-gram order that is used; `None` for all.
        lm_scale: Multiplies the language model's log-probabilities.
        word_bonus: Added to the log-probability for each word (tokens: for each token).
        hot_words: Words to be heard more readily: names, terms. The graph knows them even if nothing else does.
        hot_bonus: Added to the log-probability for each of them.
    """

    tokens: TokenSet
    kind: Literal["words", "tokens"] = "words"
    arpa: Path | None = None
    lexicon: Path | None = None
    words: tuple[str, ...] = ()
    order: int | None = None
    lm_scale: float = 1.0
    word_bonus: float = 0.0
    hot_words: tuple[str, ...] = ()
    hot_bonus: float = 0.0

    def sources(self) -> tuple[Source, ...]:
        """The files that the graph is made from, hashed."""
        files = (("language model", self.arpa), ("lexicon", self.lexicon))
        found = []
        for what, path in files:
            if path is None:
                continue
            if not path.is_file():
                raise AmiraError(f"{what} {path} does not exist. Name a file that does.")
            found.append(Source(what=what, name=path.name, sha256=sha256(path)))
        return tuple(found)

    def key(self, sources: tuple[Source, ...]) -> str:
        """Hash of everything that decides what the graph is."""
        content = {
            "recipe": RECIPE_VERSION,
            "vocabulary": self.tokens.sha256,
            "sources": [(source.what, source.sha256) for source in sources],
            "words": sorted(self.words),
            "hot_words": sorted(self.hot_words),
            **{name: getattr(self, name) for name in ("kind", "order", "lm_scale", "word_bonus", "hot_bonus")},
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def build(name: str, recipe: GraphRecipe, graphs_dir: Path, progress: Progress, *, force: bool = False) -> GraphFolder:
    """Build a graph, unless one of the same content is there.

    The folder appears only when it is whole.

    Raises:
        AmiraError: The name cannot be a folder's, a source is missing or broken, or no word can be spelled.
    """
    if not NAME.match(name):
        raise AmiraError(f"'{name}' cannot name a graph: use small letters, digits, '.', '_' and '-'")
    sources = recipe.sources()
    key = recipe.key(sources)
    folder = graphs_dir / name
    if not force:
        same = _of_key(key, graphs_dir)
        if folder in same:
            progress(f"{name}: up to date")
            return GraphFolder.open(folder)
    graphs_dir.mkdir(parents=True, exist_ok=True)
    work = Path(mkdtemp(prefix=f".{name}-", dir=graphs_dir))
    try:
        if not force and same:
            progress(f"{name}: copied from '{same[0].name}', which has the same content")
            shutil.copytree(same[0], work, dirs_exist_ok=True)
        else:
            _build_into(work, name, recipe, key, sources, progress)
        if folder.exists():
            shutil.rmtree(folder)
        work.replace(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return GraphFolder.open(folder)


def _of_key(key: str, graphs_dir: Path) -> list[Path]:
    """The whole graphs of this content."""
    found = []
    for card in sorted(graphs_dir.glob(f"*/{CARD_FILE}")):
        try:
            graph = GraphFolder.open(card.parent)
        except AmiraError:
            continue  # a damaged neighbour is not this build's business; opening it by name says what is wrong
        if graph.card.key == key and graph.fst_path.stat().st_size == graph.card.bytes:
            found.append(card.parent)
    return found


def _build_into(
    folder: Path, name: str, recipe: GraphRecipe, key: str, sources: tuple[Source, ...], progress: Progress
) -> None:
    started = perf_counter()
    tokens = recipe.tokens
    spelled = _lexicon(recipe, progress)
    words = [EPSILON, *spelled]
    # Kaldi's tools want the markers in the table; no path of the finished graph puts them out.
    write_symbols(folder / WORDS_FILE, [*words, compose.BACKOFF, arpa.BEGIN, arpa.END])
    (folder / TOKENS_FILE).write_text(tokens.text(), "utf-8")
    lexicon.write(folder / LEXICON_FILE, spelled, tokens)
    entries = [(label, spelling) for label, word in enumerate(words) if word != EPSILON for spelling in spelled[word]]
    # In a graph of tokens the separator is one of the words.
    separator = tokens.separator if recipe.kind == "words" else None
    hot = set(_folded(recipe.hot_words, tokens))
    bonuses = {label: recipe.word_bonus + recipe.hot_bonus * (word in hot) for label, word in enumerate(words)}
    prefixes = recipe.kind == "words" and separator is None
    spellings = compose.disambiguated(entries, prefixes=prefixes, bonuses=bonuses)
    lexicon_fst = compose.lexicon_fst(spellings, len(tokens), separator, len(words))
    grammar, order = None, 0
    if recipe.arpa is not None:
        scaled = folder / "scaled.arpa"
        progress(f"{name}: reading {recipe.arpa.name}")
        keep = _keeper(recipe, spelled)
        extra = list(spelled) if recipe.kind == "words" else []
        counts = arpa.rewrite(recipe.arpa, scaled, keep, scale=recipe.lm_scale, order=recipe.order, extra=extra)
        order = len(counts)
        progress(f"{name}: grammar of {' + '.join(f'{count:,}' for count in counts)} n-grams")
        grammar = compose.grammar_fst(scaled, folder / WORDS_FILE)
        scaled.unlink()
    progress(f"{name}: composing {len(words) - 1:,} words")
    graph = compose.compose(tokens, spellings, lexicon_fst, grammar)
    if not graph.write(str(folder / FST_FILE)):
        raise AmiraError(f"cannot write {folder / FST_FILE}: the disk may be full")
    arcs = sum(graph.num_arcs(state) for state in range(graph.num_states))
    card = GraphCard(
        kind=recipe.kind,
        key=key,
        vocabulary_sha256=tokens.sha256,
        ngram_order=order,
        lm_scale=recipe.lm_scale,
        word_bonus=recipe.word_bonus,
        words=len(words) - 1,
        states=graph.num_states,
        arcs=arcs,
        bytes=(folder / FST_FILE).stat().st_size,
        build_s=round(perf_counter() - started, 3),
        sources=sources,
    )
    (folder / CARD_FILE).write_text(card.to_toml(), "utf-8")
    progress(
        f"{name}: {card.states:,} states, {card.arcs:,} arcs, {card.bytes / 2**20:.1f} MiB in {card.build_s:.1f} s"
    )


def _lexicon(recipe: GraphRecipe, progress: Progress) -> lexicon.Lexicon:
    """Every word of the graph with its spellings."""
    tokens = recipe.tokens
    if recipe.kind == "tokens":
        return {tokens.symbols[index]: ((index,),) for index, piece in enumerate(tokens.pieces) if piece}
    listed = [*recipe.words, *recipe.hot_words, *(arpa.words(recipe.arpa) if recipe.arpa else ())]
    wanted = dict.fromkeys(_folded(listed, tokens))
    own = lexicon.read(recipe.lexicon, tokens) if recipe.lexicon else {}
    spelled, lost = lexicon.spelled((word for word in wanted if word not in own), tokens)
    if lost:
        shown = ", ".join(lost[:8])
        progress(f"{len(lost)} words cannot be spelled by the model's tokens and are left out: {shown}...")
    return {**own, **spelled}


def _folded(words: Iterable[str], tokens: TokenSet) -> list[str]:
    """Words in the case that the table has."""
    return [word.lower() if tokens.lower_case else word for word in words]


def _keeper(recipe: GraphRecipe, spelled: lexicon.Lexicon) -> Callable[[str], str | None]:
    if recipe.kind == "tokens" or not recipe.tokens.lower_case:
        return lambda word: word if word in spelled else None
    # Where a model has a word in two cases, the small one stands for both.
    return lambda word: (
        word if word in spelled else (word.lower() if word.isupper() and word.lower() in spelled else None)
    )
