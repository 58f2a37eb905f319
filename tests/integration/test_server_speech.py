"""Real speech through the real server: the words that come out, by every way in."""

from __future__ import annotations

import asyncio
import itertools
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from amira_client import AsyncClient, Client, Final, Partial, Retry, ServerError
from harness.metrics.wer import count_errors
from pipelines.audio.read import read_audio
from pipelines.paths import corpora_dir
from tests.fakes.serving import Server, serving

pytestmark = pytest.mark.models
CLIP = corpora_dir() / "starter" / "beckett.wav"
TEXT = "Ever tried. Ever failed. No matter. Try again. Fail again. Fail better."
TOKEN = "a-token-for-tests"


@pytest.fixture(scope="module")
def pcm() -> bytes:
    if not CLIP.is_file():
        pytest.skip("the starter corpus is not built: amira corpus build")
    return read_audio(CLIP).pcm16


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving("--set", f'tokens=["{TOKEN}"]', "--set", "limits.max_ahead_ms=60000") as running:
        yield running


def errors(text: str) -> int:
    return count_errors(TEXT, text).errors


def chunks(pcm: bytes, ms: int = 100) -> list[bytes]:
    return [pcm[at : at + 32 * ms] for at in range(0, len(pcm), 32 * ms)]


def test_a_stream_gives_partials_and_finals_in_order(server: Server, pcm: bytes) -> None:
    async def play() -> list[Partial | Final]:
        async with AsyncClient(server.url, token=TOKEN).stream(16_000) as stream:
            parts = chunks(pcm)
            for part in parts[:9]:  # in the middle of the first words, so that only partials can come
                await stream.send(part)
            events = [await anext(stream)]
            for part in parts[9:]:
                await stream.send(part)
            await stream.finish()
            return events + [event async for event in stream]

    events = asyncio.run(play())
    finals = [event for event in events if isinstance(event, Final)]
    assert errors(" ".join(final.text for final in finals)) <= 1
    assert [final.segment for final in finals] == list(range(len(finals)))
    assert all(a.end_ms <= b.start_ms for a, b in itertools.pairwise(finals))
    assert finals[-1].cause == "finish"
    assert finals[-1].audio_ms == len(pcm) // 32
    stable: dict[int, str] = {}
    for event in events:
        if isinstance(event, Partial):
            before = stable.get(event.segment, "")
            assert event.text.startswith(before)
            stable[event.segment] = event.text[: event.stable_chars]
    assert isinstance(events[0], Partial)


def test_the_synchronous_client(server: Server, pcm: bytes) -> None:
    with Client(server.url, token=TOKEN) as client:
        assert errors(client.transcribe(pcm, 16_000)) <= 1
        texts = [event.text for event in client.events(iter(chunks(pcm)), 16_000) if isinstance(event, Final)]
    assert errors(" ".join(texts)) <= 1


def test_another_rate_and_encoding(server: Server, pcm: bytes) -> None:
    """Speech at 8 kHz in float32 loses the upper half of its band, and hardly a word."""
    import numpy as np
    import soxr

    narrow = soxr.resample(np.frombuffer(pcm, "<i2").astype(np.float32) / 32_768, 16_000, 8_000)
    with Client(server.url, token=TOKEN) as client:
        text = client.transcribe(narrow.astype("<f4").tobytes(), 8_000, encoding="pcm_f32le")
    assert errors(text) <= 3


def test_wrong_tokens(server: Server, pcm: bytes) -> None:
    for token in (None, "wrong", TOKEN + "x"):
        with Client(server.url, token=token) as client, pytest.raises(ServerError, match="unauthorized"):
            client.transcribe(pcm, 16_000)
    with Client(server.url) as client:  # as browsers do it
        assert errors(client.transcribe(pcm, 16_000, token=TOKEN)) <= 1


def test_openai_client(server: Server, tmp_path: Path) -> None:
    client = openai.OpenAI(base_url=f"{server.http}/v1", api_key=TOKEN, max_retries=0)

    def transcribe(form: Any) -> Any:
        with CLIP.open("rb") as file:
            return client.audio.transcriptions.create(model="any", file=file, response_format=form)

    assert errors(transcribe("json").text) <= 1
    verbose = transcribe("verbose_json")
    assert errors(verbose.text) <= 1
    assert verbose.duration == pytest.approx(9.96, abs=0.1)
    assert verbose.segments[0].start >= 0
    assert errors(transcribe("text")) <= 1
    assert " --> " in transcribe("srt")
    assert transcribe("vtt").startswith("WEBVTT")
    wrong = openai.OpenAI(base_url=f"{server.http}/v1", api_key="wrong", max_retries=0)
    with pytest.raises(openai.AuthenticationError), CLIP.open("rb") as file:
        wrong.audio.transcriptions.create(model="any", file=file)
    noise = tmp_path / "noise.wav"
    noise.write_bytes(b"RIFF" + bytes(range(256)))
    with pytest.raises(openai.BadRequestError) as refused, noise.open("rb") as file:
        client.audio.transcriptions.create(model="any", file=file)
    assert refused.value.code == "bad_audio"


def post(server: Server, body: bytes, headers: dict[str, str] | None = None) -> tuple[int, Any]:
    import httpx

    answer = httpx.post(f"{server.http}/v1/transcribe", content=body, headers=headers or {}, timeout=60)
    return answer.status_code, answer.json()


def test_a_recording_over_http(server: Server) -> None:
    import jsonschema

    schemas = Path(__file__).resolve().parents[2] / "protocol" / "schemas"
    authorized = {"Authorization": f"Bearer {TOKEN}"}
    code, transcript = post(server, CLIP.read_bytes(), authorized)
    assert code == 200
    jsonschema.validate(transcript, json.loads((schemas / "transcript.schema.json").read_text()))
    assert errors(transcript["text"]) <= 1
    for body, headers, wanted in (
        (b"", authorized, (400, "bad_message")),
        (b"no audio", authorized, (400, "bad_audio")),
        (CLIP.read_bytes(), {}, (401, "unauthorized")),
    ):
        code, problem = post(server, body, headers)
        assert (code, problem["error"]["code"]) == wanted
        jsonschema.validate(problem, json.loads((schemas / "problem.schema.json").read_text()))


def test_sigterm_lets_the_running_session_finish(pcm: bytes) -> None:
    """Readiness goes, nobody new gets in, the session says everything, the process ends with 0."""

    async def play(server: Server) -> list[Final]:
        client = AsyncClient(server.url)
        async with client.stream(16_000) as stream:
            parts = chunks(pcm)
            for part in parts[:50]:
                await stream.send(part)
            finals = [event for event in [await anext(stream) for _ in range(3)] if isinstance(event, Final)]
            server.process.send_signal(signal.SIGTERM)
            while server.get("/readyz")[1] != "draining\n":
                await asyncio.sleep(0.01)
            with pytest.raises(ServerError, match="draining"):
                await AsyncClient(server.url, retry=Retry(attempts=0)).transcribe(pcm, 16_000)
            for part in parts[50:]:
                await stream.send(part)
            await stream.finish()
            finals += [event async for event in stream if isinstance(event, Final)]
            assert stream.reconnects == 0, server.log
            return finals

    with serving("--set", "grace_ms=60000") as server:
        finals = asyncio.run(play(server))
        assert errors(" ".join(final.text for final in finals)) <= 1
        assert server.wait(60) == 0
        assert server.messages()[-1] == "stopped"
