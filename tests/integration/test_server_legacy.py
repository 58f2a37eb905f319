"""The baseline recognises as well as the server does; only how it gets there differs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from harness.metrics.wer import count_errors
from pipelines.assemble import open_pipeline
from pipelines.audio.read import read_audio
from pipelines.paths import corpora_dir, models_dir
from server.legacy import LEGACY, make_app

pytestmark = pytest.mark.models
CLIP = corpora_dir() / "starter" / "beckett.wav"


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with open_pipeline(LEGACY, models_dir()) as pipeline, TestClient(make_app(pipeline)) as client:
        yield client


def test_chunks_and_polls(client: TestClient) -> None:
    if not CLIP.is_file():
        pytest.skip("the starter corpus is not built: amira corpus build")
    pcm = read_audio(CLIP).pcm16[: 32 * 3_200]
    session = client.post("/sessions").json()["session"]
    assert client.get(f"/sessions/{session}/text").json() == {"text": "", "samples": 0}
    for at in range(0, len(pcm), 3_200):
        client.post(f"/sessions/{session}/audio", content=pcm[at : at + 3_200])
    polled = client.get(f"/sessions/{session}/text").json()
    assert polled["samples"] == len(pcm) // 2
    assert client.delete(f"/sessions/{session}").json() == polled
    assert count_errors("Ever tried. Ever failed.", polled["text"]).errors == 0
    assert client.get(f"/sessions/{session}/text").status_code == 404


def test_half_a_sample(client: TestClient) -> None:
    session = client.post("/sessions").json()["session"]
    assert client.post(f"/sessions/{session}/audio", content=b"\0").status_code == 400
