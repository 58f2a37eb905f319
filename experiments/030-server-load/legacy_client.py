"""Readers at the legacy service: chunks are posted as they are spoken, the text is polled, an utterance a session."""

from __future__ import annotations

import http.client
import json
import random
import threading
from time import perf_counter_ns, sleep
from typing import Any

import numpy as np
from sherpa_client import speech

from harness.corpus import load_corpus
from harness.metrics.wer import corpus_wer, count_errors

POLL_S = 0.5
UTTERANCE_S = 6.0


def load(port: int, streams: int, seconds: float, chunk_ms: int) -> dict[str, Any]:
    """Put streams on the service. A poll's latency runs from the last audio that its text is about."""
    audio, starts = speech(seconds)
    chance = random.Random(0)
    start_ns = perf_counter_ns() + 200_000_000
    latencies: list[float] = []
    readers = [
        threading.Thread(
            target=_read,
            args=(port, audio, chance.choice(starts), start_ns + k * 1_000_000_000 // streams, chunk_ms, seconds,
                  latencies),
        )
        for k in range(streams)
    ]  # fmt: skip
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    p50, p90, p99 = (float(value) for value in np.percentile(latencies, [50, 90, 99]))
    return {"n": len(latencies), "p50": p50, "p90": p90, "p99": p99, "bad": 0}


def wer(port: int) -> dict[str, Any]:
    """Word errors over the starter corpus, each clip a session."""
    counts, speakers = [], []
    for clip in load_corpus("starter").clips:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
        session = _call(connection, "POST", "/sessions")["session"]
        _call(connection, "POST", f"/sessions/{session}/audio", clip.pcm16())
        text = _call(connection, "DELETE", f"/sessions/{session}")["text"]
        connection.close()
        if clip.text:
            counts.append(count_errors(clip.text, text))
            speakers.append(clip.speaker)
    rate = corpus_wer(counts, speakers)
    return {"value": rate.value, "low": rate.low, "high": rate.high, "utterances": rate.utterances}


def _call(connection: http.client.HTTPConnection, method: str, path: str, body: bytes = b"") -> Any:
    connection.request(method, path, body)
    answer = connection.getresponse()
    data = answer.read()
    if answer.status != 200:
        raise RuntimeError(f"{method} {path}: {answer.status} {data[:200]!r}")
    return json.loads(data)


def _read(
    port: int, audio: np.ndarray, offset: int, start_ns: int, chunk_ms: int, seconds: float, latencies: list[float]
) -> None:
    size, each = chunk_ms * 16, round(UTTERANCE_S * 1_000 / chunk_ms)
    chunks = round(seconds * 1_000 / chunk_ms)
    for first in range(0, chunks, each):
        count = min(each, chunks - first)
        posting, polling = (http.client.HTTPConnection("127.0.0.1", port, timeout=300) for _ in range(2))
        session = _call(posting, "POST", "/sessions")["session"]
        began_ns = start_ns + first * chunk_ms * 1_000_000
        over = threading.Event()
        poller = threading.Thread(target=_poll, args=(polling, session, began_ns, over, latencies))
        poller.start()
        for k in range(count):
            sleep(max(0, began_ns + (k + 1) * chunk_ms * 1_000_000 - perf_counter_ns()) / 1e9)
            at = offset + (first + k) * size
            part = np.take(audio, range(at, at + size), mode="wrap")
            _call(posting, "POST", f"/sessions/{session}/audio", part.tobytes())
        over.set()
        poller.join()
        answer = _call(posting, "DELETE", f"/sessions/{session}")
        latencies.append((perf_counter_ns() - began_ns) / 1e6 - answer["samples"] / 16)
        posting.close()
        polling.close()


def _poll(
    connection: http.client.HTTPConnection, session: str, began_ns: int, over: threading.Event, latencies: list[float]
) -> None:
    while not over.wait(POLL_S):
        answer = _call(connection, "GET", f"/sessions/{session}/text")
        if answer["samples"]:
            latencies.append((perf_counter_ns() - began_ns) / 1e6 - answer["samples"] / 16)
