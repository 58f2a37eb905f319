"""What is counted without locks reads as what prometheus_client counts."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.registry import Collector

from server.tally import Counts, Distributions

LIMITS = (0.001, 0.5, 1, 10)


def lines(*collectors: Collector) -> list[str]:
    registry = CollectorRegistry()
    for each in collectors:
        registry.register(each)
    return sorted(line for line in generate_latest(registry).decode().splitlines() if "_created" not in line)


def test_distributions_read_as_a_histogram() -> None:
    ours = Distributions("waited_seconds", "How long", "kind", ("long", "short"), LIMITS)
    theirs = Histogram("waited_seconds", "How long", ["kind"], buckets=LIMITS, registry=None)
    theirs.labels("short")
    for value in (0.0, 0.001, 0.0011, 0.5, 0.75, 3.0, 10.0, 99.0):
        ours.of["long"].observe(value)
        theirs.labels("long").observe(value)
    assert lines(ours) == lines(theirs)


def test_counts_read_as_a_counter() -> None:
    ours = Counts("messages_sent", "Messages", "type", ("final", "partial"))
    theirs = Counter("messages_sent", "Messages", ["type"], registry=None)
    for kind, count in (("final", 0), ("partial", 7)):
        ours.of[kind] += count
        theirs.labels(kind).inc(count)
    assert lines(ours) == lines(theirs)
