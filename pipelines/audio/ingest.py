"""Audio as it comes over the wire, in any cut, to PCM16 at 16 kHz."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from kernels import g711
from pipelines.contracts import SAMPLE_RATE, Float32
from pipelines.errors import AmiraError, unknown

MIN_RATE, MAX_RATE = 8_000, 48_000


class Ingest(Protocol):
    """Turns the messages of one stream into samples."""

    def push(self, data: bytes) -> bytes:
        """The samples that are whole so far, as PCM16; bytes of a sample cut in half wait for the next message."""
        ...

    def finish(self) -> bytes:
        """What a resampler still holds.

        Raises:
            AmiraError: The audio ended inside a sample.
        """
        ...


class _Whole:
    """Cuts a byte stream at sample borders."""

    __slots__ = ("_width", "rest")

    def __init__(self, width: int) -> None:
        self._width = width
        self.rest = b""

    def cut(self, data: bytes) -> bytes:
        if self.rest:
            data = self.rest + data
        odd = len(data) % self._width
        self.rest = data[len(data) - odd :] if odd else b""
        return data[: len(data) - odd] if odd else data

    def end(self) -> None:
        if self.rest:
            raise AmiraError(
                f"the audio ends {len(self.rest)} bytes into a sample of {self._width}. "
                "Check the encoding, and that no message was lost"
            )


class Pcm16(_Whole):
    """Samples as they are."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(2)

    def push(self, data: bytes) -> bytes:
        """See `Ingest`."""
        return self.cut(data) if self.rest or len(data) & 1 else data

    def finish(self) -> bytes:
        """See `Ingest`."""
        self.end()
        return b""


class Converted:
    """Any encoding and rate, through float32 and a streaming resampler."""

    def __init__(self, encoding: str, sample_rate: int) -> None:
        self._encoding = encoding
        self._whole = _Whole(_WIDTHS[encoding])
        self._table = g711.table(encoding) if encoding in ("mulaw", "alaw") else None
        self._resampler = None
        if sample_rate != SAMPLE_RATE:
            import soxr

            self._resampler = soxr.ResampleStream(sample_rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")

    def push(self, data: bytes) -> bytes:
        """See `Ingest`."""
        return self._resampled(self._decoded(self._whole.cut(data)), last=False)

    def finish(self) -> bytes:
        """See `Ingest`."""
        self._whole.end()
        return self._resampled(np.empty(0, np.float32), last=True)

    def _decoded(self, data: bytes) -> Float32:
        if self._table is not None:
            decoded: Float32 = self._table[np.frombuffer(data, np.uint8)]
            return decoded
        if self._encoding == "pcm_s16le":
            return np.frombuffer(data, "<i2").astype(np.float32) * np.float32(1 / 32_768)
        # Whoever sends NaN or samples beyond full scale gets silence and clipping, not an arithmetic error.
        clean: Float32 = np.nan_to_num(np.frombuffer(data, "<f4"), nan=0.0, posinf=1.0, neginf=-1.0)
        return clean

    def _resampled(self, samples: Float32, last: bool) -> bytes:
        if self._resampler is not None:
            samples = self._resampler.resample_chunk(samples, last=last)
        scaled = np.rint(np.clip(samples, -1.0, 1.0) * np.float32(32_768))
        pcm: bytes = np.clip(scaled, -32_768, 32_767).astype("<i2").tobytes()
        return pcm


_WIDTHS = {"pcm_s16le": 2, "pcm_f32le": 4, "mulaw": 1, "alaw": 1}
ENCODINGS = tuple(_WIDTHS)


def open_ingest(encoding: str, sample_rate: int) -> Ingest:
    """The way in for one stream.

    Raises:
        AmiraError: No such encoding, or a sample rate out of range.
    """
    if encoding not in _WIDTHS:
        raise unknown("encoding", encoding, ENCODINGS, "Send one of them.")
    if not MIN_RATE <= sample_rate <= MAX_RATE:
        raise AmiraError(
            f"sample rate {sample_rate} is out of range: {MIN_RATE} to {MAX_RATE} samples per second are taken"
        )
    if encoding == "pcm_s16le" and sample_rate == SAMPLE_RATE:
        return Pcm16()
    return Converted(encoding, sample_rate)
