"""Timing calls by turns in one process: the best of several timings of each in every round."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import perf_counter_ns
from typing import Any, NamedTuple

Call = Callable[[int], None]
"""Does its work that many times."""
Times = dict[str, list[float]]
"""Nanoseconds for each call, by name, one for each round."""
TRIES = 7
"""Timings of which the best counts."""


class Effort(NamedTuple):
    """How long to measure.

    Attributes:
        rounds: Of the targets.
        sweep_rounds: Of the sweep over sizes.
        sample_ns: How long one timing lasts at least: many calls of a fast kernel, one of a slow one.
        compiling: Whether to time compilation, in fresh processes.
    """

    rounds: int = 20
    sweep_rounds: int = 3
    sample_ns: int = 1_000_000
    compiling: bool = True


def interleaved(calls: Mapping[str, Call], rounds: int, sample_ns: int) -> Times:
    """Time every call in every round, the best of `TRIES`, after finding out how often each must be repeated.

    The best, since the other core's tenants take this one away for longer than one timing lasts. What it takes to
    begin (30 us for a driver) is taken off.
    """
    repeats = {name: _repeats(call, sample_ns) for name, call in calls.items()}
    begins = {name: _best(call, 0) for name, call in calls.items()}
    times: Times = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            times[name].append((_best(call, repeats[name]) - begins[name]) / repeats[name])
    return times


def _best(call: Call, times: int) -> int:
    return min(_time(call, times) for _ in range(TRIES))


def _time(call: Call, times: int) -> int:
    start = perf_counter_ns()
    call(times)
    return perf_counter_ns() - start


def _repeats(call: Call, sample_ns: int) -> int:
    """How many calls last as long as a timing should; the best, so that no interruption ends the search."""
    times = 1
    while (taken := _best(call, times)) < sample_ns:
        times = min(10 * times, max(2 * times, int(0.8 * times * sample_ns / taken)))
    return times


def nothing(times: int) -> None:
    """The loop in Python that repeats a call."""
    for _ in range(times):
        pass


def python_call(function: Callable[..., object], *arguments: Any) -> Call:
    """Calls from Python, written out for up to three arguments as a pipeline writes them."""
    if len(arguments) == 1:
        (first,) = arguments

        def call(times: int) -> None:
            for _ in range(times):
                function(first)

    elif len(arguments) == 2:
        first, second = arguments

        def call(times: int) -> None:
            for _ in range(times):
                function(first, second)

    elif len(arguments) == 3:
        first, second, third = arguments

        def call(times: int) -> None:
            for _ in range(times):
                function(first, second, third)

    else:

        def call(times: int) -> None:
            for _ in range(times):
                function(*arguments)

    return call


def driven(drive: Callable[[int, tuple[Any, ...]], None], *arguments: Any) -> Call:
    """Calls from machine code."""
    return lambda times: drive(times, arguments)
