"""When to try again: exponential backoff with full jitter, under a budget that all callers share.

The budget is what keeps retries from becoming the load that holds a service down: they may be at most a part of the
first attempts (Google SRE book, "Handling Overload"). Full jitter is AWS's, "Exponential Backoff And Jitter".
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from threading import Lock


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait before each further attempt.

    Attributes:
        attempts: How often a call is made at most, the first one included.
        base_s: The longest wait before the second attempt; it doubles with each further one.
        cap_s: The longest wait of all.
    """

    attempts: int = 3
    base_s: float = 0.02
    cap_s: float = 0.5

    def delay_s(self, failures: int, rng: Random) -> float | None:
        """The wait after the failure that makes `failures` of them; `None` when there were enough attempts."""
        if failures >= self.attempts:
            return None
        return rng.uniform(0.0, min(self.cap_s, self.base_s * 2 ** (failures - 1)))


class RetryBudget:
    """A bucket of retries that first attempts fill: each adds `ratio`, a retry takes 1. Thread-safe."""

    def __init__(self, ratio: float = 0.1, reserve: float = 10.0) -> None:
        """Allow `ratio` retries per call in the long run and `reserve` at once."""
        if not 0 <= ratio <= 1 or reserve < 1:
            raise ValueError(f"a retry budget needs 0 <= ratio <= 1 and reserve >= 1, got {ratio} and {reserve}")
        self._ratio, self._reserve, self._tokens = ratio, reserve, reserve
        self._lock = Lock()

    def called(self) -> None:
        """A first attempt was made."""
        with self._lock:
            self._tokens = min(self._reserve, self._tokens + self._ratio)

    def take(self) -> bool:
        """Whether a retry may be made; if so it is paid for."""
        with self._lock:
            if self._tokens < 1:
                return False
            self._tokens -= 1
            return True
