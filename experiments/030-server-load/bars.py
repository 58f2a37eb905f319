"""What the server costs without a model, and what the streaming model gives at one stream and under load."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from time import sleep
from typing import Any

import psutil
import websockets
from contenders import CHUNK_MS, Contender, Running, amira, running

from amira_client import AsyncClient, Final
from harness.corpus import load_corpus
from harness.load.run import run_load
from harness.load.scrape import scrape
from harness.load.spec import LoadSpec
from harness.load.summary import summarise
from harness.metrics.wer import corpus_wer, count_errors

IDLE = 1_000
MANY, MANY_S = 2_000, 18.0
SETS = ("--set", "limits.max_sessions=3000")
FORMS_OF_MANY = {
    "finals alone": ("compiled", False),
    "partials": ("compiled", True),
    "finals alone, interpreted": ("interpreted", False),
}
"""The session logic's form, and whether partials are asked for."""
HUNDRED_S = 16.0
"""Shorter than the longest segment: where one is cut within speech, what is behind the cut is heard once more."""
ALONE_S, FULL_S = 60.0, 64.0
"""Of the one stream, and of all of them beside whom clips are recognised, which takes a minute."""
AGAIN = 5
"""Steps of which the middle one counts, where a tail or the edge of what can be done is measured: of a shared machine
one alone says more about the neighbours."""
WHOLE_S = 8.0
"""With shorter steps, which are for a try, these are as short."""
SEVENTY = 9
"""The same for the ratio at 70 %, which the neighbours change most."""


def _step(server: Running, **spec: Any) -> dict[str, Any]:
    folder = run_load(server.url, [LoadSpec(**spec)], load_corpus("starter"), lambda message: None)
    [step] = summarise(folder)["steps"]
    kept = ("streams", "sessions", "errors", "lost_ms", "disordered", "latency_ms", "wer", "server")
    found = {"run": folder.name, **{name: step[name] for name in kept}}
    print({name: found[name] for name in ("run", "streams", "errors", "lost_ms")}, found["latency_ms"]["partial"])
    return found


def null(cores: Sequence[int], seconds: float) -> dict[str, Any]:
    """The server that recognises nothing: what is left is its own."""
    contender = amira("--null", *SETS, config=None)
    with running(contender, cores) as server:
        idle = asyncio.run(_idle_bytes(server))
        hundred = _hundred(server, seconds)
    many_s = MANY_S if seconds >= WHOLE_S else 10 + seconds
    many: dict[str, list[dict[str, Any]]] = {name: [] for name in FORMS_OF_MANY}
    for _ in range(AGAIN):
        for name, (form, partials) in FORMS_OF_MANY.items():
            many_sessions = amira("--null", *SETS, "--set", f"sessions={form}", config=None)
            # A server of its own for each step: what one left behind is not the next one's.
            with running(many_sessions, cores) as server:
                many[name].append(_step(server, streams=MANY, seconds=many_s, ramp_s=8.0, partials=partials))
    return {"idle_bytes_per_connection": idle, "hundred": hundred, "many": many}


def _hundred(server: Running, seconds: float) -> list[dict[str, Any]]:
    return [_step(server, streams=100, seconds=min(HUNDRED_S, 2 * seconds)) for _ in range(AGAIN)]


async def _idle_bytes(server: Running) -> float:
    process = psutil.Process(server.process.pid)
    options: dict[str, Any] = {"subprotocols": ["amira.asr.v1"], "compression": None, "open_timeout": 60}
    first = [await websockets.connect(f"{server.url}/v1/stream", **options) for _ in range(3)]
    for each in first:
        await each.close()
    before = process.memory_info().rss
    gate = asyncio.Semaphore(100)

    async def one() -> Any:
        async with gate:
            return await websockets.connect(f"{server.url}/v1/stream", **options)

    open_ones = await asyncio.gather(*(one() for _ in range(IDLE)))
    grown = (process.memory_info().rss - before) / IDLE
    for each in open_ones:
        each.transport.abort()
    return grown


def real(contender: Contender, cores: Sequence[int], seconds: float, capacity: int) -> dict[str, Any]:
    """One stream for a minute, 70 % of the capacity, and all of it; the words of clips alone and beside all of it."""
    with running(contender, cores) as server:
        before = scrape(server.url)
        one = _step(server, streams=1, seconds=ALONE_S if seconds >= WHOLE_S else seconds)
        after = scrape(server.url)
        alone = texts(server)
        most = max(1, round(capacity * 0.7))
        load = {"chunk_ms": CHUNK_MS, "ramp_s": 1.0, "anywhere": True}
        seventy = [_step(server, streams=most, seconds=seconds, **load) for _ in range(SEVENTY)]
        with ThreadPoolExecutor(1) as pool:
            full_s = FULL_S if seconds >= WHOLE_S else seconds
            full = pool.submit(_step, server, streams=max(1, capacity), seconds=full_s, **load)
            sleep(2.0)  # they have all started
            loaded = texts(server)
            beside = not full.done()
        step = full.result()
    return {
        "compute": buckets(before, after), "one": one, "seventy": seventy, "full": step,
        "words": {"alone": alone, "loaded": loaded, "loaded_throughout": beside},
    }  # fmt: skip


def texts(server: Running) -> dict[str, str]:
    """What the server makes of each clip of the starter corpus: a session each, sent at once, so the same samples."""

    async def text(pcm: bytes) -> str:
        parts = [pcm[at : at + 32_000] for at in range(0, len(pcm), 32_000)]
        events = AsyncClient(server.url).events(parts, 16_000)
        return " ".join([event.text async for event in events if isinstance(event, Final)])

    return {clip.id: asyncio.run(text(clip.pcm16())) for clip in load_corpus("starter").clips if clip.text}


def word_errors(found: dict[str, str]) -> dict[str, Any]:
    """Word error rate of `texts`, with an interval."""
    clips = [clip for clip in load_corpus("starter").clips if clip.text]
    rate = corpus_wer([count_errors(clip.text, found[clip.id]) for clip in clips], [clip.speaker for clip in clips])
    return {"value": rate.value, "low": rate.low, "high": rate.high, "utterances": rate.utterances}


def buckets(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    """Partials by the server's own time from a chunk's last byte to the partial, up to each limit in seconds."""
    prefix = 'request_latency_seconds_bucket{kind="partial",le="'
    return {
        name.removeprefix(prefix).removesuffix('"}'): value - before.get(name, 0.0)
        for name, value in after.items()
        if name.startswith(prefix)
    }
