"""Counts the samples of an MP3 that does not say how long it is.

libsndfile trusts an estimate from the first frame's bit rate then and drops whatever lies behind it. Counting
the frames tells such a file, which cannot be read whole, from one that can.
Source of the tables: ISO/IEC 11172-3 and 13818-3, layer III.
"""

from __future__ import annotations

from typing import BinaryIO

_BIT_RATES_KBIT = {
    1: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    2: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
_LAYER_3 = 1
_LENGTH_MARKS = (b"Xing", b"Info", b"VBRI")


def samples_without_length_header(file: BinaryIO) -> int | None:
    """Samples per channel by counting frames; `None` if the file has a length header or is not layer III."""
    file.seek(0)
    data = file.read()
    position = _after_id3(data)
    first = _frame(data, position)
    if first is None:
        return None
    if any(mark in data[position : position + first[0]] for mark in _LENGTH_MARKS):
        return None
    total = 0
    while (frame := _frame(data, position)) is not None:
        position += frame[0]
        total += frame[1]
    return total


def _after_id3(data: bytes) -> int:
    if data[:3] != b"ID3" or len(data) < 10:
        return 0
    # A 28-bit length in four bytes of seven bits.
    return 10 + (data[6] << 21 | data[7] << 14 | data[8] << 7 | data[9])


def _frame(data: bytes, at: int) -> tuple[int, int] | None:
    """Bytes and samples of the frame at `at`; `None` if there is none."""
    header = data[at : at + 4]
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE0 != 0xE0:
        return None
    version, layer = header[1] >> 3 & 3, header[1] >> 1 & 3
    bit_rate, rate, padding = header[2] >> 4, header[2] >> 2 & 3, header[2] >> 1 & 1
    if version not in _RATES or layer != _LAYER_3 or bit_rate in (0, 15) or rate == 3:
        return None
    samples = 1152 if version == 3 else 576
    bits_per_s = 1000 * _BIT_RATES_KBIT[1 if version == 3 else 2][bit_rate]
    return samples // 8 * bits_per_s // _RATES[version][rate] + padding, samples
