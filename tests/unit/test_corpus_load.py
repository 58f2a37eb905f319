"""Loading corpora: folders, LibriSpeech trees, manifests, shared corpora, and what can be wrong with them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from harness.corpus import corpus_names, describe, load_corpus
from pipelines.errors import AmiraError

RATE = 16_000


def record(path: Path, seconds: float = 0.5, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = 0.1 * np.random.default_rng(seed).standard_normal(round(seconds * RATE))
    soundfile.write(path, values, RATE)
    return path


def manifest(path: Path, *rows: dict[str, Any] | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder without any corpus."""
    monkeypatch.setenv("AMIRA_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("AMIRA_CORPORA", raising=False)
    return tmp_path / "home"


def test_folder_with_text_beside_audio(tmp_path: Path) -> None:
    record(tmp_path / "mine" / "b.wav", 1.0)
    (tmp_path / "mine" / "b.txt").write_text("\ufeffHello,\n world.\n", encoding="utf-8")
    record(tmp_path / "mine" / "sub" / "a.FLAC", 0.5)
    record(tmp_path / "mine" / ".hidden" / "c.wav")
    (tmp_path / "mine" / "notes.md").write_text("not audio")
    corpus = load_corpus(str(tmp_path / "mine"))
    assert [(clip.id, clip.text, clip.duration_s, clip.speaker) for clip in corpus.clips] == [
        ("b", "Hello, world.", 1.0, None),
        ("sub/a", None, 0.5, None),
    ]
    assert {clip.corpus for clip in corpus.clips} == {corpus.name} == {"mine"}
    assert "1 without transcript" in corpus.description
    assert len(corpus.clips[0].pcm16()) == 2 * RATE


@pytest.fixture
def librispeech(tmp_path: Path) -> Path:
    root = tmp_path / "LibriSpeech"
    for split, speaker, chapter in [("dev-clean", "84", "121123"), ("dev-clean", "174", "50561"), ("test", "61", "7")]:
        folder = root / split / speaker / chapter
        for number in range(2):
            record(folder / f"{speaker}-{chapter}-{number:04}.flac")
        lines = [f"{speaker}-{chapter}-{number:04} WORDS OF NUMBER {number}\n" for number in range(2)]
        (folder / f"{speaker}-{chapter}.trans.txt").write_text("".join(lines))
    return root


def test_librispeech_tree(librispeech: Path) -> None:
    corpus = load_corpus(str(librispeech))
    assert len(corpus.clips) == 6
    clip = next(clip for clip in corpus.clips if clip.id == "84-121123-0001")
    assert (clip.text, clip.speaker) == ("WORDS OF NUMBER 1", "84")


def test_split_of_a_tree_is_a_sub_folder(librispeech: Path) -> None:
    corpus = load_corpus(str(librispeech), split="dev-clean")
    assert {clip.speaker for clip in corpus.clips} == {"84", "174"}
    with pytest.raises(AmiraError, match=r"split of corpus .* 'dev-claen' does not exist; have: dev-clean, test"):
        load_corpus(str(librispeech), split="dev-claen")


def test_transcript_lines_without_audio_are_counted(librispeech: Path) -> None:
    (librispeech / "test" / "61" / "7" / "61-7-0000.flac").unlink()
    corpus = load_corpus(str(librispeech))
    assert len(corpus.clips) == 5
    assert "1 transcript lines without audio were left out" in corpus.description


def test_broken_transcripts(librispeech: Path) -> None:
    path = librispeech / "test" / "61" / "7" / "61-7.trans.txt"
    path.write_text("61-7-0000\n")
    with pytest.raises(AmiraError, match=r"61-7\.trans\.txt:1: '61-7-0000' has no words"):
        load_corpus(str(librispeech))
    path.write_text("61-7-0000 A\n\n61-7-0000 B\n")
    with pytest.raises(AmiraError, match=r"trans\.txt:3: id '61-7-0000' is already at .*trans\.txt:1"):
        load_corpus(str(librispeech))
    path.write_bytes(b"61-7-0000 \xff\xfe\n")
    with pytest.raises(AmiraError, match="is not UTF-8"):
        load_corpus(str(librispeech))


def test_two_recordings_of_one_id(tmp_path: Path) -> None:
    record(tmp_path / "mine" / "a.wav")
    record(tmp_path / "mine" / "a.flac")
    with pytest.raises(AmiraError, match=r"two recordings have the id 'a': .*a\.flac and .*a\.wav"):
        load_corpus(str(tmp_path / "mine"))


def test_manifest_in_a_folder(tmp_path: Path) -> None:
    record(tmp_path / "set" / "audio" / "x.wav", 0.75)
    row = {
        "id": "x-1", "audio": "audio/x.wav", "text": "line\u2028separator is no line end", "speaker": "s1", "age": 6,
        "duration_s": 0.75, "corpus": "kids", "split": "dev", "licence": "CC0", "source": "us", "note": "passed over",
    }  # fmt: skip
    manifest(tmp_path / "set" / "manifest.jsonl", row, "")
    (clip,) = load_corpus(str(tmp_path / "set")).clips
    assert clip.audio == tmp_path / "set" / "audio" / "x.wav"
    assert (clip.id, clip.corpus, clip.speaker, clip.age, clip.licence) == ("x-1", "kids", "s1", 6, "CC0")
    assert clip.text == "line\u2028separator is no line end"


def test_manifest_named_by_its_path_and_only_audio_given(tmp_path: Path) -> None:
    record(tmp_path / "a.wav", 0.25)
    (clip,) = load_corpus(str(manifest(tmp_path / "mine.jsonl", {"audio": "a.wav"}))).clips
    assert (clip.id, clip.text, clip.duration_s, clip.corpus) == ("a", None, 0.25, "mine")


def test_nemo_manifest_with_offsets_into_one_file(tmp_path: Path) -> None:
    whole = record(tmp_path / "long.wav", 3.0)
    path = manifest(
        tmp_path / "nemo.json.jsonl",
        {"audio_filepath": str(whole), "offset": 0.5, "duration": 1.0, "text": "one", "speaker": 7},
        {"audio_filepath": str(whole), "offset": 2.0, "duration": 0.5, "text": "two"},
    )
    first, second = load_corpus(str(path)).clips
    assert (first.start_s, first.end_s, first.duration_s, first.speaker) == (0.5, 1.5, 1.0, "7")
    assert first.id != second.id
    expected, _ = soundfile.read(whole, dtype="int16")
    assert first.pcm16() == expected[8_000:24_000].tobytes()
    assert second.pcm16() == expected[32_000:40_000].tobytes()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"audio": "a.wav"', "m.jsonl:2: not JSON"),
        ('["a.wav"]', "m.jsonl:2: 'line': Input should be"),
        ('{"text": "no audio"}', "m.jsonl:2: 'audio': Field required"),
        ('{"audio": "a.wav", "duration_s": "long"}', "m.jsonl:2: 'duration_s'"),
        ('{"audio": "a.wav", "duration": -1}', "m.jsonl:2: 'duration'"),
        ('{"audio": "b.wav"}', "m.jsonl:2: audio '.*b.wav' does not exist"),
        ('{"audio": "a.wav"}', "m.jsonl:2: id 'a' is already on line 1"),
        ('{"audio": "a.wav", "id": "z", "start_s": 2.0, "end_s": 1.0}', "m.jsonl:2: the clip ends at 1 s, before"),
        ('{"audio": "a.wav", "id": "z", "start_s": 2.0}', "m.jsonl:2: the clip starts at 2 s, behind the end"),
        ('{"audio": "text.wav", "id": "z"}', "m.jsonl:2: .*is not audio"),
    ],
)
def test_broken_lines_are_named(tmp_path: Path, line: str, message: str) -> None:
    record(tmp_path / "a.wav")
    (tmp_path / "text.wav").write_text("not audio at all, however long it may be")
    path = manifest(tmp_path / "m.jsonl", {"audio": "a.wav"}, line)
    with pytest.raises(AmiraError, match=message):
        load_corpus(str(path))


