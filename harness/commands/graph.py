"""`amira graph`: decoding graphs from a lexicon, a language model and a model's tokens."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.output import Json, print_json, print_table, say

if TYPE_CHECKING:
    from pipelines.graphs.folder import GraphFolder

app = typer.Typer(no_args_is_help=True, help="Build decoding graphs for CTC models, and look at them.")


class Kind(StrEnum):
    """What a graph's output is."""

    WORDS = "words"
    TOKENS = "tokens"


@app.command()
def build(
    name: Annotated[str, typer.Argument(help="Name of the graph: a folder under build/graphs.")],
    model: Annotated[str, typer.Option(help="CTC model whose tokens spell the words.")] = "moonshine-ctc",
    english: Annotated[
        bool, typer.Option("--english", help="Use CMU Sphinx's English trigram (72,547 words, fetched once).")
    ] = False,
    arpa: Annotated[Path | None, typer.Option(help="Use this ARPA language model (plain or gzip).")] = None,
    text: Annotated[
        list[str] | None,
        typer.Option(help="Train on this: a .txt file with a sentence a line, or a corpus; may be repeated."),
    ] = None,
    order: Annotated[int | None, typer.Option(min=1, max=9, help="Highest n-gram order (training: 3).")] = None,
    prune: Annotated[
        float | None, typer.Option(help="Drop n-grams without which perplexity rises by less than this.")
    ] = None,
    lexicon: Annotated[
        Path | None, typer.Option(help="Own spellings, 'WORD TOKEN...' a line; other words are spelled by the model.")
    ] = None,
    words: Annotated[Path | None, typer.Option(help="More words, one a line.")] = None,
    hot_words: Annotated[Path | None, typer.Option(help="Words to be heard more readily: names, terms.")] = None,
    hot_bonus: Annotated[float, typer.Option(min=0, help="Added to the log-probability for each hot word.")] = 3.0,
    kind: Annotated[Kind, typer.Option(help="Words, or the model's tokens themselves.")] = Kind.WORDS,
    lm_scale: Annotated[float, typer.Option(min=0, help="Weight of the language model.")] = 1.0,
    word_bonus: Annotated[float, typer.Option(help="Added to the log-probability for each word.")] = 0.0,
    force: Annotated[bool, typer.Option("--force", help="Build anew even if it is there.")] = False,
    json: Json = False,
) -> None:
    """Compose a decoding graph: HLG.fst, words.txt, tokens.txt, lexicon.txt, graph.toml.

    Without a language model all words are equally likely. A graph of the same content is not built twice.

    Examples:  amira graph build english --english    amira graph build reader --text shared:train --order 3
    """
    from pipelines.errors import AmiraError
    from pipelines.graphs.build import GraphRecipe
    from pipelines.graphs.build import build as build_graph
    from pipelines.graphs.tokens import TokenSet
    from pipelines.paths import graphs_dir, models_dir

    named = [flag for flag, given in (("--english", english), ("--arpa", arpa), ("--text", text)) if given]
    if len(named) > 1:
        raise AmiraError(f"{' and '.join(named)} name more than one language model: keep one of them")
    if kind is Kind.TOKENS and (english or lexicon or words or hot_words):
        raise AmiraError("a graph of tokens has no words: leave out --english, --lexicon, --words, --hot-words")
    tokens = TokenSet.of_model(models_dir() / model)
    recipe = GraphRecipe(
        tokens,
        kind=kind.value,
        arpa=_language_model(english, arpa, text or [], order, prune, tokens if kind is Kind.TOKENS else None),
        lexicon=lexicon,
        words=_words(words),
        order=order,
        lm_scale=lm_scale,
        word_bonus=word_bonus,
        hot_words=_words(hot_words),
        hot_bonus=hot_bonus if hot_words else 0.0,
    )
    graph = build_graph(name, recipe, graphs_dir(), say, force=force)
    if json:
        print_json(_entry(graph))


