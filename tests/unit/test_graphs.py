"""Decoding graphs against a search over every word sequence, and against broken input."""

from __future__ import annotations

import gzip
import itertools
import math
from pathlib import Path

import numpy as np
import pytest

from pipelines.errors import AmiraError
from pipelines.graphs import arpa, compose, lexicon
from pipelines.graphs.build import GraphRecipe, build
from pipelines.graphs.folder import CARD_FILE, FST_FILE, GraphFolder
from pipelines.graphs.reading import ReadingCosts, reading_graph
from pipelines.graphs.tokens import TokenSet

pytest.importorskip("kaldifst")

LETTERS = TokenSet.of_symbols(["<blk>", " ", "a", "b", "c"])
PIECES = TokenSet.of_symbols(["<blk>", "\u2581a", "\u2581b", "b", "c", "\u2581ab"])
ARPA = """comment

\\data\\
ngram 1=6
ngram 2=3
ngram 3=1

\\1-grams:
-1.0\t</s>
-99\t<s>\t-0.3
-0.7\ta\t-0.2
-0.8\tab\t-0.2
-0.9\tbc\t-0.1
-0.5\txyz\t-0.1

\\2-grams:
-0.3\t<s> a\t-0.4
-0.2\ta bc\t-0.6
-0.4\tab </s>

\\3-grams:
-0.1\t<s> a bc

\\end\\
"""


def quiet(_: str) -> None:
    pass


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.arpa"
    path.write_text(ARPA)
    return path


def log_lm(words: tuple[str, ...]) -> float:
    """Natural log-probability of a sentence under `ARPA`, by the definition of back-off."""
    table: dict[tuple[str, ...], tuple[float, float]] = {}
    for line in ARPA.splitlines():
        fields = line.split("\t")
        if len(fields) > 1:
            table[tuple(fields[1].split())] = (float(fields[0]), float(fields[2]) if len(fields) > 2 else 0.0)

    def conditional(history: tuple[str, ...], word: str) -> float:
        if (*history, word) in table:
            return table[(*history, word)][0]
        return table.get(history, (0.0, 0.0))[1] + conditional(history[1:], word)

    sentence = ("<s>", *words, "</s>")
    return math.log(10) * sum(
        conditional(sentence[max(0, index - 2) : index], sentence[index]) for index in range(1, len(sentence))
    )


def viterbi(log_probs: np.ndarray, tokens: tuple[int, ...], blank: int, itself: bool = False) -> float:
    """The best CTC alignment of a token sequence, by the textbook's dynamic programme.

    With `itself`, a token may follow itself without a blank between.
    """
    labels = [blank]
    for token in tokens:
        labels += [token, blank]
    best = np.full(len(labels), -np.inf)
    best[: 2 if tokens else 1] = log_probs[0, labels[:2]]
    for frame in log_probs[1:]:
        before = best.copy()
        for index, label in enumerate(labels):
            ways = [before[index], before[index - 1] if index else -np.inf]
            if index > 1 and label != blank and (itself or label != labels[index - 2]):
                ways.append(before[index - 2])
            best[index] = max(ways) + frame[label]
    return float(max(best[-1], best[-2]) if tokens else best[-1])


def searched(graph: GraphFolder, log_probs: np.ndarray) -> tuple[list[int], float]:
    import kaldi_decoder
    import kaldifst

    fst = graph.read_fst()
    decoder = kaldi_decoder.FasterDecoder(fst, kaldi_decoder.FasterDecoderOptions(beam=200.0))
    decoder.decode(kaldi_decoder.DecodableCtc(log_probs))
    assert decoder.reached_final()
    _, best = decoder.get_best_path()
    _, _, labels, weight = kaldifst.get_linear_symbol_sequence(best)
    return labels, -(weight.value1 + weight.value2)


def random_log_probs(seed: int, frames: int, tokens: TokenSet) -> np.ndarray:
    x = np.random.default_rng(seed).standard_normal((frames, len(tokens))).astype(np.float32) * 2
    return x - np.log(np.exp(x).sum(axis=1, keepdims=True))


