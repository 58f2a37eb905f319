"""Language models: reading Sphinx's binary ones, training, pruning, and the command that composes them."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.cli import cli
from pipelines.errors import AmiraError
from pipelines.graphs import arpa, language, ngram, sphinx

pytest.importorskip("kaldingram")

WORDS = ["<s>", "</s>", "cat", "the"]
UNIGRAMS = {0: (-99.0, -0.5), 1: (-1.0, 0.0), 2: (-0.8, -0.3), 3: (-0.6, -0.4)}
BIGRAMS = {(3, 2): (-0.2, -0.1), (0, 3): (-0.3, -0.7), (2, 1): (-0.4, -0.0)}
TRIGRAMS = {(0, 3, 2): -0.05, (3, 2, 1): -0.15}
SENTENCES = ["the cat sat on the mat", "the dog sat on the log", "a cat saw the dog", "the dog saw a cat"] * 6


def sphinx_bytes() -> bytes:
    """The model above, written bit by bit as the format has it (see `pipelines.graphs.sphinx`)."""
    unit = math.log10(1.0001)
    bigrams = sorted(BIGRAMS, key=lambda words: words[::-1])
    trigrams = sorted(TRIGRAMS, key=lambda words: words[::-1])
    spare = 2  # the counts may announce more than there are

    def table(values: list[float]) -> bytes:
        return struct.pack("<65536f", *(value / unit for value in [*values, *[0.0] * (65536 - len(values))]))

    def first_child(children: list[tuple[int, ...]], parent: tuple[int, ...]) -> int:
        return sum(child[::-1][: len(parent)] < parent[::-1] for child in children)

    def pack(rows: list[list[tuple[int, int]]]) -> bytes:
        bits, at = 0, 0
        for row in rows:
            for value, width in row:
                bits |= value << at
                at += width
        size = ((1 + len(rows) - 1) * sum(width for _, width in rows[0]) + 7) // 8 + 8
        return bits.to_bytes(size, "little")

    counts = (len(WORDS), len(bigrams) + spare, len(trigrams))
    data = sphinx.MAGIC + struct.pack("<B3I", 3, *counts) + struct.pack("<I", 1)
    data += table([BIGRAMS[words][0] for words in bigrams]) + table([BIGRAMS[words][1] for words in bigrams])
    data += table([TRIGRAMS[words] for words in trigrams])
    for word in [*range(len(WORDS)), len(WORDS)]:
        log10, backoff = UNIGRAMS.get(word, (0.0, 0.0))
        data += struct.pack("<ffI", log10 / unit, backoff / unit, first_child(bigrams, (word,)))
    word_bits, child_bits = len(WORDS).bit_length(), len(trigrams).bit_length()
    rows = [
        [(words[0], word_bits), (index, 16), (index, 16), (first_child(trigrams, words), child_bits)]
        for index, words in enumerate(bigrams)
    ]
    rows += [[(0, word_bits), (0, 16), (0, 16), (len(trigrams), child_bits)]] * (1 + spare)
    data += pack(rows)
    data += pack(
        [[(words[0], word_bits), (index, 16)] for index, words in enumerate(trigrams)] + [[(0, word_bits), (0, 16)]]
    )
    text = b"".join(word.encode() + b"\0" for word in WORDS)
    return data + struct.pack("<i", len(text)) + text


def test_reads_the_tries_of_sphinx(tmp_path: Path) -> None:
    binary, target = tmp_path / "model.lm.bin", tmp_path / "model.arpa"
    binary.write_bytes(sphinx_bytes())
    sphinx.read(binary).write_arpa(target)
    found = {tuple(map(WORDS.index, entry.words)): (entry.log10, entry.backoff) for entry in arpa.read(target)}
    wanted = {(word,): values for word, values in UNIGRAMS.items()} | BIGRAMS
    wanted |= {words: (log10, 0.0) for words, log10 in TRIGRAMS.items()}
    assert found.keys() == wanted.keys()
    for words, values in wanted.items():
        assert found[words] == pytest.approx(values, abs=1e-3)


def test_refuses_what_is_no_model_of_sphinx(tmp_path: Path) -> None:
    path = tmp_path / "model.lm.bin"
    with pytest.raises(AmiraError, match="cannot be read"):
        sphinx.read(path)
    path.write_bytes(b"mmap lm http://kheafield.com/code")
    with pytest.raises(AmiraError, match="no binary language model of Sphinx"):
        sphinx.read(path)
    path.write_bytes(sphinx_bytes()[:-4000])
    with pytest.raises(AmiraError, match="is damaged"):
        sphinx.read(path)


def perplexity(path: Path, sentences: list[str]) -> float:
    from kaldingram.ppl import compute_ppl
    from kaldingram.prune import ArpaParser

    [model] = ArpaParser().loadf(path, encoding="utf-8")
    return float(compute_ppl(model, sentences)["ppl"])


def test_training_gives_probabilities_and_pruning_keeps_them(tmp_path: Path) -> None:
    target = tmp_path / "model.arpa"
    assert ngram.train(SENTENCES, target, order=3) == len(SENTENCES)
    entries = list(arpa.read(target))
    unigrams = [entry for entry in entries if len(entry.words) == 1 and entry.words != ("<s>",)]
    assert sum(10**entry.log10 for entry in unigrams) == pytest.approx(1.0, abs=1e-3)
    assert {entry.words for entry in entries} >= {("the", "dog"), ("sat", "on", "the")}
    pruned = tmp_path / "pruned.arpa"
    ngram.prune(target, pruned, 0.02)
    assert 0 < len(list(arpa.read(pruned))) < len(entries)
    assert perplexity(target, SENTENCES) <= perplexity(pruned, SENTENCES) < 3 * perplexity(target, SENTENCES)
    assert not list(tmp_path.glob("*.txt"))


def test_training_needs_text_and_sense(tmp_path: Path) -> None:
    with pytest.raises(AmiraError, match="3 sentences are too few"):
        ngram.train(["a b", "", "c d", "e"], tmp_path / "m.arpa")
    with pytest.raises(AmiraError, match="order 9 is not possible"):
        ngram.train(SENTENCES, tmp_path / "m.arpa", order=9)
    with pytest.raises(AmiraError, match="threshold 2 makes no sense"):
        ngram.prune(tmp_path / "m.arpa", tmp_path / "p.arpa", 2)


def test_a_trained_model_is_kept_by_what_it_was_trained_on(tmp_path: Path) -> None:
    said: list[str] = []
    first = language.trained(SENTENCES, tmp_path, 2, None, said.append)
    assert language.trained(SENTENCES, tmp_path, 2, None, said.append) == first
    assert len(said) == 1
    assert language.trained([*SENTENCES, "more"], tmp_path, 2, None, said.append) != first
    assert not list(tmp_path.glob(".work*"))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with the card and the token table of a model, which is all that graphs need of it."""
    folder = tmp_path / "build" / "models" / "letters"
    folder.mkdir(parents=True)
    letters = "abcdefghijklmnopqrstuvwxyz"
    symbols = ["<blk>", "<space>", *letters]
    (folder / "tokens.txt").write_text("".join(f"{symbol} {index}\n" for index, symbol in enumerate(symbols)))
    (folder / "model-card.toml").write_text(
        'family = "ctc"\nname = "letters"\n[files]\nfp32 = "m.onnx"\n[input]\nwindow_samples = 400\n'
        "[output]\nshift_samples = 160\n"
    )
    (tmp_path / "text.txt").write_text("\n".join(sentence.capitalize() + "." for sentence in SENTENCES))
    monkeypatch.setenv("AMIRA_HOME", str(tmp_path))
    return tmp_path


