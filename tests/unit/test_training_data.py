"""The parts of training that need no PyTorch."""

import json
import subprocess
import sys

import numpy as np
import pytest

from pipelines.errors import AmiraError
from training import vocabulary
from training.config import load_config
from training.data import Speech, Utterance, batches, load_speech


def utterances(lengths: list[int]) -> list[Utterance]:
    return [Utterance(str(i), "c", "a b", None, 0, length) for i, length in enumerate(lengths)]


def test_a_text_survives_its_ids_and_a_best_path_collapses() -> None:
    units = vocabulary.CharacterUnits()
    assert units.decode(units.encode("don't go")) == "don't go"
    assert units.encode("naïve 7") == units.encode("nave ")
    a, b, space = units.encode("ab ")
    assert vocabulary.collapse(units, [0, a, a, 0, a, b, space, 0, space, b, 0]) == "aab b"


def test_tokens_are_the_lower_case_ones_and_those_that_are_said() -> None:
    singles = [bytes([value]) for value in range(256)]
    tokens = [b"<unk>", b"<s>", b"</s>", *singles, b"th", "\u2581the".encode(), b"The", b",", "\u2581".encode()]
    tokens += [letter.encode() for letter in "abcdefghijklmnopqrstuvwxyz'"]
    units = vocabulary.TokenUnits(tokens, vocabulary.kept_tokens(tokens, ["the"]))
    assert units.labels[:3] == ("<blank>", "th", "\u2581the")
    assert {"The", ",", "A"}.isdisjoint(units.labels)
    assert len(units.labels) == 1 + len(units.kept) == 1 + 3 + 27  # with the mark of a word, which "\u2581t" needs
    for text in ("the", "other baths", "don't"):
        ids = units.encode(text)
        assert 0 not in ids
        assert units.decode(ids) == text
    first, second = units.encode("at")[-2:]
    assert vocabulary.collapse(units, [0, first, first, 0, second, second]) == "at"


@pytest.mark.models
def test_the_first_tokens_spell_every_word_in_more_parts() -> None:
    text = "the quick brown fox's jumping over lazy dogs again because zebras vex"
    whole = vocabulary.package_tokens([text])
    few, many = vocabulary.package_tokens([], 40), vocabulary.package_tokens([], 750)
    assert (len(few.kept), len(many.kept)) == (40, 750)
    assert set(few.labels) < set(many.labels) < {*whole.labels, "\u2581"}
    spelled = [units.encode(text) for units in (few, many, whole)]
    assert len(spelled[0]) > len(spelled[1]) > len(spelled[2]) >= len(text.split())
    for units, ids in zip((few, many, whole), spelled, strict=True):
        assert units.decode(ids) == text
    with pytest.raises(AmiraError, match="28 tokens are too few: 28 are single characters"):
        vocabulary.package_tokens([], 28)


@pytest.mark.parametrize("seed", [None, 3])
def test_batches_hold_every_utterance_once_and_keep_to_the_limit(seed: int | None) -> None:
    rng = np.random.default_rng(5)
    items = utterances(list(rng.integers(1_000, 90_000, 200)))
    chance = None if seed is None else np.random.default_rng(seed)
    groups = list(batches(items, 200_000, chance))
    assert sorted(item.id for group in groups for item in group) == sorted(item.id for item in items)
    assert all(len(group) * max(item.samples for item in group) <= 200_000 for group in groups)
    assert len(groups) < 120  # batches, not one by one


def test_batches_differ_between_epochs_and_not_between_equal_seeds() -> None:
    items = utterances(list(range(1_000, 60_000, 500)))

    def order(seed: int) -> list[list[str]]:
        return [[item.id for item in group] for group in batches(items, 150_000, np.random.default_rng(seed))]

    assert order(1) == order(1) != order(2)


def test_speech_is_decoded_once_and_parts_have_the_wanted_length(tmp_path) -> None:
    import soundfile

    rng = np.random.default_rng(0)
    rows = []
    for index in range(12):
        samples = (rng.standard_normal(16_000 * (1 + index % 3)) * 3_000).astype(np.int16)
        soundfile.write(tmp_path / f"{index}.wav", samples, 16_000)
        rows.append({"audio": f"{index}.wav", "id": f"u{index}", "text": f"Number {index}!"})
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    speech = load_speech(str(tmp_path / "m.jsonl"), tmp_path / "cache")
    assert [item.text for item in speech.utterances[:2]] == ["number zero", "number one"]
    heard, _ = soundfile.read(tmp_path / "4.wav", dtype="int16")
    np.testing.assert_array_equal(speech.audio(speech.utterances[4]), heard)
    cached = sorted((tmp_path / "cache").iterdir())
    written = [path.stat().st_mtime_ns for path in cached]
    again = load_speech(str(tmp_path / "m.jsonl"), tmp_path / "cache")
    assert [path.stat().st_mtime_ns for path in cached] == written
    assert again.hours == pytest.approx(24 / 3600)
    part = speech.part(10 / 3600, seed=1)
    assert 10 <= part.hours * 3600 < 13
    assert isinstance(part, Speech)


def test_another_training_that_decodes_the_same_meanwhile_does_no_harm(tmp_path, monkeypatch) -> None:
    import soundfile

    from harness.corpus.model import Clip

    soundfile.write(tmp_path / "a.wav", np.zeros(16_000, np.int16), 16_000)
    (tmp_path / "m.jsonl").write_text(json.dumps({"audio": "a.wav", "id": "a", "text": "hush"}))
    load = f"from pathlib import Path; load_speech({str(tmp_path / 'm.jsonl')!r}, Path({str(tmp_path / 'cache')!r}))"
    pcm16 = Clip.pcm16

    def pcm16_beside(clip: Clip) -> bytes:
        subprocess.run([sys.executable, "-c", f"from training.data import load_speech; {load}"], check=True, timeout=60)
        return pcm16(clip)

    monkeypatch.setattr(Clip, "pcm16", pcm16_beside)
    speech = load_speech(str(tmp_path / "m.jsonl"), tmp_path / "cache")
    assert speech.audio(speech.utterances[0]).shape == (16_000,)
    assert sorted(path.suffix for path in (tmp_path / "cache").iterdir()) == [".json", ".pcm"]


def test_a_wrong_configuration_says_where(tmp_path) -> None:
    path = tmp_path / "t.toml"
    path.write_text('name = "x"\nstepps = 3\n')
    with pytest.raises(AmiraError, match="stepps"):
        load_config(path)
    with pytest.raises(AmiraError, match=r"none\.toml"):
        load_config(tmp_path / "none.toml")
