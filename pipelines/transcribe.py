"""Transcribing files of any length: find the speech, recognise it piece by piece, put times to the pieces."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from time import perf_counter_ns

from pipelines.assemble import Pipeline
from pipelines.audio.read import read_audio
from pipelines.audio.segments import Segment, speech_segments
from pipelines.contracts import SAMPLE_RATE, Hypothesis, Word
from pipelines.transcripts import FileTranscript, TimedText

WHOLE_S = 20.0
"""Clips up to this length are recognised in one piece; longer ones are cut at pauses into pieces up to this length."""


def transcribe_file(pipeline: Pipeline, path: Path, progress: Callable[[float], None]) -> FileTranscript:
    """Transcribe a file; silence gives an empty transcript.

    Args:
        pipeline: An open whole-utterance pipeline.
        path: An audio file of any kind that `pipelines.audio.read` takes.
        progress: Called with the fraction done, 0 to 1.

    Raises:
        AmiraError: The file cannot be read as audio.
    """
    audio = read_audio(path)
    started_ns = perf_counter_ns()
    texts: list[TimedText] = []
    words: list[Word] = []
    for segment in _segments(audio.pcm16, audio.duration_s):
        first, last = (round(second * SAMPLE_RATE) for second in (segment.start_s, segment.end_s))
        best = pipeline.transcribe(memoryview(audio.pcm16)[2 * first : 2 * last]).hypotheses[0]
        texts.append(TimedText(segment.start_s, segment.end_s, best.text))
        words += [_shifted(word, segment.start_s) for word in best.words]
        progress(segment.end_s / audio.duration_s)
    progress(1.0)
    latency_ms = (perf_counter_ns() - started_ns) / 1e6
    return FileTranscript(str(path), audio.duration_s, latency_ms, tuple(texts), tuple(words))


def follow_file(pipeline: Pipeline, path: Path, progress: Callable[[float], None]) -> Hypothesis:
    """What was read in a file of any length, as one text with the file's times.

    Args:
        pipeline: An open pipeline that expects a text (`Pipeline.expecting`).
        path: An audio file of any kind that `pipelines.audio.read` takes.
        progress: Called with the fraction done, 0 to 1.

    Raises:
        AmiraError: The file cannot be read as audio.
    """
    audio = read_audio(path)

    def pieces() -> Iterator[tuple[int, int]]:
        for segment in _segments(audio.pcm16, audio.duration_s):
            progress(segment.start_s / audio.duration_s)
            yield round(segment.start_s * SAMPLE_RATE), min(round(segment.end_s * SAMPLE_RATE), len(audio.pcm16) // 2)
        progress(1.0)

    return pipeline.follow(audio.pcm16, pieces())[0]


def _segments(pcm16: bytes, duration_s: float) -> list[Segment]:
    """Stretches of speech; a short clip with any speech in it stays whole, so that no word loses its edge."""
    found = speech_segments(pcm16, max_s=WHOLE_S)
    return [Segment(0.0, duration_s)] if found and duration_s <= WHOLE_S else found


def _shifted(word: Word, by_s: float) -> Word:
    return replace(word, start_s=word.start_s + by_s, end_s=word.end_s + by_s)