def invoke(*arguments: str) -> tuple[int, str, object]:
    result = CliRunner().invoke(cli, ["graph", *arguments])
    return result.exit_code, result.stdout, result.exception


def test_command_builds_lists_and_shows(home: Path) -> None:
    text = str(home / "text.txt")
    code, out, _ = invoke("build", "story", "--model", "letters", "--text", text, "--order", "2", "--json")
    built = json.loads(out)
    assert (code, built["words"], built["ngram_order"]) == (0, 9, 2)
    assert Path(built["folder"], "HLG.fst").stat().st_size == built["bytes"]
    code, out, _ = invoke("build", "chars", "--model", "letters", "--text", text, "--kind", "tokens", "--json")
    assert (code, json.loads(out)["kind"], json.loads(out)["ngram_order"]) == (0, "tokens", 3)
    code, out, _ = invoke("list", "--json")
    assert [entry["name"] for entry in json.loads(out)] == ["chars", "story"]
    code, out, _ = invoke("show", "story", "--word", "mat", "--json")
    assert json.loads(out)["spellings"] == {"mat": ["m", "a", "t"]}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--english", "--text", "x.txt"), "more than one language model"),
        (("--kind", "tokens", "--english"), "has no words"),
        (("--model", "nowhere"), "model 'nowhere' is not here"),
        (("--arpa", "none.arpa"), r"none\.arpa does not exist"),
        (("--arpa", "none.arpa", "--prune", "1e-7"), "prune your own ARPA file"),
        (("--text", "none.txt"), r"none\.txt cannot be read"),
        (("--words", "none.txt"), r"none\.txt cannot be read"),
        ((), "the graph has no words"),
    ],
)
def test_command_says_what_is_wrong(home: Path, arguments: tuple[str, ...], message: str) -> None:
    code, _, error = invoke("build", "g", "--model", "letters", *arguments)
    assert code != 0
    with pytest.raises(AmiraError, match=message):
        raise error  # type: ignore[misc]
