"""Numbers as a reader sees them: three significant digits, units in the headings, no false precision."""

from __future__ import annotations

import math
from collections.abc import Callable

MISSING = "–"
MINUS = "−"


def number(value: float | None) -> str:
    """Three significant digits, thousands separated: `0.0548`, `6.65`, `20.1`, `1,230`; `–` where there is none."""
    if value is None or not math.isfinite(value):
        return MISSING
    if value == 0:
        return "0"
    digits = 2 - math.floor(math.log10(abs(value)))
    rounded = round(value, digits)
    digits = 2 - math.floor(math.log10(abs(rounded)))
    return f"{rounded:,.{max(digits, 0)}f}".replace("-", MINUS)


def ratio(value: float | None) -> str:
    """A ratio: `20.1`, `6.65`, `0.137`; two decimals around 1, where the third says nothing: `1.00`, `0.99`."""
    if value is not None and 0.9 <= value < 1:
        return f"{value:.2f}"
    return number(value)


def times(value: float | None) -> str:
    """A ratio with its sign: `6.65×`."""
    return MISSING if value is None else f"{ratio(value)}×"


def span(low: float | None, high: float | None, show: Callable[[float], str]) -> str:
    """An interval, each end as `show` writes it: `6.41 to 6.90`; `–` where there is none."""
    return MISSING if low is None or high is None else f"{show(low)} to {show(high)}"


def ratio_interval(low: float | None, high: float | None) -> str:
    """The interval of a ratio: `6.41 to 6.90`."""
    return span(low, high, ratio)


def percent(value: float | None, digits: int = 1) -> str:
    """A share as percent without its sign: 0.0312 is `3.1`."""
    return MISSING if value is None else f"{100 * value:.{digits}f}".replace("-", MINUS)


def share(value: float | None) -> str:
    """A share as percent, small ones with the digits that they need: `68.0`, `0.31`, `0.05`, `0.004`."""
    if value is None or not math.isfinite(value):
        return MISSING
    amount = 100 * value
    if amount == 0:
        return "0"
    # Rounded before its digits are counted: 0.0099 is 0.01.
    digits = 1 if amount >= 1 else 2 if amount >= 0.1 else -math.floor(math.log10(float(f"{amount:.0e}")))
    return f"{amount:.{digits}f}"


def bound(value: float | None) -> str:
    """A ratio that is all about its distance from 1, with its sign: `3.20×`, `1.04×`, `1.0005×`."""
    if value is None:
        return MISSING
    excess = abs(value - 1)
    if 0 < excess < 0.005:
        digits = -math.floor(math.log10(excess))
        return f"{value:.{digits}f}×" if digits <= 6 else f"{ratio(1.0)}×"
    return times(value)


def points(value: float) -> str:
    """A difference of shares in percentage points, with its sign: `+0.4`, `−0.1`, `0.0`."""
    rounded = round(100 * value, 1)
    if rounded == 0:
        return "0.0"
    return f"{rounded:+.1f}".replace("-", MINUS)


def count(value: int, noun: str) -> str:
    """A count with its noun: `1 repeat`, `3 repeats`, `2 processes`."""
    plural = noun + ("es" if noun.endswith("s") else "s")
    return f"{value:,} {noun if value == 1 else plural}"


def file_size(size_bytes: int) -> str:
    """Bytes in a readable unit: `812 B`, `58.6 kB`, `1.24 MB`."""
    size, unit = float(size_bytes), "B"
    for larger in ("kB", "MB", "GB"):
        if size < 1000:
            break
        size, unit = size / 1000, larger
    return f"{number(size)} {unit}"


def listing(names: list[str], most: int = 4) -> str:
    """Names as a phrase: `A`, `A and B`, `A, B and C`; beyond `most`, `A, B, C and 7 more`."""
    if len(names) > most:
        names = [*names[: most - 1], f"{len(names) - most + 1} more"]
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"
