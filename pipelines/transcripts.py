"""Writes transcripts: plain text, the JSON of `amira transcribe --json`, and the subtitle formats SRT and WebVTT.

Segments without words (silence) are left out; a transcript without any is legal.
"""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from pipelines.contracts import Word
from pipelines.errors import AmiraError, unknown


@dataclass(frozen=True, slots=True)
class TimedText:
    """What was said between two times, in seconds from the start of the file."""

    start_s: float
    end_s: float
    text: str


@dataclass(frozen=True, slots=True)
class FileTranscript:
    """The transcript of one file.

    Attributes:
        file: The file as the user named it.
        duration_s: Its length in seconds.
        latency_ms: How long the recogniser took for all of it.
        segments: Its stretches of speech in order; none for silence.
        words: Word times, empty where the decoder has none.
    """

    file: str
    duration_s: float
    latency_ms: float
    segments: tuple[TimedText, ...]
    words: tuple[Word, ...] = ()

    @property
    def text(self) -> str:
        """All that was said, on one line."""
        return " ".join(segment.text for segment in _spoken(self.segments))

    def to_json(self) -> dict[str, Any]:
        """The object that `amira transcribe --json` prints for this file."""
        return {
            "file": self.file,
            "text": self.text,
            "duration_s": self.duration_s,
            "latency_ms": self.latency_ms,
            "words": [asdict(word) for word in self.words],
            "segments": [asdict(segment) for segment in _spoken(self.segments)],
        }


def render(transcripts: Sequence[FileTranscript], kind: str) -> str:
    """Transcripts in one of the formats `text`, `json`, `srt` and `vtt`.

    `text` is a line a file, behind the file's name if there are several; `json` is one array.

    Raises:
        AmiraError: No such format, or a subtitle format for anything but one file.
    """
    if kind not in _RENDERERS:
        raise unknown("transcript format", kind, _RENDERERS, "Choose one of them.")
    return _RENDERERS[kind](transcripts)


def as_srt(segments: Iterable[TimedText]) -> str:
    """SubRip: numbered cues; empty where nobody speaks."""
    cues = []
    for number, (start, end, text) in enumerate(_cues(segments), 1):
        # SRT has no escape, and an arrow in the text would look like the times of a cue.
        words = text.replace("-->", "->")
        cues.append(f"{number}\n{_clock(start, ',')} --> {_clock(end, ',')}\n{words}\n")
    return "\n".join(cues)


def as_vtt(segments: Iterable[TimedText]) -> str:
    """WebVTT, with `&`, `<` and `>` escaped; the header alone where nobody speaks."""
    parts = ["WEBVTT\n"]
    for start, end, text in _cues(segments):
        parts.append(f"{_clock(start, '.')} --> {_clock(end, '.')}\n{html.escape(text, quote=False)}\n")
    return "\n".join(parts)


def timestamp(seconds: float, separator: str = ".") -> str:
    """`HH:MM:SS.mmm`, rounded to the millisecond; hours grow beyond two digits.

    Raises:
        ValueError: `seconds` is negative or not a number.
    """
    return _clock(_milliseconds(seconds), separator)


def _milliseconds(seconds: float) -> int:
    if not 0 <= seconds < float("inf"):
        raise ValueError(f"{seconds} is no time in a recording")
    return round(seconds * 1000)


def _clock(milliseconds: int, separator: str) -> str:
    # Split after rounding: 59.9996 s is one minute, never 60 seconds.
    seconds, rest = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{seconds:02d}{separator}{rest:03d}"


def _cues(segments: Iterable[TimedText]) -> Iterator[tuple[int, int, str]]:
    """Start and end in milliseconds and the text of each segment that has words; a cue lasts at least 1 ms."""
    for segment in _spoken(segments):
        start = _milliseconds(segment.start_s)
        yield start, max(_milliseconds(segment.end_s), start + 1), segment.text


def _spoken(segments: Iterable[TimedText]) -> Iterator[TimedText]:
    """The segments that have words, each text on one line: an empty line would end a cue in both formats."""
    for segment in segments:
        text = " ".join(segment.text.split())
        if text:
            yield replace(segment, text=text)


def _render_text(transcripts: Sequence[FileTranscript]) -> str:
    if len(transcripts) == 1:
        return transcripts[0].text + "\n"
    return "".join(f"{transcript.file}: {transcript.text}\n" for transcript in transcripts)


def _render_json(transcripts: Sequence[FileTranscript]) -> str:
    return json.dumps([transcript.to_json() for transcript in transcripts], ensure_ascii=False, indent=1) + "\n"


def _only(transcripts: Sequence[FileTranscript]) -> FileTranscript:
    if len(transcripts) != 1:
        raise AmiraError(f"subtitles are for one recording, but there are {len(transcripts)}. Write a file for each.")
    return transcripts[0]


_RENDERERS: dict[str, Callable[[Sequence[FileTranscript]], str]] = {
    "text": _render_text,
    "json": _render_json,
    "srt": lambda transcripts: as_srt(_only(transcripts).segments),
    "vtt": lambda transcripts: as_vtt(_only(transcripts).segments),
}
