"""Two passes: a streaming model makes the partials of many sessions in one batch, and its text is the finals' draft."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from amira_client import AsyncClient, Final, Partial
from pipelines.audio.endpoint import EndpointRules
from pipelines.audio.tape import Held
from pipelines.batcher import Batcher
from pipelines.config import PipelineConfig
from pipelines.contracts import AudioBatch
from pipelines.errors import AmiraError
from pipelines.paths import models_dir
from pipelines.session import FinalEvent, PartialEvent, Session, SessionSettings
from pipelines.streaming import Opener, StreamingConfig, StreamingRecognizer, open_streaming
from tests.contract.opening import CTC_BELOW, tone
from tests.fakes.serving import serving
from tests.small_ctc import write_small_stream


@pytest.fixture
def first(tmp_path: Path) -> PipelineConfig:
    model = str(write_small_stream(tmp_path / "stream"))
    return PipelineConfig(model=model, variants={**CTC_BELOW, "decoder": "decoder/greedy"})


def streaming(first: PipelineConfig, **changes: Any) -> StreamingConfig:
    return StreamingConfig(vad="none", partials="streaming", finals="first-pass", first=first, **changes)


def noises(count: int) -> list[np.ndarray]:
    """Clips that a model with random weights says different things about."""
    return [
        (np.random.default_rng(seed).standard_normal(8_000 + 1_111 * seed) * 6_000).astype(np.int16)
        for seed in range(count)
    ]


def session_for(recognizer: StreamingRecognizer, clip: np.ndarray) -> Session:
    """A session that has got the whole clip and its end."""
    rules = EndpointRules(8_000, 320_000, 3_200)
    it = Session(SessionSettings(rules), recognizer.detector.open(), 1_600, recognizer.partials, Held())
    it.push(clip.tobytes(), 0)
    it.finish(0)
    return it


def run(sessions: list[Session], batcher: Batcher, settle: Any) -> list[list[PartialEvent | FinalEvent]]:
    events: list[list[PartialEvent | FinalEvent]] = [[] for _ in sessions]
    while True:
        done = batcher.round(sessions)
        assert done.error is None
        jobs = [(session, job) for session in sessions for job in session.take_jobs()]
        for session, job in jobs:
            session.recognised(job, settle(job.pcm, job.draft).hypotheses)
        for session, own in zip(sessions, events, strict=True):
            own += session.take_events()
        if done.idle and not jobs:
            return events


def test_a_session_says_the_same_alone_and_in_a_batch_as_its_whole_clip(first: PipelineConfig) -> None:
    clips = noises(6)
    with open_streaming(streaming(first), models_dir()) as recognizer, Opener(first, models_dir()).parts() as parts:
        batcher = Batcher(recognizer.detector, recognizer.partials.first_pass)

        together = run([session_for(recognizer, clip) for clip in clips], batcher, recognizer.finals.settle)
        alone = [run([session_for(recognizer, clip)], batcher, recognizer.finals.settle)[0] for clip in clips]
        assert together == alone
        texts = []
        for clip, events in zip(clips, together, strict=True):
            model, stream = parts["acoustic"], parts["decoder"].stream()
            state = model.open()
            for at in range(0, len(clip), model.chunk_samples):
                chunk = np.zeros((1, model.chunk_samples), np.float32)
                part = clip[at : at + model.chunk_samples]
                chunk[0, : len(part)] = part / np.float32(32_768)
                scores = model.infer_chunk([state], AudioBatch(chunk, np.array([len(part)])))
                stream.push(scores.values[0, : scores.lengths[0]])
            [final] = [event for event in events if isinstance(event, FinalEvent)]
            assert final.text == stream.finish()[0].text
            texts.append(final.text)
        assert len(set(texts)) > 3  # they do say different things


def test_partials_need_a_streaming_model(first: PipelineConfig) -> None:
    with (
        pytest.raises(AmiraError, match=r"recognizer\.first"),
        open_streaming(StreamingConfig(partials="streaming", finals="first-pass"), models_dir()),
    ):
        pass


def test_over_the_wire(first: PipelineConfig, tmp_path: Path) -> None:
    config = tmp_path / "server.toml"
    variants = "".join(f'{axis} = "{name}"\n' for axis, name in first.variants.items())
    config.write_text(
        '[recognizer]\nvad = "none"\npartials = "streaming"\nfinals = "first-pass"\n'
        f'[recognizer.first]\nmodel = "{first.model}"\n[recognizer.first.variants]\n{variants}'
    )

    async def play(url: str) -> list[list[Partial | Final]]:
        async def one(clip: np.ndarray) -> list[Partial | Final]:
            parts = [clip[at : at + 1_600].tobytes() for at in range(0, len(clip), 1_600)]
            return [event async for event in AsyncClient(url).events(parts, 16_000)]

        return list(await asyncio.gather(*(one(clip) for clip in [*noises(4), tone(1.0)])))

    with serving("--config", str(config)) as server:
        for events in asyncio.run(play(server.url)):
            stable = ""
            for event in events:
                if isinstance(event, Partial):
                    assert event.text.startswith(stable)
                    stable = event.text[: event.stable_chars]
            [final] = [event for event in events if isinstance(event, Final)]
            assert final.text.startswith(stable)
            assert [word.text for word in final.words] == final.text.split()
            assert all(word.start_ms <= word.end_ms <= final.end_ms + 50 for word in final.words)
