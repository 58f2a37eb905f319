"""What is counted for every message or round, each by one thread alone: without locks.

A histogram of `prometheus_client` takes locks and looks through its buckets in Python, which is more than making the
message. These are read when somebody scrapes.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString


class Distribution:
    """How many values there were up to each limit."""

    __slots__ = ("_limits", "counts", "total")

    def __init__(self, limits: Sequence[float]) -> None:
        self._limits = tuple(limits)
        self.counts = [0] * (len(limits) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self._limits, value)] += 1
        self.total += value


class Distributions(Collector):
    """A histogram with one label, all of whose values are known."""

    def __init__(self, name: str, text: str, label: str, values: Iterable[str], limits: Sequence[float]) -> None:
        self._name, self._text, self._label = name, text, label
        self._ends = [*map(floatToGoString, limits), "+Inf"]
        self.of = {value: Distribution(limits) for value in values}

    def collect(self) -> Iterator[Metric]:
        """The metric now."""
        family = HistogramMetricFamily(self._name, self._text, labels=[self._label])
        for value, each in self.of.items():
            buckets = [(end, float(count)) for end, count in zip(self._ends, accumulate(each.counts), strict=True)]
            family.add_metric([value], buckets, each.total)
        yield family


class Counts(Collector):
    """A counter with one label, all of whose values are known."""

    def __init__(self, name: str, text: str, label: str, values: Iterable[str]) -> None:
        self._name, self._text, self._label = name, text, label
        self.of = dict.fromkeys(values, 0)

    def collect(self) -> Iterator[Metric]:
        """The metric now."""
        family = CounterMetricFamily(self._name, self._text, labels=[self._label])
        for value, count in self.of.items():
            family.add_metric([value], count)
        yield family
