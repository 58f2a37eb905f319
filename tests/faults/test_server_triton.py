"""The real Triton behind the running server is killed and stalled: its sessions wait for it and lose no word."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from amira_client import AsyncClient, Final, Retry, ServerError
from harness.corpus import load_corpus
from pipelines.paths import corpora_dir, models_dir
from pipelines.triton import environment
from pipelines.triton.repository import served
from pipelines.triton.server import ServerSpec, TritonServer
from tests.fakes.serving import Server, serving

if (problem := environment.problem()) is not None:
    pytest.skip(f"{problem.reason}. {problem.remedy}", allow_module_level=True)
if not (corpora_dir() / "starter").is_dir() or not (models_dir() / "moonshine-aed").is_dir():
    pytest.skip("models and starter corpus are not built: make models", allow_module_level=True)

CONFIG = """
[limits]
max_ahead_ms = 60_000
settle_timeout_ms = 90_000
[recognizer]
partials = "off"
finals = "second-pass"
[recognizer.second]
model = "moonshine-aed"
[recognizer.second.variants]
memory = "pooled"
kernel = "scalar"
connection = "pooled"
acoustic = "triton@fp32"
decoder = "aed-greedy"
[recognizer.second.options.connection]
deadline_s = 5.0
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    config = tmp_path_factory.mktemp("triton") / "server.toml"
    config.write_text(CONFIG)
    with serving("--config", str(config)) as it:
        yield it


@pytest.fixture(scope="module")
def chunks() -> list[bytes]:
    """Three clips with pauses between them: three segments."""
    clips = {clip.id: clip.pcm16() for clip in load_corpus("starter").clips}
    pcm = b"".join(clips[name] + bytes(32_000) for name in ("cards-2", "two-cities-6", "cards-4"))
    return [pcm[at : at + 3_200] for at in range(0, len(pcm), 3_200)]


def triton(server: Server) -> psutil.Process:
    [found] = [child for child in psutil.Process(server.process.pid).children() if "tritonserver" in child.name()]
    return found


async def texts(
    server: Server, chunks: list[bytes], hurt: signal.Signals | None = None, retry: Retry | None = None
) -> list[str]:
    """What a session says whose Triton is hurt when it has had a third of the audio, and its first final or none."""
    async with AsyncClient(server.url, retry=retry).stream(16_000) as stream:
        for number, chunk in enumerate(chunks):
            if hurt is not None and number == len(chunks) // 3:
                os.kill(triton(server).pid, hurt)
            await stream.send(chunk)
        await stream.finish()
        return [event.text async for event in stream if isinstance(event, Final)]


@pytest.fixture(scope="module")
def undisturbed(server: Server, chunks: list[bytes]) -> list[str]:
    said = asyncio.run(texts(server, chunks))
    assert len([text for text in said if text]) == 3
    return said


@pytest.mark.parametrize("hurt", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stalled"])
def test_a_session_gets_its_words_all_the_same(
    server: Server, chunks: list[bytes], undisturbed: list[str], hurt: signal.Signals
) -> None:
    before, failed = triton(server).pid, server.metric('triton_errors_total{stage="final"}')
    assert asyncio.run(texts(server, chunks, hurt)) == undisturbed
    assert triton(server).pid != before  # it was the server's own Triton, and there is a new one
    assert server.metric('triton_errors_total{stage="final"}') > failed
    assert server.metric("breaker_state") == 0
    assert server.process.poll() is None
    assert server.get("/healthz")[0] == 200


def test_a_triton_that_stays_away_is_a_retryable_error(tmp_path: Path, chunks: list[bytes]) -> None:
    """Where the server has no hold of its Triton: it goes for good, the session is told so, the process lives on."""
    config = tmp_path / "server.toml"
    config.write_text(CONFIG.replace("90_000", "1_500"))
    with ExitStack() as stack:
        with TritonServer(ServerSpec(served(), ("moonshine-encoder",))) as elsewhere:
            there = {"AMIRA_TRITON_URL": elsewhere.url}
            server = stack.enter_context(serving("--config", str(config), environment=there))
        with pytest.raises(ServerError) as caught:
            asyncio.run(texts(server, chunks, retry=Retry(attempts=0)))
        assert (caught.value.code, caught.value.retryable) == ("backend_unavailable", True)
        assert server.get("/healthz")[0] == 200
