"""A point in time by which an answer must be there. Handed down unchanged, it bounds a whole chain of calls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter_ns

from pipelines.resilience.errors import DeadlineExceededError

Clock = Callable[[], int]
"""Nanoseconds of a clock that never goes back: `time.perf_counter_ns`, or a test's own."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """By when an answer must be there, in nanoseconds of `clock`."""

    at_ns: int
    clock: Clock = perf_counter_ns

    @classmethod
    def after(cls, seconds: float, clock: Clock = perf_counter_ns) -> Deadline:
        """The deadline `seconds` from now."""
        return cls(clock() + round(seconds * 1e9), clock)

    @property
    def remaining_s(self) -> float:
        """Seconds that are left; 0 when it has passed."""
        return max(0, self.at_ns - self.clock()) / 1e9

    def check(self, doing: str) -> float:
        """Seconds that are left for `doing`.

        Raises:
            DeadlineExceededError: There are none.
        """
        remaining_s = self.remaining_s
        if remaining_s <= 0:
            raise DeadlineExceededError(
                f"the deadline passed before {doing}. Allow more time, or look at the queues: amira triton status"
            )
        return remaining_s
