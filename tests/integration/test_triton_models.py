"""The model repository on the real server: ensemble, BLS, dynamic batching, sequences."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pipelines.assemble import open_pipeline
from pipelines.audio.read import read_audio
from pipelines.config import PipelineConfig
from pipelines.paths import corpora_dir, models_dir
from pipelines.resilience import Deadline, ServiceError
from pipelines.triton import environment, repository
from pipelines.triton.connections import wire
from pipelines.triton.connections.base import Turn
from pipelines.triton.connections.unary import PooledConnection
from pipelines.triton.server import ServerSpec, TritonServer
from pipelines.triton.service import TritonService

if (problem := environment.problem()) is not None:
    pytest.skip(f"{problem.reason}. {problem.remedy}", allow_module_level=True)

_STREAMS = """\
backend: "onnxruntime"
max_batch_size: 8
input [ { name: "x" data_type: TYPE_FP32 dims: [ 2 ] } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ 2 ] } ]
instance_group [ { kind: KIND_CPU count: 1 } ]
"""


def running_sum(folder: Path) -> Path:
    """A model with the repository's own sequence batching: y is the sum of its sequence so far, times its length."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    (folder / "sums" / "1").mkdir(parents=True)
    committed = (repository.served() / "stream-ctc-server" / "config.pbtxt").read_text("utf-8")
    batching = committed[committed.index("sequence_batching") : committed.index("parameters")]
    state = 'parameters { key: "state" value: { string_value: "total_out=total count_out=count" } }\n'
    (folder / "sums" / "config.pbtxt").write_text(_STREAMS + batching + state, "utf-8")
    nodes = [
        helper.make_node("Add", ["x", "total"], ["total_out"]),
        helper.make_node("Add", ["count", "one"], ["count_out"]),
        helper.make_node("Cast", ["count_out"], ["times"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["times", "axis"], ["column"]),
        helper.make_node("Mul", ["total_out", "column"], ["y"]),
    ]

    def info(name: str, kind: int, *shape: object) -> object:
        return helper.make_tensor_value_info(name, kind, ["batch", *shape])

    floats, whole = TensorProto.FLOAT, TensorProto.INT64
    graph = helper.make_graph(
        nodes,
        "sums",
        [info("x", floats, 2), info("total", floats, 2), info("count", whole)],
        [info("y", floats, 2), info("total_out", floats, 2), info("count_out", whole)],
        [numpy_helper.from_array(np.array(value, np.int64), name) for name, value in (("one", 1), ("axis", [1]))],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "sums" / "1" / "model.onnx")
    return folder


@pytest.fixture(scope="module")
def streams(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonService]:
    folder = running_sum(tmp_path_factory.mktemp("streams"))
    with TritonServer(ServerSpec(folder, ("sums",))) as server:
        connection = PooledConnection(server.url, 1 << 20, size=8, warm=1)
        with TritonService([connection], server=server) as service:
            yield service


def push(service: TritonService, turn: Turn, value: float) -> np.ndarray:
    [y] = service.infer("sums", {"x": np.array([[value, 1]], np.float32)}, ("y",), turn=turn).outputs.values()
    return y[0]


def test_each_sequence_has_its_own_state(streams: TritonService) -> None:
    rng = np.random.default_rng(0)
    values = rng.standard_normal((5, 6)).astype(np.float32)
    got = np.zeros_like(values)

    def stream(index: int) -> None:
        for step, value in enumerate(values[index]):
            turn = Turn(index + 1, start=step == 0, end=step == 5)
            got[index, step] = push(streams, turn, value)[0]

    threads = [threading.Thread(target=stream, args=(index,)) for index in range(len(values))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_allclose(got, values.cumsum(axis=1) * np.arange(1, 7), rtol=1e-5)


def test_a_sequence_starts_anew_and_must_start(streams: TritonService) -> None:
    assert push(streams, Turn(77, start=True), 3).tolist() == [3, 1]
    assert push(streams, Turn(77), 4).tolist() == [14, 4]
    assert push(streams, Turn(77, start=True), 1).tolist() == [1, 1]
    assert push(streams, Turn(77, end=True), 1).tolist() == [4, 4]
    with pytest.raises(ServiceError, match="must specify the START flag on the first request") as told:
        push(streams, Turn(77), 1)
    assert not told.value.retryable


@pytest.fixture(scope="module")
def served() -> Iterator[TritonService]:
    models = ["asr-ensemble", "preprocessor", "moonshine-ctc", "ctc-greedy"]
    models += ["moonshine-aed", "moonshine-encoder", "moonshine-cross", "moonshine-step"]
    if missing := set(models) - set(repository.servable(repository.served())):
        pytest.skip(f"not built: {', '.join(missing)}. Build them: amira models build")
    with TritonServer(ServerSpec(repository.served(), tuple(models))) as server:
        connection = PooledConnection(server.url, 64 << 20, size=8, warm=1)
        with TritonService([connection], server=server) as service:
            yield service


@pytest.fixture(scope="module")
def clip() -> np.ndarray:
    path = next(iter(sorted((corpora_dir() / "starter").rglob("*.wav"))), None)
    if path is None:
        pytest.skip("the starter corpus is not built. Build it: amira corpus build")
    return np.frombuffer(read_audio(path).pcm16, np.int16)[: 16_000 * 4]


def in_process(model: str, decoder: str, clip: np.ndarray) -> str:
    variants = {"acoustic": "ort@fp32", "decoder": decoder, "kernel": "scalar", "memory": "pooled"}
    with open_pipeline(PipelineConfig(model=model, variants=variants), models_dir()) as pipeline:
        return pipeline.transcribe(clip.astype("<i2").tobytes()).text


@pytest.mark.models
def test_the_ensemble_says_what_the_pipeline_says(served: TritonService, clip: np.ndarray) -> None:
    [text] = served.infer("asr-ensemble", {"pcm": clip[None]}, ("text",)).outputs.values()
    assert text.item().decode() == in_process("moonshine-ctc", "greedy", clip)
    assert len(text.item()) > 10


@pytest.mark.models
def test_the_scripted_pipeline_says_what_the_pipeline_says(served: TritonService, clip: np.ndarray) -> None:
    waveform = clip / np.float32(32_768)
    reply = served.infer("moonshine-aed", {"waveform": waveform}, ("text", "tokens"))
    assert reply.outputs["text"].item().decode() == in_process("moonshine-aed", "aed-greedy", clip)
    assert reply.outputs["tokens"].size > 3


@pytest.mark.models
def test_clips_of_one_length_that_wait_together_share_a_run(served: TritonService, clip: np.ndarray) -> None:
    second = clip[:16_000] / np.float32(32_768)
    inputs = {"samples": second[None], "lengths": np.array([[16_000]])}
    alone = served.infer("moonshine-ctc", inputs, ("log_probs",)).outputs["log_probs"]
    client = wire.open_client(served.connections[0].url, 0)
    [before] = client.get_inference_statistics("moonshine-ctc").model_stats
    answers: list[np.ndarray] = []

    def ask() -> None:
        answers.append(served.infer("moonshine-ctc", inputs, ("log_probs",)).outputs["log_probs"])

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    patience = Deadline.after(10)
    while True:  # the server counts a call a little after it has answered
        [after] = client.get_inference_statistics("moonshine-ctc").model_stats
        inferred = after.inference_count - before.inference_count
        if inferred >= len(threads):
            break
        assert patience.remaining_s
    client.close()
    assert after.execution_count - before.execution_count < inferred
    for answer in answers:
        np.testing.assert_allclose(answer, alone, atol=2e-3)
