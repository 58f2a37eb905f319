"""Reads audio files of any usual kind as PCM16 mono at 16 kHz, block by block."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.audio.containers import check_complete
from pipelines.audio.mp3 import samples_without_length_header
from pipelines.contracts import SAMPLE_RATE, Float32
from pipelines.errors import AmiraError

SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".raw")
"""File name endings of audio in a folder; `.raw` is PCM16 mono at 16 kHz without a header."""

_BLOCK_FRAMES = 1 << 17
_BYTES_PER_SAMPLE = 2


@dataclass(frozen=True, slots=True)
class Audio:
    """A recording, ready for a pipeline.

    Attributes:
        pcm16: PCM16 little-endian mono at 16 kHz.
        duration_s: Its length in seconds.
        source_rate: Sample rate of the file in Hz.
        source_channels: Channels of the file; they were averaged.
    """

    pcm16: bytes
    duration_s: float
    source_rate: int
    source_channels: int


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """What a file's header says: its length in seconds, sample rate in Hz and channels."""

    duration_s: float
    rate: int
    channels: int


def read_audio(path: str | Path, *, start_s: float = 0.0, end_s: float | None = None) -> Audio:
    """Read a file, or the part of it between two times.

    WAV, FLAC, Ogg Opus and Vorbis, MP3 and whatever else libsndfile reads, at any rate and with any number of
    channels; `.raw` is taken as PCM16 little-endian mono at 16 kHz. The file is decoded and resampled in
    blocks: beside the result, which is 115 MB an hour, memory stays at some megabytes. Samples outside
    [-1, 1) saturate.

    Raises:
        AmiraError: The file is missing, a folder, unreadable, not audio, cut short or damaged, holds no
            sample or samples that are not numbers, or does not reach to the part that was asked for.
    """
    path = Path(path)
    _check_file(path)
    if path.suffix.lower() == ".raw":
        return _read_raw(path, start_s, end_s)
    check_complete(path)
    with _opened(path) as file:
        _check_mp3_length(path, file)
        first, last = _frame_range(path, start_s, end_s, file.frames, file.samplerate)
        resampler = _Resampler(file.samplerate)
        collected = io.BytesIO()  # its getvalue() hands over the buffer where b"".join() would copy it
        for mono in _mono_blocks(path, file, first, last):
            collected.write(_to_pcm16(resampler.push(mono)))
        collected.write(_to_pcm16(resampler.finish()))
        return _audio(path, collected.getvalue(), file.samplerate, file.channels)


def audio_info(path: str | Path) -> AudioInfo:
    """What the header of a file says, without decoding it.

    Raises:
        AmiraError: The file is missing, a folder, unreadable, not audio, or holds no sample.
    """
    path = Path(path)
    _check_file(path)
    if path.suffix.lower() == ".raw":
        samples = _raw_samples(path)
        return AudioInfo(samples / SAMPLE_RATE, SAMPLE_RATE, 1)
    with _opened(path) as file:
        return AudioInfo(file.frames / file.samplerate, file.samplerate, file.channels)


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise AmiraError(f"'{path}' is a folder, not an audio file. Name a file in it, or use it as a corpus.")
    try:
        with path.open("rb") as file:
            empty = not file.read(1)
    except FileNotFoundError as error:
        raise AmiraError(f"audio file '{path}' does not exist. Check the path.") from error
    except OSError as error:
        raise AmiraError(f"audio file '{path}' cannot be read: {error.strerror}. Check its permissions.") from error
    if empty:
        raise AmiraError(f"audio file '{path}' is empty (0 bytes). Record or copy it again.")


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    import soundfile

    try:
        file = soundfile.SoundFile(path)
    except soundfile.LibsndfileError as error:
        raise AmiraError(
            f"'{path}' is not audio that can be read: {error.error_string.strip()} "
            "Have: WAV, FLAC, Ogg (Opus, Vorbis), MP3, AIFF and .raw (16 kHz PCM16 mono). "
            "Convert it to one of these."
        ) from error
    with file:
        if file.frames == 0:
            raise AmiraError(f"audio file '{path}' holds no samples. Record or copy it again.")
        yield file