def test_several_manifests_need_a_split(tmp_path: Path) -> None:
    record(tmp_path / "a.wav")
    for name in ("dev", "train"):
        manifest(tmp_path / f"{name}.jsonl", {"audio": "a.wav", "id": name})
    assert [clip.id for clip in load_corpus(str(tmp_path), split="train").clips] == ["train"]
    with pytest.raises(AmiraError, match="several manifests: dev, train"):
        load_corpus(str(tmp_path))
    with pytest.raises(AmiraError, match="'test' does not exist; have: dev, train"):
        load_corpus(str(tmp_path), split="test")


def test_split_of_one_manifest_is_by_line(tmp_path: Path) -> None:
    record(tmp_path / "a.wav")
    rows = [{"audio": "a.wav", "id": split, "split": split} for split in ("dev", "train")]
    path = str(manifest(tmp_path / "all.jsonl", *rows))
    assert len(load_corpus(path).clips) == 2
    assert [clip.id for clip in load_corpus(path, split="dev").clips] == ["dev"]
    with pytest.raises(AmiraError, match=r"no usable clip: .* no line of split 'test'"):
        load_corpus(path, split="test")


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    folder = tmp_path / "shared" / "corpora"
    record(folder / "a.wav")
    rows = [{"audio": "a.wav", "id": f"{corpus}-{n}", "corpus": corpus} for corpus in ("an4", "kids") for n in (1, 2)]
    manifest(folder / "dev.jsonl", *rows)
    return folder