@app.command("list")
def list_graphs(json: Json = False) -> None:
    """List the graphs that are built, with their sizes."""
    from pipelines.errors import AmiraError
    from pipelines.graphs.folder import CARD_FILE, GraphFolder
    from pipelines.paths import graphs_dir

    entries = []
    for card in sorted(graphs_dir().glob(f"[!.]*/{CARD_FILE}")):
        try:
            entries.append(_entry(GraphFolder.open(card.parent)))
        except AmiraError as error:
            say(f"{card.parent.name}: {error}")
    if json:
        print_json(entries)
        return
    if not entries:
        say("no graphs are built. Build one: amira graph build english --english")
        return
    rows = [
        (
            entry["name"],
            entry["kind"],
            f"{entry['words']:,}",
            entry["ngram_order"],
            f"{entry['states']:,}",
            f"{entry['arcs']:,}",
            f"{entry['bytes'] / 2**20:.1f}",
        )
        for entry in entries
    ]
    print_table("", ("graph", "of", "words", "order", "states", "arcs", "MiB"), rows)


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="A graph's name or folder.")],
    word: Annotated[list[str] | None, typer.Option(help="Show how a word is spelled; may be repeated.")] = None,
    json: Json = False,
) -> None:
    """Show what a graph was made from, and how it spells words."""
    from pipelines.errors import unknown
    from pipelines.graphs.folder import GraphFolder

    graph = GraphFolder.open(Path(name))
    spelled = {}
    for asked in word or []:
        if asked not in graph.lexicon:
            raise unknown(
                "word", asked, list(graph.lexicon)[:8], f"Graph '{graph.path.name}' knows {graph.card.words:,} words."
            )
        spelled[asked] = list(graph.lexicon[asked])
    if json:
        print_json({**_entry(graph), "spellings": spelled})
        return
    rows = [(key, value) for key, value in graph.card.model_dump().items() if key != "sources"]
    rows += [(source.what, f"{source.name}  sha256 {source.sha256[:16]}...") for source in graph.card.sources]
    rows += [(asked, " ".join(symbols)) for asked, symbols in spelled.items()]
    print_table(str(graph.path), ("", ""), rows)


def _entry(graph: GraphFolder) -> dict[str, Any]:
    return {"name": graph.path.name, "folder": str(graph.path), **graph.card.model_dump()}


def _language_model(
    english: bool, arpa: Path | None, text: list[str], order: int | None, prune: float | None, tokens: Any
) -> Path | None:
    """The ARPA file that was asked for, made where needed; `tokens` where the model is one over tokens."""
    from pipelines.errors import AmiraError
    from pipelines.graphs import language
    from pipelines.paths import languages_dir

    if english:
        return language.english(languages_dir(), say, language.ENGLISH_PRUNE if prune is None else prune)
    if text:
        sentences = [sentence for name in text for sentence in _sentences(name)]
        if tokens is not None:
            sentences = [_in_tokens(sentence, tokens) for sentence in sentences]
        return language.trained(sentences, languages_dir(), order or 3, prune, say)
    if prune is not None:
        raise AmiraError("--prune goes with --english or --text; prune your own ARPA file before you bring it")
    return arpa


def _sentences(name: str) -> list[str]:
    """The normalised sentences of a text file or of a corpus' transcripts."""
    from harness.corpus import load_corpus
    from harness.metrics.normalise import normalise
    from pipelines.errors import AmiraError

    if name.endswith(".txt"):
        try:
            lines = Path(name).read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise AmiraError(f"text {name} cannot be read: {error}. Name a UTF-8 file, a sentence a line.") from error
    else:
        lines = [clip.text for clip in load_corpus(name).clips if clip.text]
    return [sentence for sentence in map(normalise, lines) if sentence]


def _in_tokens(sentence: str, tokens: Any) -> str:
    """A sentence as the symbols of its tokens, for a language model over tokens; unspellable words are left out."""
    spelled = [spelling for word in sentence.split() if (spelling := tokens.spell(word))]
    gap = [] if tokens.separator is None else [tokens.symbols[tokens.separator]]
    symbols: list[str] = []
    for index, spelling in enumerate(spelled):
        symbols += [*(gap if index else []), *(tokens.symbols[token] for token in spelling)]
    return " ".join(symbols)


def _words(path: Path | None) -> tuple[str, ...]:
    from pipelines.errors import AmiraError

    if path is None:
        return ()
    try:
        return tuple(word for line in path.read_text("utf-8").splitlines() for word in line.split())
    except (OSError, UnicodeDecodeError) as error:
        raise AmiraError(f"words {path} cannot be read: {error}. Name a UTF-8 file.") from error
