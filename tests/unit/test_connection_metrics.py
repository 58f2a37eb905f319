"""The metrics of connections, from a pool that is really used."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest

from pipelines.resilience import Deadline
from pipelines.triton.connections.pool import Pool
from server.connections import COUNTERS, ConnectionCollector


class Source:
    """What a service says of its connections: a pool, and one that counts less."""

    def __init__(self, pool: Pool[int]) -> None:
        self._pool = pool

    def counters(self) -> dict[str, dict[str, int]]:
        return {"triton:8001": self._pool.counters(), "other:8001": {"opened": 3}}


def test_every_counter_of_a_pool_is_a_sample_and_pipelines_are_added_up() -> None:
    pool: Pool[int] = Pool(lambda: 1, lambda one: None, lambda one, within_s: True, size=2)
    for _ in range(3):
        with pool.lease(Deadline.after(1)):
            pass
    assert set(pool.counters()) == {"in_use", "idle", *COUNTERS}
    registry = CollectorRegistry()
    registry.register(ConnectionCollector([Source(pool), Source(pool)]))

    def sample(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"triton_connection{name}", {"endpoint": "triton:8001", **labels})

    with pool.lease(Deadline.after(1)):
        assert (sample("s", state="in_use"), sample("s", state="idle")) == (2, 0)
    assert (sample("s", state="in_use"), sample("s", state="idle")) == (0, 2)
    assert (sample("_leases_total"), sample("_hits_total"), sample("_opened_total")) == (8, 6, 2)
    text = generate_latest(registry).decode()
    assert 'triton_connection_opened_total{endpoint="other:8001"} 6.0' in text
    assert 'triton_connection_leases_total{endpoint="other:8001"}' not in text


def test_without_connections_there_is_no_sample() -> None:
    registry = CollectorRegistry()
    registry.register(ConnectionCollector([]))
    assert not [line for line in generate_latest(registry).decode().splitlines() if not line.startswith("#")]
