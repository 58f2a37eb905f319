"""Synthetic speech: sentences by chance, and a real Flite that says them."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
import typer

from harness.corpus.load import load_corpus
from pipelines import debian
from pipelines.errors import AmiraError
from training.spoken import LONGEST, VOICES, Flite, Sentences, build, main, rows

MODEL = r"""
\data\
ngram 1=6
ngram 2=4
ngram 3=2

\1-grams:
-99 <s> 0
-1 </s>
-0.3 the 0
-0.6 cat 0
-1 sat 0
-1 b. 0

\2-grams:
0 <s> the 0
0 the cat 0
-0.3 cat sat 0
-0.3 cat </s>

\3-grams:
0 the cat sat
0 cat sat </s>

\end\
"""


@pytest.fixture
def sentences(tmp_path: Path) -> Sentences:
    path = tmp_path / "small.arpa"
    path.write_text(MODEL.lstrip())
    return Sentences(path)


def test_sentences_are_the_trigrams_but_for_rare_words(sentences: Sentences, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = [next(itertools.islice(rows(sentences, seed), 1))["text"] for seed in range(300)]
    words = Counter(itertools.chain.from_iterable(str(text).split() for text in drawn))
    assert set(words) == {"the", "cat", "sat"}  # neither marks nor what has a point
    assert max(len(str(text).split()) for text in drawn) <= LONGEST
    monkeypatch.setattr("training.spoken.RARE", 0.0)
    certain = {next(itertools.islice(rows(sentences, seed), 1))["text"] for seed in range(50)}
    assert certain == {"the cat sat"}


def test_a_row_depends_on_seed_and_number_alone(sentences: Sentences) -> None:
    first, again = (list(itertools.islice(rows(sentences, 3), 40)) for _ in range(2))
    assert first == again
    assert list(itertools.islice(rows(sentences, 4), 40)) != first
    assert {row["voice"] for row in first} == set(VOICES)


@pytest.fixture(scope="module")
def flite(tmp_path_factory: pytest.TempPathFactory) -> Flite:
    try:
        return Flite(tmp_path_factory.mktemp("flite"))
    except debian.UnobtainableError as error:
        pytest.skip(f"Flite cannot be had here: {error}")


def test_a_corpus_is_spoken_and_can_be_read(sentences: Sentences, flite: Flite, tmp_path: Path) -> None:
    build(sentences, flite, tmp_path / "spoken", 12 / 3600, 1, 2)
    corpus = load_corpus(str(tmp_path / "spoken"))
    expected = list(itertools.islice(rows(sentences, 1), len(corpus.clips)))
    assert [clip.text for clip in corpus.clips] == [row["text"] for row in expected]
    assert sum(clip.duration_s for clip in corpus.clips) >= 12
    for clip in corpus.clips:
        samples, rate = soundfile.read(tmp_path / "spoken" / f"{clip.id}.flac")
        assert rate == 16_000
        assert np.abs(samples).max() == pytest.approx(0.5, abs=1e-3)
    lines = [json.loads(line) for line in (tmp_path / "spoken/manifest.jsonl").read_text().splitlines()]
    assert {line["corpus"] for line in lines} == {"spoken"}
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_what_flite_cannot_write_is_said(flite: Flite, tmp_path: Path) -> None:
    with pytest.raises(AmiraError, match=r"flite could not say 'hello' with voice slt: .*absent"):
        flite.say("hello", "slt", 1.0, tmp_path / "absent" / "x.wav")


def test_every_voice_is_there_and_none_is_another(flite: Flite, tmp_path: Path) -> None:
    """Flite takes its first voice for a name that it does not know, and says nothing of it."""
    for voice in (*VOICES, "nobody"):
        flite.say("good morning", voice, 1.0, tmp_path / f"{voice}.wav")
    assert len({(tmp_path / f"{voice}.wav").read_bytes() for voice in (*VOICES, "nobody")}) == len(VOICES) + 1


def test_a_corpus_that_is_there_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir()
    monkeypatch.setattr("pipelines.paths.corpora_dir", lambda: tmp_path)
    with pytest.raises(typer.BadParameter, match="there is a corpus 'mine' already"):
        main(name="mine")
