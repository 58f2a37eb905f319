"""Finds files that were cut short, which libsndfile reads without a word as shorter audio.

Of a WAV the header's promise is held against the bytes that follow; of an Ogg stream the last page must say
that it is the last. FLAC and MP3 need nothing here: the reader meets their end before the header's.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import BinaryIO

from pipelines.errors import AmiraError

_UNKNOWN_SIZE = (0, 0xFFFFFFFF)  # what programs write that stream a WAV into a pipe
_MAX_OGG_PAGE = 65_307
_LAST_PAGE = 0x04


def check_complete(path: Path) -> None:
    """Refuse a WAV or Ogg file that ends before its own end.

    Raises:
        AmiraError: It is cut short. For a WAV the message names the frames promised and the frames present.
    """
    with path.open("rb") as file:
        magic = file.read(12)
        if magic[:4] == b"RIFF" and magic[8:] == b"WAVE":
            _check_wav(path, file)
        elif magic[:4] == b"OggS":
            _check_ogg(path, file)


def _check_wav(path: Path, file: BinaryIO) -> None:
    size = os.fstat(file.fileno()).st_size
    frame_bytes = 0
    while len(header := file.read(8)) == 8:
        kind, length = struct.unpack("<4sI", header)
        if kind == b"fmt ":
            fields = file.read(min(length, 16))
            frame_bytes = struct.unpack_from("<H", fields, 12)[0] if len(fields) >= 14 else 0
            file.seek(max(0, length - len(fields)) + length % 2, os.SEEK_CUR)
            continue
        if kind == b"data":
            present = size - file.tell()
            if frame_bytes and length > present and length not in _UNKNOWN_SIZE:
                promised, have = length // frame_bytes, present // frame_bytes
                raise _cut_short(path, f"its header promises {promised} frames, {have} are there")
            return
        file.seek(length + length % 2, os.SEEK_CUR)


def _check_ogg(path: Path, file: BinaryIO) -> None:
    size = os.fstat(file.fileno()).st_size
    tail_at = max(0, size - 2 * _MAX_OGG_PAGE)
    file.seek(tail_at)
    tail = file.read()
    page = tail.rfind(b"OggS")
    has_header = page >= 0 and len(tail) > page + 26
    complete = has_header and tail[page + 5] & _LAST_PAGE and _page_ends(tail, page) <= len(tail)
    if not complete:
        raise _cut_short(path, "its last Ogg page is missing")


def _page_ends(data: bytes, page: int) -> int:
    """Where the Ogg page at `page` ends: after its header, its segment table and its segments."""
    segments = data[page + 26]
    table = data[page + 27 : page + 27 + segments]
    return page + 27 + segments + sum(table)


def _cut_short(path: Path, what: str) -> AmiraError:
    return AmiraError(f"audio file '{path}' is cut short: {what}. Record, copy or download it again.")
