"""A stable prefix for a recogniser that hears the growing segment anew each time.

Words are stable once two readings in a row agree on them (LocalAgreement-2: Liu, Spanakis and Niehues, "Low-latency
sequence-to-sequence speech recognition and translation by partial hypothesis selection", Interspeech 2020).
"""

from __future__ import annotations

from pipelines.contracts import Partial


class Agreement:
    """The readings of one segment so far."""

    __slots__ = ("_before", "_stable")

    def __init__(self) -> None:
        self._before: list[str] = []
        self._stable: list[str] = []

    def take(self, text: str) -> Partial:
        """Take the next reading. What was stable stays, even where the reading thinks better of it."""
        words = text.split()
        if words[: len(self._stable)] == self._stable:
            agreed = _common(words, self._before)
            if agreed > len(self._stable):
                self._stable = words[:agreed]
        self._before = words
        shown = self._stable + words[len(self._stable) :]
        return Partial(" ".join(shown), len(" ".join(self._stable)))


def _common(a: list[str], b: list[str]) -> int:
    for index, (one, other) in enumerate(zip(a, b, strict=False)):
        if one != other:
            return index
    return min(len(a), len(b))
