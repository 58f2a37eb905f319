"""Cuts long audio into stretches of speech short enough for a whole-utterance model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipelines.audio.vad import CHUNK_SAMPLES, speech_probabilities
from pipelines.contracts import SAMPLE_RATE, Float32
from pipelines.errors import AmiraError

_ONSET = 0.5
_OFFSET = 0.35  # speech goes on until the probability falls below this: no flicker around one threshold
_MIN_SPEECH_CHUNKS = 3  # about 0.1 s: shorter bursts are clicks
_SMOOTHING_CHUNKS = 5  # a forced cut looks for the quietest 160 ms, not for one quiet sample


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of speech, in seconds from the start of the audio."""

    start_s: float
    end_s: float


def speech_segments(
    pcm16: bytes | memoryview,
    *,
    max_s: float = 20.0,
    min_silence_s: float = 0.5,
    pad_s: float = 0.2,
) -> list[Segment]:
    """The stretches of speech in a recording, in order and without overlap.

    A stretch longer than `max_s` is cut in its later half, at the longest pause there, or where it is
    quietest if the speaker makes no pause.

    Args:
        pcm16: PCM16 little-endian mono at 16 kHz. An hour takes some seconds and little memory beside it.
        max_s: No segment is longer, padding included; at least 1.
        min_silence_s: A pause shorter than this does not end a segment.
        pad_s: Audio kept before and after the speech, where the pause has room for it.

    Returns:
        The segments; none if there is no speech.

    Raises:
        AmiraError: A setting is out of range.
    """
    _check(max_s, min_silence_s, pad_s)
    length = len(pcm16) // 2
    probabilities = speech_probabilities(pcm16)
    runs = _speech_runs(probabilities)
    padded = _pad(_merge(runs, min_silence_s), int(pad_s * SAMPLE_RATE), length)
    if not padded:
        return []
    loudness = _loudness(pcm16, len(probabilities))
    limit = int(max_s * SAMPLE_RATE)
    pieces = [piece for span in padded for piece in _split(span, limit, probabilities, loudness)]
    return [Segment(start / SAMPLE_RATE, end / SAMPLE_RATE) for start, end in pieces]


def _check(max_s: float, min_silence_s: float, pad_s: float) -> None:
    if not max_s >= 1.0:
        raise AmiraError(f"max_s is {max_s}, which leaves no room for a word; give at least 1 second.")
    if not (min_silence_s >= 0.0 and pad_s >= 0.0):
        raise AmiraError(f"min_silence_s is {min_silence_s} and pad_s is {pad_s}; neither may be negative.")


def _speech_runs(probabilities: Float32) -> list[tuple[int, int]]:
    """Runs of speech chunks as half-open chunk ranges, by onset and offset thresholds."""
    runs: list[tuple[int, int]] = []
    start = -1
    for index, probability in enumerate(probabilities.tolist()):
        if start < 0:
            if probability >= _ONSET:
                start = index
        elif probability < _OFFSET:
            runs.append((start, index))
            start = -1
    if start >= 0:
        runs.append((start, len(probabilities)))
    return runs


def _merge(runs: list[tuple[int, int]], min_silence_s: float) -> list[tuple[int, int]]:
    """Join runs whose pause is too short to end a segment; then drop what is too short to be a word."""
    min_silence = min_silence_s * SAMPLE_RATE / CHUNK_SAMPLES
    merged: list[tuple[int, int]] = []
    for start, end in runs:
        if merged and start - merged[-1][1] < min_silence:
            merged[-1] = (merged[-1][0], end)
        else:
            merged.append((start, end))
    return [(start, end) for start, end in merged if end - start >= _MIN_SPEECH_CHUNKS]


def _pad(runs: list[tuple[int, int]], pad: int, length: int) -> list[tuple[int, int]]:
    """Chunk ranges to sample ranges with `pad` samples around, meeting at most in the middle of a pause."""
    spans = []
    for index, (first, last) in enumerate(runs):
        start, end = first * CHUNK_SAMPLES, min(last * CHUNK_SAMPLES, length)
        before = runs[index - 1][1] * CHUNK_SAMPLES if index else -start
        after = runs[index + 1][0] * CHUNK_SAMPLES if index + 1 < len(runs) else 2 * length - end
        spans.append((max(start - pad, (before + start) // 2, 0), min(end + pad, (end + after) // 2, length)))
    return spans


def _loudness(pcm16: bytes | memoryview, chunks: int) -> npt.NDArray[np.float64]:
    """Mean square of each chunk, smoothed: (chunks,)."""
    samples = np.frombuffer(pcm16, dtype="<i2")
    energy = np.zeros(chunks)
    block = 4096
    for first in range(0, chunks, block):
        part = samples[first * CHUNK_SAMPLES : (first + block) * CHUNK_SAMPLES].astype(np.float64)
        part = np.pad(part, (0, -len(part) % CHUNK_SAMPLES)).reshape(-1, CHUNK_SAMPLES)
        energy[first : first + len(part)] = np.mean(part * part, axis=1)
    window = min(_SMOOTHING_CHUNKS, chunks)
    return np.convolve(energy, np.full(window, 1.0 / window), mode="same")


def _split(
    span: tuple[int, int], limit: int, probabilities: Float32, loudness: npt.NDArray[np.float64]
) -> list[tuple[int, int]]:
    """Cut a sample range into pieces of at most `limit` samples."""
    start, end = span
    pieces = []
    while end - start > limit:
        cut = _cut(start + limit // 2, start + limit, probabilities, loudness)
        pieces.append((start, cut))
        start = cut
    pieces.append((start, end))
    return pieces


def _cut(first: int, last: int, probabilities: Float32, loudness: npt.NDArray[np.float64]) -> int:
    """The best sample to cut at between two samples."""
    # Chunk centres strictly inside the range; a chunk is 32 ms, the range at least half a second.
    low, high = first // CHUNK_SAMPLES + 1, last // CHUNK_SAMPLES - 1
    pauses = _runs_of(probabilities[low:high] < _OFFSET)
    if pauses:
        begin, stop = max(pauses, key=lambda pause: pause[1] - pause[0])
        chunk = low + (begin + stop) / 2
    else:
        chunk = low + int(np.argmin(loudness[low:high])) + 0.5
    return int(chunk * CHUNK_SAMPLES)


def _runs_of(mask: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return [(int(start), int(end)) for start, end in edges.reshape(-1, 2)]
