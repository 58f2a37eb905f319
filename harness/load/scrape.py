"""What the server says about itself before and after a step: its metrics, read by Prometheus's own parser."""

from __future__ import annotations

import threading
import urllib.request
from time import perf_counter_ns
from types import TracebackType
from urllib.parse import urlsplit

from pipelines.errors import AmiraError

KEPT = (
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
    "request_latency_seconds_bucket",
    "request_latency_seconds_count",
    "batch_size_sum",
    "batch_size_count",
    "audio_seconds_total",
    "connections",
    "active_streams",
)

Samples = dict[str, float]


def http_url(url: str) -> str:
    """The HTTP address of a server that is named by its WebSocket address."""
    parts = urlsplit(url if "//" in url else f"ws://{url}")
    scheme = {"ws": "http", "wss": "https"}.get(parts.scheme, parts.scheme)
    return f"{scheme}://{parts.netloc}"


def scrape(url: str) -> Samples:
    """The kept samples by name and labels.

    Raises:
        AmiraError: The server does not answer.
    """
    address = f"{http_url(url)}/metrics"
    try:
        with urllib.request.urlopen(address, timeout=10) as answer:
            text = answer.read().decode()
    except OSError as error:
        raise AmiraError(
            f"no server answers at {address}: {error}. Start one with: amira serve, or name another URL"
        ) from error
    samples = {}
    for line in text.splitlines():
        name, _, value = line.rpartition(" ")
        if name.partition("{")[0] in KEPT:
            samples[name] = float(value)
    return samples


class Watch:
    """Asks for the server's resident memory while a block runs, 180 times if it takes as long as it should.

    Attributes:
        points: `[seconds since the start, bytes]`; a scrape that is not answered leaves none.
    """

    def __init__(self, url: str, seconds: float) -> None:
        self.points: list[tuple[float, float]] = []
        self._url, self._every_s = url, max(0.5, seconds / 180)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        started_ns = perf_counter_ns()
        while not self._over.wait(self._every_s):
            try:
                rss = scrape(self._url).get("process_resident_memory_bytes")
            except AmiraError:
                continue
            if rss is not None:
                self.points.append((round((perf_counter_ns() - started_ns) / 1e9, 1), rss))


def share_within(before: Samples, after: Samples, kind: str, seconds: str) -> float | None:
    """The share of answers of a kind that took at most a bucket's limit; `None` where there was none."""
    count = f'request_latency_seconds_count{{kind="{kind}"}}'
    bucket = f'request_latency_seconds_bucket{{kind="{kind}",le="{seconds}"}}'
    answers = after.get(count, 0.0) - before.get(count, 0.0)
    return (after.get(bucket, 0.0) - before.get(bucket, 0.0)) / answers if answers else None
