"""The real server, its repository, and the connections to it."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest

from pipelines import registry
from pipelines.assemble import open_pipeline
from pipelines.config import PipelineConfig
from pipelines.errors import AmiraError
from pipelines.paths import models_dir
from pipelines.resilience import Deadline, ServiceError
from pipelines.triton import environment, repository
from pipelines.triton.connections.asynchronous import AsyncConnection
from pipelines.triton.connections.base import Call, Connection
from pipelines.triton.connections.http import HttpConnection
from pipelines.triton.connections.shared import SharedConnection
from pipelines.triton.connections.stream import StreamConnection
from pipelines.triton.connections.unary import FreshConnection, PooledConnection
from pipelines.triton.process import SHARED_MEMORY, shared_memory_prefix
from pipelines.triton.server import ServerSpec, TritonServer
from tests.fakes.tcp_proxy import TcpProxy

if (problem := environment.problem()) is not None:
    pytest.skip(f"{problem.reason}. {problem.remedy}", allow_module_level=True)

LIMIT = 64 << 20
CALLS = 12


@pytest.fixture(scope="module")
def server() -> Iterator[TritonServer]:
    with TritonServer(ServerSpec(repository.served(), ("preprocessor", "moonshine-encoder"))) as it:
        yield it


def pcm(first: int = 0) -> Call:
    values = np.arange(first, first + 160, dtype=np.int16)[None]
    return Call("preprocessor", {"pcm": values}, ("waveform",), Deadline.after(10))


def ask(connection: Connection, first: int = 0) -> None:
    call = pcm(first)
    [waveform] = connection.infer(call).outputs.values()
    np.testing.assert_array_equal(waveform, call.inputs["pcm"] / np.float32(32_768))


def connections(url: str) -> dict[str, Connection]:
    return {
        "fresh": FreshConnection(url, LIMIT),
        "pooled": PooledConnection(url, LIMIT, size=3, warm=2),
        "aio": AsyncConnection(url, LIMIT),
        "stream": StreamConnection(url, LIMIT, size=3, warm=2),
        "shm": SharedConnection(url, LIMIT, size=3, warm=2, region_bytes=1 << 20),
        "http": HttpConnection(url, LIMIT, size=3, warm=2),
    }


@pytest.mark.parametrize(
    ("name", "opens"), [("fresh", CALLS), ("pooled", 2), ("aio", 1), ("stream", 2), ("shm", 2), ("http", 2)]
)
def test_each_connection_opens_as_many_tcp_connections_as_it_says(server: TritonServer, name: str, opens: int) -> None:
    with TcpProxy(server.http_url if name in ("http", "shm") else server.url) as proxy:
        with connections(proxy.url)[name] as connection:
            for index in range(CALLS):
                ask(connection, index)
            assert proxy.accepted == opens
            assert connection.counters().get("opened", opens) == opens
        wait_until(lambda: proxy.open == 0)


def wait_until(true: object, timeout_s: float = 5.0) -> None:
    deadline = Deadline.after(timeout_s)
    while not true():  # type: ignore[operator]
        assert deadline.remaining_s, "it did not come true"
        threading.Event().wait(0.005)


def test_many_callers_share_a_bounded_pool(server: TritonServer) -> None:
    with TcpProxy(server.url) as proxy, connections(proxy.url)["pooled"] as connection:
        threads = [threading.Thread(target=lambda n=n: [ask(connection, n + k) for k in range(5)]) for n in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert proxy.accepted <= 3
        counters = connection.counters()
        assert (counters["leases"], counters["in_use"]) == (80, 0)
        assert counters["opened"] == proxy.accepted
        assert counters["waited"] > 0


def test_a_chain_of_calls_keeps_its_connection_to_itself(server: TritonServer) -> None:
    with PooledConnection(server.url, LIMIT, size=1, warm=1) as connection:
        with connection.lease(Deadline.after(5)) as channel:
            first, second = channel.infer(pcm(1)), channel.infer(pcm(2))
            with pytest.raises(ServiceError, match="all 1 connections of the pool were in use"):
                connection.infer(Call("preprocessor", pcm().inputs, ("waveform",), Deadline.after(0.05)))
        assert first.outputs["waveform"][0, 0] < second.outputs["waveform"][0, 0]
        ask(connection)
        assert connection.counters()["timed_out"] == 1


def test_shared_memory_goes_with_its_connection(server: TritonServer) -> None:
    def regions() -> list[str]:
        return [path.name for path in SHARED_MEMORY.glob(f"{shared_memory_prefix('shm')}*")]

    before = regions()
    with connections(server.http_url)["shm"] as connection:
        ask(connection)
        assert len(regions()) == len(before) + 4
        with pytest.raises(ValueError, match="do not fit the shared memory"):
            connection.infer(
                Call("preprocessor", {"pcm": np.zeros((1, 1 << 20), np.int16)}, ("waveform",), Deadline.after(5))
            )
        with pytest.raises(ServiceError, match="shared memory"):  # the answer is twice as long as the question
            connection.infer(
                Call("preprocessor", {"pcm": np.zeros((1, 400_000), np.int16)}, ("waveform",), Deadline.after(5))
            )
        ask(connection)
    assert regions() == before


@pytest.mark.models
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_answers_are_those_of_the_same_graphs_in_process(precision: str) -> None:
    rng = np.random.default_rng(0)
    clip = (rng.standard_normal(24_000) * 3_000).astype("<i2").tobytes()
    texts = []
    for where, more in (("ort", {}), ("triton", {"connection": "pooled"})):
        variants = {"acoustic": f"{where}@{precision}", "decoder": "aed-greedy", "kernel": "scalar", "memory": "pooled"}
        config = PipelineConfig(variants={**variants, **more})
        with open_pipeline(config, models_dir()) as pipeline:
            pipeline.warm_up()
            texts.append(pipeline.transcribe(clip).hypotheses[0].tokens)
    assert texts[0] == texts[1]


def test_a_pipeline_says_that_it_lacks_its_connection_or_has_one_that_nobody_uses() -> None:
    variants = {"acoustic": "triton@fp32", "decoder": "aed-greedy", "kernel": "scalar", "memory": "pooled"}
    with (
        pytest.raises(AmiraError, match="no variant for: connection"),
        open_pipeline(PipelineConfig(variants=variants), models_dir()),
    ):
        pass
    variants |= {"acoustic": "ort@fp32", "connection": "pooled"}
    with (
        pytest.raises(AmiraError, match="does not use: connection"),
        open_pipeline(PipelineConfig(variants=variants), models_dir()),
    ):
        pass


def test_every_connection_can_be_an_axis_of_a_plan() -> None:
    for variant_id in registry.ids("connection"):
        assert registry.get(variant_id).available() is None
