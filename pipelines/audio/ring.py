"""The audio of one stream that is still needed: a ring of PCM16 samples, addressed by their place in the stream."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Int16 = npt.NDArray[np.int16]

_SMALLEST = 4_096


class Held:
    """Bytes that many rings hold together; they belong to one thread."""

    __slots__ = ("bytes",)

    def __init__(self) -> None:
        self.bytes = 0


class SampleRing:
    """Holds samples `start` to `stop` of a stream; grows by doubling up to `capacity` and never beyond.

    Nothing is allocated before the first sample, for most connections of a busy server are silent.
    """

    __slots__ = ("_data", "_held", "_size", "capacity", "start", "stop")

    def __init__(self, capacity: int, held: Held) -> None:
        self._held = held
        self.capacity = capacity
        self.start = 0
        self.stop = 0
        self._data: Int16 = np.empty(0, np.int16)
        self._size = 0  # of it

    @property
    def room(self) -> int:
        """How many samples still fit."""
        return self.capacity - (self.stop - self.start)

    def append(self, samples: Int16) -> None:
        """Put int16 (n,) behind what is there.

        Raises:
            OverflowError: More than `room`; nothing was taken.
        """
        count, stop = len(samples), self.stop
        held = stop - self.start + count
        if held > self.capacity:
            raise OverflowError(f"{count} samples do not fit: {self.room} of {self.capacity} are free")
        if held > self._size:
            self._reserve(held)
        size = self._size
        at = stop % size if size else 0
        if at + count <= size:
            self._data[at : at + count] = samples
        else:
            first = size - at
            self._data[at:] = samples[:first]
            self._data[: count - first] = samples[first:]
        self.stop = stop + count

    def read(self, start: int, stop: int) -> Int16:
        """Samples `start` to `stop`: a view where they lie together, else a copy. Valid until the next `append`.

        Raises:
            IndexError: Some of them are not held.
        """
        if not self.start <= start <= stop <= self.stop:
            raise IndexError(f"samples {start} to {stop} are not held, only {self.start} to {self.stop}")
        size = self._size
        if start == stop:
            return self._data[:0]
        first, last = start % size, (stop - 1) % size + 1
        if first < last:
            return self._data[first:last]
        return np.concatenate([self._data[first:], self._data[:last]])

    def drop_before(self, position: int) -> None:
        """Forget the samples before `position`; a large buffer that is empty is freed."""
        if position > self.start:
            self.start = min(position, self.stop)
            if self.start == self.stop and self._size > 8 * _SMALLEST:
                self._replace(np.empty(0, np.int16))

    def _reserve(self, count: int) -> None:
        grown = max(self._size, _SMALLEST)
        while grown < count:
            grown *= 2
        held = self.read(self.start, self.stop)
        data = np.empty(grown, np.int16)
        at = self.start % grown
        first = min(len(held), grown - at)
        data[at : at + first] = held[:first]
        data[: len(held) - first] = held[first:]
        self._replace(data)

    def close(self) -> None:
        """Free it; nothing may follow."""
        self.start = self.stop
        self._replace(np.empty(0, np.int16))

    def _replace(self, data: Int16) -> None:
        self._held.bytes += data.nbytes - self._data.nbytes
        self._data, self._size = data, len(data)
