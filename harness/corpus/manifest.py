"""JSON Lines manifests: one clip a line.

Keys of ours: `audio` (relative to the manifest), `id`, `text`, `speaker`, `age`, `duration_s`, `start_s`, `end_s`,
`corpus`, `split`, `licence`, `source`. NeMo's `audio_filepath`, `duration` and `offset` are understood as well. Only
the audio must be there; keys that are not known are passed over.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError

from harness.corpus.model import Clip
from pipelines.errors import AmiraError


class Row(BaseModel):
    """One line of a manifest."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    audio: str = Field(validation_alias=AliasChoices("audio", "audio_filepath"), min_length=1)
    id: str | None = None
    text: str | None = None
    speaker: str | int | None = None
    age: float | None = None
    duration_s: float | None = Field(
        default=None, validation_alias=AliasChoices("duration_s", "duration"), gt=0, allow_inf_nan=False
    )
    start_s: float | None = Field(
        default=None, validation_alias=AliasChoices("start_s", "offset"), ge=0, allow_inf_nan=False
    )
    end_s: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    corpus: str | None = None
    split: str | None = None
    licence: str | None = Field(default=None, validation_alias=AliasChoices("licence", "license"))
    source: str | None = None


def read_manifest(path: Path, *, corpus: str, split: str | None = None) -> list[Clip]:
    """The clips of a manifest.

    Args:
        path: The JSON Lines file.
        corpus: Corpus name of clips whose line names none.
        split: Keep only the lines of this split, if given; lines that name no split belong to all.

    Raises:
        AmiraError: A line is broken, names audio that does not exist, or an id that came before; the message
            begins with file and line.
    """
    clips: list[Clip] = []
    seen: dict[str, int] = {}
    for number, line in _lines(path):
        where = f"{path}:{number}"
        row = _row(line, where)
        if split is not None and row.split not in (None, split):
            continue
        clip = _clip(row, path.parent, corpus, where)
        if clip.id in seen:
            raise AmiraError(f"{where}: id '{clip.id}' is already on line {seen[clip.id]}. Give each clip its own.")
        seen[clip.id] = number
        clips.append(clip)
    return clips


def _lines(path: Path) -> list[tuple[int, str]]:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise AmiraError(f"manifest {path} is not UTF-8: {error.reason}. Save it as UTF-8.") from error
    except OSError as error:
        raise AmiraError(f"manifest {path} cannot be read: {error.strerror}. Check the path.") from error
    # Only \n ends a line of JSON Lines; str.splitlines() would cut at U+2028 inside a text.
    return [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]


def _row(line: str, where: str) -> Row:
    try:
        value: Any = json.loads(line)
    except json.JSONDecodeError as error:
        raise AmiraError(
            f"{where}: not JSON ({error.msg} at column {error.colno}). A manifest has one JSON object a line."
        ) from error
    try:
        return Row.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "line"
        raise AmiraError(
            f"{where}: '{key}': {first['msg']}. "
            "Needed: audio; may have: id, text, speaker, age, duration_s, start_s, end_s, corpus, split, licence, "
            "source."
        ) from error


def _clip(row: Row, folder: Path, corpus: str, where: str) -> Clip:
    audio = folder / row.audio
    if not audio.is_file():
        raise AmiraError(f"{where}: audio '{audio}' does not exist. Paths are relative to the manifest.")
    start_s, end_s = _times(row, where)
    duration_s = row.duration_s
    if end_s is not None:
        duration_s = end_s - start_s
    if duration_s is None:
        duration_s = _length_s(audio, where) - start_s
        if duration_s <= 0:
            raise AmiraError(f"{where}: the clip starts at {start_s:g} s, behind the end of its audio. Mend the times.")
    name = row.id
    if name is None:
        name = str(Path(row.audio).with_suffix("")) + (f"@{start_s:.3f}" if row.start_s is not None else "")
    return Clip(
        id=name,
        corpus=row.corpus or corpus,
        audio=audio,
        text=row.text,
        duration_s=duration_s,
        start_s=start_s,
        end_s=end_s,
        speaker=None if row.speaker is None else str(row.speaker),
        age=row.age,
        licence=row.licence,
        source=row.source,
    )


def _times(row: Row, where: str) -> tuple[float, float | None]:
    """Start and end in the file. An offset with a duration, as NeMo writes them, makes an end."""
    start_s = row.start_s or 0.0
    end_s = row.end_s
    if end_s is None and row.start_s is not None and row.duration_s is not None:
        end_s = start_s + row.duration_s
    if end_s is not None and end_s <= start_s:
        raise AmiraError(f"{where}: the clip ends at {end_s:g} s, before it starts at {start_s:g} s. Mend the times.")
    return start_s, end_s


def _length_s(audio: Path, where: str) -> float:
    from pipelines.audio.read import audio_info

    try:
        return audio_info(audio).duration_s
    except AmiraError as error:
        raise AmiraError(f"{where}: {error}") from error