def edges(tokens: TokenSet, words: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """The token sequences of a word sequence: with a separator between, and perhaps at the edges."""
    if tokens.separator is None:
        return [tuple(itertools.chain(*words))]
    gap = (tokens.separator,)
    inner = tuple(itertools.chain(*(part for word in words for part in (gap, word))))[1:]
    if not words:
        return [(), gap]
    return [before + inner + after for before in ((), gap) for after in ((), gap)]


@pytest.mark.parametrize("tokens", [LETTERS, PIECES], ids=["letters", "pieces"])
@pytest.mark.parametrize("seed", range(6))
def test_best_path_is_the_best_of_all_word_sequences(tmp_path: Path, model: Path, tokens: TokenSet, seed: int) -> None:
    graph = build("g", GraphRecipe(tokens, arpa=model, lm_scale=0.7, word_bonus=0.4), tmp_path / "graphs", quiet)
    log_probs = random_log_probs(seed, 7, tokens)
    vocabulary = [word for word in ("a", "ab", "bc") if tokens.spell(word)]
    best = (-math.inf, ())
    for count in range(5):
        for words in itertools.product(vocabulary, repeat=count):
            spelled = edges(tokens, [tokens.spell(word) or () for word in words])
            acoustic = max(viterbi(log_probs, sequence, tokens.blank) for sequence in spelled)
            best = max(best, (acoustic + 0.7 * log_lm(words) + 0.4 * count, words))
    labels, score = searched(graph, log_probs)
    assert graph.text(labels) == " ".join(best[1])
    assert score == pytest.approx(best[0], abs=0.02)  # weights are quantised to 1/1024 when states are merged


def test_graph_without_a_language_model_finds_the_best_spelling(tmp_path: Path) -> None:
    graph = build("g", GraphRecipe(LETTERS, words=("a", "ab", "bc")), tmp_path, quiet)
    assert graph.card.ngram_order == 0
    for seed in range(5):
        log_probs = random_log_probs(seed, 6, LETTERS)
        scores = {
            words: max(viterbi(log_probs, s, 0) for s in edges(LETTERS, [LETTERS.spell(word) or () for word in words]))
            for count in range(5)
            for words in itertools.product(("a", "ab", "bc"), repeat=count)
        }
        labels, score = searched(graph, log_probs)
        assert graph.text(labels) == " ".join(max(scores, key=lambda words: scores[words]))
        assert score == pytest.approx(max(scores.values()), abs=0.02)


def test_token_graph_agrees_with_greedy_where_all_tokens_are_alike(tmp_path: Path) -> None:
    graph = build("g", GraphRecipe(LETTERS, kind="tokens"), tmp_path, quiet)
    log_probs = random_log_probs(3, 12, LETTERS)
    labels, _ = searched(graph, log_probs)
    path = [token for token, _ in itertools.groupby(log_probs.argmax(axis=1))]
    greedy = "".join(LETTERS.pieces[token] for token in path if token != LETTERS.blank)
    assert graph.text(labels) == " ".join(greedy.split())


def test_words_spelled_alike_are_told_apart_by_the_language_model(tmp_path: Path) -> None:
    own = tmp_path / "lexicon.txt"
    own.write_text("a a\nab a b\nbc a b\n")
    model = tmp_path / "model.arpa"
    model.write_text(ARPA)
    graph = build("g", GraphRecipe(LETTERS, arpa=model, lexicon=own), tmp_path / "graphs", quiet)
    for frames, slots in (("ab", 1), ("a ab a", 3), ("ab ab", 2)):
        log_probs = np.full((len(frames), len(LETTERS)), -30, np.float32)
        log_probs[np.arange(len(frames)), [LETTERS.pieces.index(symbol) for symbol in frames]] = 0
        spelled = {"a": "a", "ab": "ab", "bc": "ab"}
        readings = [
            words
            for words in itertools.product(spelled, repeat=slots)
            if " ".join(spelled[word] for word in words) == frames
        ]
        assert len(readings) > 1
        found = tuple(graph.text(searched(graph, log_probs)[0]).split())
        assert found in readings
        assert log_lm(found) == pytest.approx(max(map(log_lm, readings)))


def test_folder_holds_what_a_decoder_needs(tmp_path: Path, model: Path) -> None:
    graph = build("g", GraphRecipe(LETTERS, arpa=model), tmp_path / "graphs", quiet)
    assert graph.words[:4] == ("<eps>", "a", "ab", "bc")  # xyz cannot be spelled
    assert graph.lexicon["ab"] == ("a", "b")
    assert graph.card.ngram_order == 3
    assert graph.card.states == graph.read_fst().num_states
    assert graph.card.bytes == graph.fst_path.stat().st_size
    assert [source.name for source in graph.card.sources] == ["model.arpa"]
    graph.check_vocabulary(LETTERS)
    with pytest.raises(AmiraError, match=r"made for 5 tokens.*model has 6"):
        graph.check_vocabulary(PIECES)


def test_same_content_is_built_once(tmp_path: Path, model: Path) -> None:
    said: list[str] = []
    recipe = GraphRecipe(LETTERS, arpa=model)
    first = build("one", recipe, tmp_path / "graphs", said.append)
    build("one", recipe, tmp_path / "graphs", said.append)
    assert said[-1] == "one: up to date"
    second = build("two", recipe, tmp_path / "graphs", said.append)
    assert "copied from 'one'" in said[-1]
    assert second.card == first.card
    model.write_text(ARPA.replace("-0.7\ta", "-0.6\ta"))
    assert build("two", recipe, tmp_path / "graphs", quiet).card.key != first.card.key
    (first.path / FST_FILE).write_bytes(b"cut short")
    assert build("one", GraphRecipe(LETTERS, arpa=model), tmp_path / "graphs", quiet).read_fst() is not None
    assert not list((tmp_path / "graphs").glob(".*"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("\\data\\", ""), "no .data. line"),
        (("ngram 2=3", "ngram 2=4"), "announces 4 2-grams and has 3"),
        (("\\end\\", ""), "cut short"),
        (("\\3-grams:", "\\4-grams:"), r"expected '.3-grams:'"),
        (("-0.2\ta bc", "minus\ta bc"), "not a number"),
        (("-0.2\ta bc\t-0.6", "-0.2\ta"), "expected a log-probability, 2 words"),
        (("-0.2\ta bc", "0.2\ta bc"), "no log10 of a probability"),
        (("ngram 1=6", "ngram one"), "expected 'ngram 1=COUNT'"),
    ],
)
def test_broken_language_models_are_refused(tmp_path: Path, model: Path, change: tuple[str, str], message: str) -> None:
    model.write_text(ARPA.replace(*change))
    with pytest.raises(AmiraError, match=message):
        build("g", GraphRecipe(LETTERS, arpa=model), tmp_path / "graphs", quiet)
    assert not list((tmp_path / "graphs").iterdir())


