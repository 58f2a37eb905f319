"""One trace from the client through the server into Triton, whose own spans arrive at the same receiver."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from amira_client import AsyncClient, Final
from harness.corpus import load_corpus
from pipelines.paths import corpora_dir, models_dir
from pipelines.triton import environment
from tests.fakes.serving import serving
from tests.fakes.world import wait_for
from tests.faults.test_server_triton import CONFIG
from tests.integration.test_server_observability import PARENT, TRACE, Receiver, receiver

if (problem := environment.problem()) is not None:
    pytest.skip(f"{problem.reason}. {problem.remedy}", allow_module_level=True)
if not (corpora_dir() / "starter").is_dir() or not (models_dir() / "moonshine-aed").is_dir():
    pytest.skip("models and starter corpus are not built: make models", allow_module_level=True)
__all__ = ["receiver"]


def test_tritons_spans_are_below_ours_and_ours_below_the_clients(receiver: Receiver, tmp_path: Path) -> None:
    config = tmp_path / "server.toml"
    config.write_text(f'otlp_endpoint = "{receiver.url}"\n{CONFIG}otlp_endpoint = "{receiver.url}"\n')
    pcm = next(clip.pcm16() for clip in load_corpus("starter").clips if clip.id == "cards-4")

    async def speak(url: str) -> list[str]:
        events = AsyncClient(url).events([pcm], 16_000, traceparent=PARENT)
        return [event.text async for event in events if isinstance(event, Final)]

    def named(name: str) -> list[object]:
        return [span for span in receiver.spans if span.name == name]

    with serving("--config", str(config)) as server:
        assert any(asyncio.run(speak(server.url)))
        wait_for(lambda: named("compute") or named("InferRequest"), "Triton's spans to arrive")
    spans = {span.span_id: span for span in receiver.spans}
    assert {span.trace_id.hex() for span in spans.values()} == {TRACE}
    [ours] = list(named("triton_inference"))

    def above(span: object) -> list[str]:
        found = []
        while (span := spans.get(span.parent_span_id)) is not None:  # type: ignore[attr-defined]
            found.append(span.name)
        return found

    assert above(ours) == ["final", "websocket_connection"]
    assert ours.attributes[0].value.string_value == "moonshine-encoder"
    theirs = [span for span in spans.values() if "triton_inference" in above(span)]
    assert theirs, [span.name for span in spans.values()]
    for span in theirs:
        # Triton ends a span when its threads come to it, which may be after its answer is here.
        assert ours.start_time_unix_nano <= span.start_time_unix_nano <= ours.end_time_unix_nano