def _check_mp3_length(path: Path, file: Any) -> None:
    if file.format not in ("MP3", "MPEG"):
        return
    with path.open("rb") as raw:
        counted = samples_without_length_header(raw)
    if counted is not None and abs(counted - file.frames) > 4 * 1152:
        raise AmiraError(
            f"MP3 file '{path}' has no length header and a varying bit rate: it holds {counted} samples, of "
            f"which the decoder expects {file.frames}. Rewrite it, as FLAC for instance: ffmpeg -i IN OUT.flac"
        )


def _frame_range(path: Path, start_s: float, end_s: float | None, frames: int, rate: int) -> tuple[int, int]:
    """The frames to read, from first to before last."""
    first = round(start_s * rate)
    last = frames if end_s is None else round(end_s * rate)
    # Manifests round to milliseconds: the end may be that far behind the last frame.
    if not 0 <= first < last <= frames + rate // 500:
        end = "its end" if end_s is None else f"{end_s:g} s"
        raise AmiraError(
            f"'{path}' has no audio from {start_s:g} s to {end}: it is {frames / rate:.3f} s long. "
            "Mend the times in the manifest."
        )
    return first, min(last, frames)


def _mono_blocks(path: Path, file: Any, first: int, last: int) -> Iterator[Float32]:
    """Float32 mono blocks of the frames from `first` to before `last`."""
    import soundfile

    position = first
    try:
        if first:
            file.seek(first)
        while position < last:
            block = file.read(min(_BLOCK_FRAMES, last - position), dtype="float32", always_2d=True)
            if not len(block):
                raise _damaged(path, f"its header promises {file.frames} frames, {position} could be decoded")
            _check_finite(path, block, position, file.samplerate)
            yield block[:, 0] if block.shape[1] == 1 else block.mean(axis=1, dtype=np.float32)
            position += len(block)
    except soundfile.LibsndfileError as error:
        raise _damaged(
            path, f"decoding stops after frame {position} of {file.frames}: {error.error_string.strip()}"
        ) from error


def _damaged(path: Path, what: str) -> AmiraError:
    return AmiraError(f"audio file '{path}' is cut short or damaged: {what}. Record, copy or download it again.")


def _check_finite(path: Path, block: Float32, position: int, rate: int) -> None:
    finite = np.isfinite(block).all(axis=1)
    if not finite.all():
        at = position + int(np.argmin(finite))
        raise AmiraError(
            f"audio file '{path}' has samples that are not numbers (NaN or infinite), "
            f"the first at {at / rate:.3f} s. Export it again, as PCM16 for instance."
        )


class _Resampler:
    """Streams mono float32 to 16 kHz; passes it through where it is that already."""

    def __init__(self, rate: int) -> None:
        import soxr

        self._stream = None if rate == SAMPLE_RATE else soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32")

    def push(self, block: Float32) -> Float32:
        return block if self._stream is None else self._stream.resample_chunk(block)

    def finish(self) -> Float32:
        empty = np.empty(0, np.float32)
        return empty if self._stream is None else self._stream.resample_chunk(empty, last=True)


def _to_pcm16(block: Float32) -> bytes:
    scaled = np.rint(block * np.float32(32768.0))
    pcm: bytes = np.clip(scaled, -32768.0, 32767.0).astype("<i2").tobytes()
    return pcm


def _raw_samples(path: Path) -> int:
    size = path.stat().st_size
    if size % _BYTES_PER_SAMPLE:
        raise AmiraError(
            f"'{path}' has {size} bytes, an odd number, and so is not PCM16 (2 bytes a sample). "
            "A .raw file must be PCM16 little-endian mono at 16 kHz; give other audio as WAV."
        )
    return size // _BYTES_PER_SAMPLE


def _read_raw(path: Path, start_s: float, end_s: float | None) -> Audio:
    first, last = _frame_range(path, start_s, end_s, _raw_samples(path), SAMPLE_RATE)
    with path.open("rb") as file:
        file.seek(first * _BYTES_PER_SAMPLE)
        pcm16 = file.read((last - first) * _BYTES_PER_SAMPLE)
    return _audio(path, pcm16, SAMPLE_RATE, 1)


def _audio(path: Path, pcm16: bytes, rate: int, channels: int) -> Audio:
    samples = len(pcm16) // _BYTES_PER_SAMPLE
    if not samples:
        raise AmiraError(f"audio file '{path}' is shorter than one sample at 16 kHz. Record or copy it again.")
    return Audio(pcm16, samples / SAMPLE_RATE, rate, channels)
