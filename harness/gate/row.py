"""One number of one case, and what its interval allows to be said.

A number is **worse** where its interval leaves out "no change" *and* its estimate exceeds the margin: neither a tiny
but sure loss nor a large but unsure one is a regression. It is **fine** where the interval ends below the margin: that
is shown, not assumed. Everything else is **unclear**, and wants more repeats.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Word = Literal["better", "fine", "unclear", "worse"]
POINTS = 100.0


@dataclass(frozen=True, slots=True)
class Row:
    """One number of one case.

    Attributes:
        metric: Such as `latency`, `stage decode`, `kernel pcm16 avx2` or `wer dev`.
        unit: `fraction` (0.05 is 5 % more), or `points` of word error rate.
        change: Candidate against baseline; above 0 is worse.
        low: Lower end of the interval, 95 % (of word errors 99 %); `None` where there is none.
        high: Upper end.
        margin: What counts as worse.
        verdict: What follows.
        judged: Whether it counts; a stage with a tiny share is shown and does not.
        samples: Repeats, or utterances.
        note: What limits it.
    """

    metric: str
    unit: Literal["fraction", "points"]
    change: float
    low: float | None
    high: float | None
    margin: float
    verdict: Word
    judged: bool
    samples: int
    note: str | None = None


def said(row: Row) -> str:
    """A row in a few words: `latency +5.2 % (+4.1 to +6.3)`."""
    scale, unit = (POINTS, " %") if row.unit == "fraction" else (1.0, " points")
    span = "" if row.low is None or row.high is None else f" ({row.low * scale:+.1f} to {row.high * scale:+.1f})"
    return f"{row.metric} {row.change * scale:+.1f}{unit}{span}"


def verdict(change: float, low: float | None, high: float | None, margin: float) -> Word:
    """What an interval allows to be said; see the module's text."""
    if low is None or high is None:
        return "unclear"
    if low > 0 and change > margin:
        return "worse"
    if high < 0 and change < -margin:
        return "better"
    return "fine" if high <= margin else "unclear"
