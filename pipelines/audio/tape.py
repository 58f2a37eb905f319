"""The audio of one stream that is still needed: PCM16 at 16 kHz, addressed by its place in the stream."""

from __future__ import annotations

_SHORT = 2_048
"""Bytes. What follows a shorter piece is joined to it, so that tiny messages do not cost an object each."""


class Held:
    """Bytes that many tapes hold together; they belong to one thread."""

    __slots__ = ("bytes",)

    def __init__(self) -> None:
        self.bytes = 0


class Tape:
    """Holds samples `start` to `stop` of a stream, never more than `capacity`.

    They stay in the very objects in which they came: nothing is copied to keep them, and a tape that holds nothing, as
    those of most connections of a busy server, takes no memory.
    """

    __slots__ = ("_at", "_begin", "_first", "_held", "_pieces", "capacity", "start", "stop")

    def __init__(self, capacity: int, held: Held) -> None:
        self._held = held
        self._pieces: list[bytes] = []
        self._first = 0  # sample of the first piece
        self._at, self._begin = 0, 0  # the piece that was read last, and its first sample
        self.capacity = capacity
        self.start = 0
        self.stop = 0

    @property
    def room(self) -> int:
        """How many samples still fit."""
        return self.capacity - (self.stop - self.start)

    def append(self, pcm: bytes) -> None:
        """Put whole samples behind what is there.

        Raises:
            OverflowError: More than `room`; nothing was taken.
        """
        stop = self.stop + len(pcm) // 2
        if stop - self.start > self.capacity:
            raise OverflowError(f"{len(pcm) // 2} samples do not fit: {self.room} of {self.capacity} are free")
        pieces = self._pieces
        if pieces and len(pieces[-1]) < _SHORT:
            pieces[-1] += pcm
        else:
            pieces.append(pcm)
        self.stop = stop
        self._held.bytes += len(pcm)

    def read(self, start: int, stop: int) -> bytes:
        """Samples `start` to `stop`; what is near to what was read last is found at once.

        Raises:
            IndexError: Some of them are not held.
        """
        if not self.start <= start <= stop <= self.stop:
            raise IndexError(f"samples {start} to {stop} are not held, only {self.start} to {self.stop}")
        if start == stop:
            return b""
        pieces, at, begin = self._pieces, self._at, self._begin
        while begin > start:
            at -= 1
            begin -= len(pieces[at]) // 2
        end = begin + len(pieces[at]) // 2
        while end <= start:
            at += 1
            begin, end = end, end + len(pieces[at]) // 2
        self._at, self._begin = at, begin
        if stop <= end:
            piece = pieces[at]
            whole = start == begin and stop == end  # compiled, a slice of all of it would be a copy
            return piece if whole else piece[2 * (start - begin) : 2 * (stop - begin)]
        parts = [pieces[at][2 * (start - begin) :]]
        while end < stop:
            at += 1
            piece = pieces[at]
            begin, end = end, end + len(piece) // 2
            parts.append(piece if end <= stop else piece[: 2 * (stop - begin)])
        return b"".join(parts)

    def drop_before(self, position: int) -> None:
        """Forget the samples before `position`; their memory goes by pieces."""
        if position <= self.start:
            return
        self.start = min(position, self.stop)
        gone = freed = 0
        for piece in self._pieces:
            if self._first + (freed + len(piece)) // 2 > self.start:
                break
            gone += 1
            freed += len(piece)
        if gone:
            del self._pieces[:gone]
            self._first += freed // 2
            self._at -= gone
            if self._at < 0:
                self._at, self._begin = 0, self._first
            self._held.bytes -= freed

    def close(self) -> None:
        """Free it; nothing may follow."""
        self.drop_before(self.stop)