def test_shared_corpora_lie_beside_the_home_folder(shared: Path) -> None:
    assert len(load_corpus("shared:dev").clips) == 4
    corpus = load_corpus("shared:dev/an4")
    assert [clip.id for clip in corpus.clips] == ["an4-1", "an4-2"]
    assert corpus_names() == ["shared:dev", "starter"]


def test_shared_corpora_lie_where_the_variable_says(
    tmp_path: Path, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = shared.rename(tmp_path / "elsewhere")
    with pytest.raises(AmiraError, match=r"there is no folder .*shared/corpora.*AMIRA_CORPORA"):
        load_corpus("shared:dev")
    monkeypatch.setenv("AMIRA_CORPORA", str(elsewhere))
    assert len(load_corpus("shared:dev").clips) == 4


@pytest.mark.usefixtures("shared")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("shared:test", "corpus 'shared:test' does not exist; have: shared:dev"),
        ("shared:dev/an5", "have: shared:dev/an4, shared:dev/kids. Did you mean 'shared:dev/an4'"),
        ("startre", "have: shared:dev, starter. Did you mean 'starter'"),
        ("/no/such/folder", "'/no/such/folder' does not exist.*amira corpus list"),
        ("starter", "corpus 'starter' is not built.*amira corpus build"),
    ],
)
def test_unknown_names(name: str, message: str) -> None:
    with pytest.raises(AmiraError, match=message):
        load_corpus(name)


def test_nothing_usable(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "a.txt").write_text("text without audio")
    for path in (tmp_path / "empty", manifest(tmp_path / "empty.jsonl", "")):
        with pytest.raises(AmiraError, match=r"has no usable clip.*It needs audio files"):
            load_corpus(str(path))


def test_a_broken_recording_in_a_folder_is_named(tmp_path: Path) -> None:
    record(tmp_path / "mine" / "a.wav")
    (tmp_path / "mine" / "b.wav").write_bytes(b"RIFF")
    with pytest.raises(AmiraError, match=r"b\.wav' is not audio"):
        load_corpus(str(tmp_path / "mine"))


def test_a_corpus_in_the_build_folder_goes_by_its_name(home: Path) -> None:
    record(home / "build" / "corpora" / "kids" / "a.wav")
    manifest(home / "build" / "corpora" / "kids" / "manifest.jsonl", {"audio": "a.wav"})
    (home / "build" / "corpora" / "kids" / "description.txt").write_text("Children.\n")
    corpus = load_corpus("kids")
    assert (corpus.name, corpus.description, len(corpus.clips)) == ("kids", "Children.", 1)
    assert corpus_names() == ["kids", "starter"]


def test_describe_tells_each_corpus_apart(shared: Path) -> None:
    rows = [
        {"audio": "a.wav", "id": "1", "corpus": "x", "speaker": "s", "licence": "CC0", "duration_s": 1800, "text": "a"},
        {"audio": "a.wav", "id": "2", "corpus": "x", "duration_s": 1800, "source": "pack 1: a.wav"},
        {"audio": "a.wav", "id": "3", "corpus": "y", "duration_s": 1},
    ]
    first, second = describe(load_corpus(str(manifest(shared / "more.jsonl", *rows))))
    assert (first.name, first.clips, first.with_text, first.hours) == ("x", 2, 1, 1.0)
    assert (first.speakers, first.speakers_unknown, first.licences, first.sources) == (1, 1, ("CC0",), ("pack 1",))
    assert (second.name, second.clips) == ("y", 1)
    assert json.loads(json.dumps(first.to_json()))["hours"] == 1.0


@pytest.mark.corpora
def test_the_shared_development_corpora(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AMIRA_HOME")
    from harness.corpus.load import shared_dir

    if not (shared_dir() / "dev.jsonl").is_file():
        pytest.skip(f"no development corpora in {shared_dir()}")
    corpus = load_corpus("shared:dev")
    part = corpus.select(max_clips=8)
    assert {clip.corpus for clip in part.clips} == {clip.corpus for clip in corpus.clips}
    for clip in part.clips:
        assert len(clip.pcm16()) / 2 / RATE == pytest.approx(clip.duration_s, abs=0.05)
