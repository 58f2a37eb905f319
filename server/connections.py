"""Metrics of the connections to Triton, read from their own counters whenever somebody scrapes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from pipelines.contracts import Connections

PREFIX = "triton_connection"
STATES = ("in_use", "idle")
COUNTERS = {
    "opened": ("opened", "Connections that were opened"),
    "closed": ("closed", "Connections that were closed"),
    "leases": ("leases", "Leases of a connection from the pool"),
    "hits": ("hits", "Leases that got a connection that was open already"),
    "waited": ("waits", "Leases that had to wait for a connection"),
    "waited_ns": ("wait_seconds", "Time that leases waited for a connection"),
    "timed_out": ("wait_timeouts", "Callers that waited for a connection in vain"),
    "unhealthy": ("unhealthy", "Idle connections that were found dead"),
}
"""What a connection counts: the end of the metric's name, and its help."""


class ConnectionCollector(Collector):
    """Pipelines that call the same endpoint are added up. What a connection does not count has no sample."""

    def __init__(self, sources: Sequence[Connections]) -> None:
        self._sources = sources

    def collect(self) -> Iterator[Metric]:
        """The metrics now."""
        endpoints: dict[str, Counter[str]] = {}
        for source in self._sources:
            for endpoint, counted in source.counters().items():
                endpoints.setdefault(endpoint, Counter()).update(counted)
        now = GaugeMetricFamily(f"{PREFIX}s", "Connections to Triton that are open", labels=["endpoint", "state"])
        for endpoint, counted in endpoints.items():
            for state in STATES:
                if state in counted:
                    now.add_metric([endpoint, state], counted[state])
        yield now
        for name, (ending, text) in COUNTERS.items():
            family = CounterMetricFamily(f"{PREFIX}_{ending}", text, labels=["endpoint"])
            for endpoint, counted in endpoints.items():
                if name in counted:
                    family.add_metric([endpoint], counted[name] / 1e9 if name.endswith("_ns") else counted[name])
            yield family