def test_binary_missing_and_packed_language_models(tmp_path: Path, model: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"\xff\xfe\x00mmap lm")
    with pytest.raises(AmiraError, match="not UTF-8"):
        build("g", GraphRecipe(LETTERS, arpa=tmp_path / "model.bin"), tmp_path / "graphs", quiet)
    with pytest.raises(AmiraError, match=r"none\.arpa does not exist"):
        build("g", GraphRecipe(LETTERS, arpa=tmp_path / "none.arpa"), tmp_path / "graphs", quiet)
    packed = tmp_path / "model.arpa.gz"
    packed.write_bytes(gzip.compress(ARPA.encode()))
    assert list(arpa.read(packed)) == list(arpa.read(model))


def test_a_lower_order_and_upper_case(tmp_path: Path, model: Path) -> None:
    model.write_text(ARPA.replace("\ta", "\tA").replace(" a", " A").replace("bc", "BC").replace("ab", "AB"))
    graph = build("g", GraphRecipe(LETTERS, arpa=model, order=2), tmp_path / "graphs", quiet)
    assert (graph.card.ngram_order, graph.words[1:4]) == (2, ("a", "ab", "bc"))


def test_of_many_tokens_one_may_follow_itself_without_a_blank(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other topology against the same search over every word sequence; it has an arc a token, and not a pair."""
    monkeypatch.setattr(compose, "PAIRS_OF", 2)
    vocabulary = [word for word in ("a", "ab", "bc") if PIECES.spell(word)]
    graph = build("g", GraphRecipe(PIECES, arpa=model), tmp_path / "graphs", quiet)
    for seed in range(8):
        log_probs = random_log_probs(seed, 6, PIECES)
        scores = {}
        for size in range(1, 5):
            for words in itertools.product(vocabulary, repeat=size):
                lm = log_lm(words)
                for spelled in itertools.product(*(PIECES.spellings(word) for word in words)):
                    acoustic = viterbi(log_probs, tuple(itertools.chain(*spelled)), 0, itself=True)
                    scores[words, spelled] = acoustic + lm
        (best, _), expected = max(scores.items(), key=lambda item: item[1])
        labels, found = searched(graph, log_probs)
        assert found == pytest.approx(expected, abs=1e-3)
        assert tuple(graph.words[label] for label in labels) == best
    many = TokenSet.of_symbols(["<blk>", "\u2581a", *(f"t{index}" for index in range(20_000))])
    everything = compose.ctc_fst(many, 1)
    assert sum(everything.num_arcs(state) for state in range(everything.num_states)) == 2 + 3 * 20_001


def test_tokens_that_no_word_is_spelled_with_are_left_out(tmp_path: Path, model: Path) -> None:
    """The graph of a table is that of the tokens that its words have."""
    more = TokenSet.of_symbols(["<blk>", "\u2581a", "\u2581b", "b", "c", "\u2581ab", *(f"t{n}" for n in range(3_000))])
    few, many = (
        build(name, GraphRecipe(tokens, arpa=model), tmp_path / "graphs", quiet)
        for name, tokens in (("few", PIECES), ("many", more))
    )
    assert (few.card.states, few.card.arcs) == (many.card.states, many.card.arcs)


def test_a_reading_graph_of_too_many_tokens_is_refused_before_it_fills_the_memory() -> None:
    many = TokenSet.of_symbols(["<blk>", "\u2581a", *(f"t{index}" for index in range(5_000))])
    with pytest.raises(AmiraError, match=r"has 5,002 tokens.*5,000 are the most"):
        reading_graph("a a", many, ReadingCosts())


def test_a_word_is_spelled_by_longest_match_and_by_merges() -> None:
    tokens = TokenSet.of_symbols(["<blk>", "a", "b", "c", "\u2581", "bc", "\u2581a", "\u2581ab"])
    assert tokens.spellings("abc") == ((7, 3), (6, 5))
    assert tokens.spellings("ab") == ((7,),)
    assert tokens.spellings("abd") == ()
    assert LETTERS.spellings("ab") == ((2, 3),)


def test_nothing_that_can_be_spelled(tmp_path: Path, model: Path) -> None:
    digits = TokenSet.of_symbols(["<blk>", "1", "2"])
    with pytest.raises(AmiraError, match="spell none of them"):
        build("g", GraphRecipe(digits, arpa=model), tmp_path / "graphs", quiet)


@pytest.mark.parametrize(
    ("text", "message"),
    [("word\n", "has no tokens"), ("ab a z\n", "'z' is not a token"), ("\n", "has no words")],
)
def test_broken_lexica(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "lexicon.txt"
    path.write_text(text)
    with pytest.raises(AmiraError, match=message):
        lexicon.read(path, LETTERS)


def test_token_tables_survive_writing(tmp_path: Path) -> None:
    path = tmp_path / "tokens.txt"
    for tokens in (LETTERS, PIECES):
        path.write_text(tokens.text())
        assert TokenSet.read(path) == tokens
    assert (LETTERS.separator, PIECES.separator) == (1, None)
    assert PIECES.spell("abc") == (5, 4)
    assert LETTERS.spell("a b") is None


def test_broken_folders_say_so(tmp_path: Path, model: Path) -> None:
    with pytest.raises(AmiraError, match="graph 'nowhere' does not exist"):
        GraphFolder.open(Path("nowhere"))
    graph = build("g", GraphRecipe(LETTERS, arpa=model), tmp_path, quiet)
    graph.fst_path.write_bytes(b"x" * 100)
    with pytest.raises(AmiraError, match="not a transducer"):
        GraphFolder.open(graph.path).read_fst()
    (graph.path / CARD_FILE).write_text("kind = 3")
    with pytest.raises(AmiraError, match="is broken"):
        GraphFolder.open(graph.path)
    with pytest.raises(AmiraError, match="cannot name a graph"):
        build("../g", GraphRecipe(LETTERS, arpa=model), tmp_path, quiet)


def test_hot_words_win_where_the_sound_is_alike_and_are_known_without_the_model(tmp_path: Path, model: Path) -> None:
    log_probs = np.full((5, len(LETTERS)), -9, np.float32)
    for frame, symbol in enumerate("a ca "):
        log_probs[frame, LETTERS.pieces.index(symbol)] = -0.1
    log_probs[2, LETTERS.pieces.index("b")] = -1.5  # "ca" is heard, "ba" is nearly as likely
    texts = {}
    for bonus in (0.0, 6.0):
        recipe = GraphRecipe(LETTERS, arpa=model, words=("ca",), hot_words=("BA",), hot_bonus=bonus)
        graph = build(f"hot-{bonus:g}", recipe, tmp_path / "graphs", quiet)
        assert {"ba", "ca"} <= set(graph.words)
        texts[bonus] = graph.text(searched(graph, log_probs)[0])
    assert texts == {0.0: "a ca", 6.0: "a ba"}
