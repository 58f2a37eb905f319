"""A streaming model on the real server: the words of the one in process, and what becomes of streams that end badly."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines import registry
from pipelines.acoustic.triton import open_ctc
from pipelines.config import PipelineConfig
from pipelines.contracts import AudioBatch
from pipelines.errors import AmiraError
from pipelines.paths import models_dir
from pipelines.registry import Context
from pipelines.resilience import Deadline, ServiceError
from pipelines.streaming import StreamingConfig, open_streaming
from pipelines.triton import environment, repository, variants
from pipelines.triton.connections.base import Turn
from pipelines.triton.connections.unary import PooledConnection
from pipelines.triton.server import ServerSpec, TritonServer
from pipelines.triton.service import TritonService
from tests.contract.opening import CTC_BELOW, small_ctc_on_triton, tone
from tests.fakes.world import wait_for
from tests.small_ctc import write_small_ctc, write_small_stream

if (problem := environment.problem()) is not None:
    pytest.skip(f"{problem.reason}. {problem.remedy}", allow_module_level=True)

MODEL = "stream-ctc-server"


@contextmanager
def opened(variant: str, context: Context) -> Iterator[Any]:
    with ExitStack() as stack:
        for axis in ("memory", "kernel"):
            context.parts[axis] = stack.enter_context(registry.get(CTC_BELOW[axis]).open(context))
        yield stack.enter_context(registry.get(variant).open(context))


def hear(model: Any, clips: list[np.ndarray]) -> list[np.ndarray]:
    """Log-probabilities of clips that are streamed side by side, as long as they last."""
    states = [model.open() for _ in clips]
    found: list[list[np.ndarray]] = [[] for _ in clips]
    size = model.chunk_samples
    for start in range(0, max(map(len, clips)) + 1, size):
        rows = [row for row, clip in enumerate(clips) if start <= len(clip)]
        chunks, lengths = np.zeros((len(rows), size), np.float32), np.zeros(len(rows), np.int64)
        for place, row in enumerate(rows):
            part = clips[row][start : start + size]
            chunks[place, : len(part)], lengths[place] = part, len(part)
        scores = model.infer_chunk([states[row] for row in rows], AudioBatch(chunks, lengths))
        for place, row in enumerate(rows):
            found[row].append(scores.values[place, : scores.lengths[place]].copy())
    for state in states:
        state.close()
    return [np.concatenate(parts) for parts in found]


@pytest.mark.models
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_streams_hear_what_they_hear_in_process(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    served = MODEL if precision == "fp32" else f"{MODEL}-int8"
    if served not in repository.servable(repository.served()):
        pytest.skip(f"{served} is not built. Build it: amira models build")
    voice = (tone(2.0) / 32_768).astype(np.float32)
    clips = [voice[:20_000], voice[5_000:12_000], voice[: 2_688 * 3]]
    with opened(f"acoustic/ort@{precision}", Context(models_dir(), MODEL, 1, {})) as model:
        expected = hear(model, clips)
    with TritonServer(ServerSpec(repository.served(), (served,))) as server, ExitStack() as stack:
        monkeypatch.setenv(variants.URL_VARIABLE, server.url)
        context = Context(models_dir(), MODEL, 1, {})
        pooled = registry.get("connection/pooled").open(context)
        context.parts["connection"] = stack.enter_context(pooled)
        found = hear(stack.enter_context(opened(f"acoustic/triton@{precision}", context)), clips)
    for here, there in zip(expected, found, strict=True):
        assert here.shape == there.shape
        np.testing.assert_allclose(there, here, atol=2e-3 if precision == "fp32" else 0.3)


@pytest.fixture
def streaming(tmp_path: Path) -> Iterator[tuple[Any, TritonService, TritonServer]]:
    write_small_stream(tmp_path)
    with (
        small_ctc_on_triton(tmp_path, {}) as context,
        TritonServer(ServerSpec(tmp_path / "served", ("small",))) as server,
        TritonService([PooledConnection(server.url, 1 << 20, size=4, warm=1)]) as service,
    ):
        context.parts["connection"] = service
        with open_ctc(context, "small", None) as model:
            yield model, service, server


def chunk(model: Any, count: int = 1) -> AudioBatch:
    return AudioBatch(np.full((count, model.chunk_samples), 0.1, np.float32), np.full(count, model.chunk_samples))


def test_a_stream_that_is_closed_ends_on_the_server(
    streaming: tuple[Any, TritonService, TritonServer],
) -> None:
    model, service, _ = streaming
    states = [model.open() for _ in range(3)]
    model.infer_chunk(states, chunk(model, 3))
    empty = AudioBatch(np.zeros((1, model.chunk_samples), np.float32), np.array([0]))
    assert model.infer_chunk(states[:1], empty).lengths.tolist() == [0]  # nothing came behind its last whole chunk
    for state in states[:2]:
        state.close()
    model.close()  # waits for what was under way
    frame = {"samples": np.zeros((1, 384), np.float32)}
    for state in states[:2]:
        with pytest.raises(ServiceError, match="must specify the START flag"):
            service.infer("small", frame, ("log_probs",), turn=Turn(state.sequence))
    service.infer("small", frame, ("log_probs",), turn=Turn(states[2].sequence, end=True))


def test_streams_of_a_server_that_was_killed_start_anew(
    streaming: tuple[Any, TritonService, TritonServer],
) -> None:
    model, service, server = streaming
    states = [model.open(), model.open()]
    before = model.infer_chunk(states, chunk(model, 2)).values.copy()
    starts = server.starts
    os.kill(server.pid, signal.SIGKILL)
    patience = Deadline.after(30)
    while server.starts == starts or not server.well:
        assert patience.remaining_s
        server.wait_well(0.01)
    with pytest.raises(ServiceError):
        model.infer_chunk(states, chunk(model, 2))
    with pytest.raises(ValueError, match="state 0 is closed"):
        model.infer_chunk(states, chunk(model, 2))
    while True:  # a connection that the dead server left behind may cost one more try
        states = [model.open(), model.open()]
        try:
            again = model.infer_chunk(states, chunk(model, 2)).values
        except ServiceError:
            assert patience.remaining_s
        else:
            break
    np.testing.assert_allclose(again, before, atol=1e-5)
    wait_for(lambda: service.counters()[server.url]["in_use"] == 0, "the ends of the failed streams, told meanwhile")


def test_a_server_of_speech_counts_its_connections(tmp_path: Path) -> None:
    """Partials come from a streaming model on Triton, and the recogniser knows the connections that it opened."""
    write_small_stream(tmp_path)
    with small_ctc_on_triton(tmp_path, {}) as context:
        names = {**CTC_BELOW, "acoustic": "acoustic/triton@fp32", "connection": "connection/pooled"}
        first = PipelineConfig(model=context.model, variants={**names, "decoder": "decoder/greedy"})
        config = StreamingConfig(vad="none", partials="streaming", finals="first-pass", first=first)
        with open_streaming(config, models_dir()) as recognizer:
            passed = recognizer.partials.first_pass
            assert passed is not None
            segment = passed.open()
            passed.push([segment], [bytes(2 * passed.chunk_samples)])
            passed.finish(segment)
            [counted] = [numbers for one in recognizer.connections for numbers in one.counters().values()]
            assert counted["leases"] >= 4
            assert counted["opened"] <= 2
        without = StreamingConfig(
            vad="none",
            partials="streaming",
            finals="first-pass",
            first=first.model_copy(
                update={"variants": {key: value for key, value in first.variants.items() if key != "connection"}}
            ),
        )
        with pytest.raises(AmiraError, match="no variant for: connection"), open_streaming(without, models_dir()):
            pass


def test_chunks_are_only_for_models_that_have_some(tmp_path: Path) -> None:
    write_small_ctc(tmp_path)
    with (
        pytest.raises(AmiraError, match="chunk_frames is for streaming models"),
        open_ctc(Context(models_dir(), str(tmp_path), 1, {"connection": None}), "small", 7),
    ):
        pass
