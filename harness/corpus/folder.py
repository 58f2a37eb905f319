"""Folders of audio without a manifest: `X.txt` beside `X.wav`, and LibriSpeech's `*.trans.txt`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from harness.corpus.model import Clip
from pipelines.audio.read import SUFFIXES, audio_info
from pipelines.errors import AmiraError

_TRANS = ".trans.txt"


@dataclass(frozen=True, slots=True)
class _Line:
    text: str
    where: str


def read_folder(root: Path, *, corpus: str) -> tuple[list[Clip], str]:
    """All audio below a folder, with the transcripts that lie beside it.

    Args:
        root: The folder; searched with all its sub-folders but hidden ones.
        corpus: Corpus name of the clips.

    Returns:
        The clips in the order of their paths, and a note on what was found.

    Raises:
        AmiraError: A transcript line is broken, an id comes twice, or a file is not audio.
    """
    clips: list[Clip] = []
    orphans = 0
    for folder, sub_folders, names in os.walk(root, followlinks=True):
        sub_folders[:] = sorted(name for name in sub_folders if not name.startswith("."))
        found, unused = _read_one(Path(folder), sorted(names), root, corpus)
        clips += found
        orphans += unused
    _refuse_duplicates(clips)
    without = sum(clip.text is None for clip in clips)
    note = f"{len(clips)} files below {root}, {without} without transcript"
    return clips, note + (f"; {orphans} transcript lines without audio were left out" if orphans else "")


def _read_one(folder: Path, names: list[str], root: Path, corpus: str) -> tuple[list[Clip], int]:
    """The clips of one folder, and how many of its transcript lines have no audio."""
    lines: dict[str, _Line] = {}
    for name in names:
        if name.endswith(_TRANS):
            lines |= _read_trans(folder / name)
    clips = []
    for name in names:
        path = folder / name
        if path.suffix.lower() not in SUFFIXES or name.startswith("."):
            continue
        line = lines.pop(path.stem, None)
        if line is not None:
            clips.append(_clip(path, path.stem, corpus, line.text, _librispeech_speaker(folder, root)))
        else:
            name_in_root = path.relative_to(root).with_suffix("").as_posix()
            clips.append(_clip(path, name_in_root, corpus, _text_beside(path), None))
    return clips, len(lines)


def _read_trans(path: Path) -> dict[str, _Line]:
    """The lines of a LibriSpeech transcript: an id, a space, the words."""
    lines: dict[str, _Line] = {}
    for number, line in enumerate(_read_text(path).split("\n"), 1):
        name, _, text = line.strip().partition(" ")
        if not name:
            continue
        where = f"{path}:{number}"
        if not text.strip():
            raise AmiraError(f"{where}: '{name}' has no words behind it. A line is an id, a space and the words.")
        if name in lines:
            raise AmiraError(f"{where}: id '{name}' is already at {lines[name].where}. Give each clip its own.")
        lines[name] = _Line(text.strip(), where)
    return lines


def _librispeech_speaker(folder: Path, root: Path) -> str | None:
    """The speaker's folder in root/.../speaker/chapter; `None` where the tree is not that deep."""
    speaker = folder.parent
    return speaker.name if speaker != root and speaker.is_relative_to(root) else None


def _text_beside(path: Path) -> str | None:
    beside = path.with_suffix(".txt")
    return " ".join(_read_text(beside).split()) if beside.is_file() else None


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise AmiraError(f"transcript {path} is not UTF-8: {error.reason}. Save it as UTF-8.") from error
    except OSError as error:
        raise AmiraError(f"transcript {path} cannot be read: {error.strerror}. Check its permissions.") from error


def _clip(path: Path, name: str, corpus: str, text: str | None, speaker: str | None) -> Clip:
    duration_s = audio_info(path).duration_s
    return Clip(id=name, corpus=corpus, audio=path, text=text, duration_s=duration_s, speaker=speaker)


def _refuse_duplicates(clips: list[Clip]) -> None:
    seen: dict[str, Path] = {}
    for clip in clips:
        if clip.id in seen:
            raise AmiraError(
                f"two recordings have the id '{clip.id}': {seen[clip.id]} and {clip.audio}. Rename one of them."
            )
        seen[clip.id] = clip.audio
