"""What a client must keep to go on after an interruption, without any I/O: audio that no final covers yet."""

from __future__ import annotations

from collections import deque

from amira_client.messages import Final

Item = bytes | str
"""Audio, or `flush` or `finish` in its place."""


class Replay:
    """The unsettled end of a stream.

    Attributes:
        start_ms: Where it starts: the `resume_ms` of the next connection.
        segment: The `resume_segment` of the next connection.
    """

    def __init__(self, sample_rate: int, sample_bytes: int, keep_s: float = 60.0) -> None:
        """Keep at most `keep_s` seconds: a server settles a segment long before that."""
        self._rate, self._width = sample_rate, sample_bytes
        self._keep_bytes = int(keep_s * sample_rate) * sample_bytes
        self._items: deque[Item] = deque()
        self._start_bytes = 0
        self._bytes = 0
        self.start_ms = 0
        self.segment = 0

    @property
    def items(self) -> list[Item]:
        """What has to be sent again, in order."""
        return list(self._items)

    @property
    def held_bytes(self) -> int:
        """Audio that is kept."""
        return self._bytes

    def add(self, item: Item) -> None:
        """Something was, or is about to be, sent."""
        self._items.append(item)
        if isinstance(item, bytes):
            self._bytes += len(item)
            if self._bytes > self._keep_bytes:
                self._drop_to(self._start_bytes + self._bytes - self._keep_bytes, forget_marks=True)
                self.start_ms = self._start_bytes * 1_000 // (self._rate * self._width)

    def settled(self, final: Final) -> None:
        """A final came: what it covers need not be sent again."""
        position = final.audio_ms * self._rate // 1_000 * self._width
        self._drop_to(max(position, self._start_bytes), forget_marks=False)
        if final.cause in ("flush", "finish") and final.cause in self._items:
            self._items.remove(final.cause)
        self.start_ms, self.segment = final.audio_ms, final.segment + 1

    def _drop_to(self, position: int, forget_marks: bool) -> None:
        marks: list[Item] = []
        while self._items and self._start_bytes < position:
            item = self._items.popleft()
            if not isinstance(item, bytes):
                if not forget_marks:
                    marks.append(item)
                continue
            count = min(len(item), position - self._start_bytes)
            self._start_bytes += count
            self._bytes -= count
            if count < len(item):
                self._items.appendleft(item[count:])
        self._items.extendleft(reversed(marks))
