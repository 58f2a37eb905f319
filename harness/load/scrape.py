"""What the server says about itself before and after a step: its metrics, read by Prometheus's own parser."""

from __future__ import annotations

import urllib.request
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


def share_within(before: Samples, after: Samples, kind: str, seconds: str) -> float | None:
    """The share of answers of a kind that took at most a bucket's limit; `None` where there was none."""
    count = f'request_latency_seconds_count{{kind="{kind}"}}'
    bucket = f'request_latency_seconds_bucket{{kind="{kind}",le="{seconds}"}}'
    answers = after.get(count, 0.0) - before.get(count, 0.0)
    return (after.get(bucket, 0.0) - before.get(bucket, 0.0)) / answers if answers else None
