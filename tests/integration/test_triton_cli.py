"""`amira triton` as its user has it, and what it says when something is wrong."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from harness.cli import cli
from pipelines.errors import AmiraError
from pipelines.paths import model_repo_dir
from pipelines.resilience import Deadline, ServiceError
from pipelines.triton import check, daemon, environment, repository
from pipelines.triton.connections.base import Call
from pipelines.triton.connections.unary import FreshConnection
from pipelines.triton.process import Ports
from pipelines.triton.server import ServerSpec, TritonServer
from tests.fakes import triton_models

if (problem := environment.problem()) is not None:
    pytest.skip(f"{problem.reason}. {problem.remedy}", allow_module_level=True)


def amira(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["triton", *arguments])


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return triton_models.write(tmp_path / "models")


@pytest.fixture
def _no_daemon() -> Iterator[None]:
    if daemon.running() is not None:
        pytest.skip("a Triton runs in the background here, and these tests would stop it")
    yield
    daemon.stop()


@pytest.mark.usefixtures("_no_daemon")
def test_a_background_server_starts_is_seen_and_stops(models: Path) -> None:
    ports = ("--grpc-port", "0", "--http-port", "0", "--metrics-port", "0")
    started = amira("start", "--repository", str(models), "--model", "echo", *ports, "--json")
    assert started.exit_code == 0, started.output
    state = json.loads(started.stdout)
    seen = json.loads(amira("status", "--json").stdout)
    assert seen["well"]
    assert {item["name"]: item["state"] for item in seen["models"]}["echo"] == "READY"
    assert "a Triton runs already" in str(amira("start", "--repository", str(models)).exception)
    os.kill(state["supervisor"], signal.SIGSTOP)  # a status does not depend on the supervisor
    assert amira("status").exit_code == 0
    os.kill(state["supervisor"], signal.SIGCONT)
    assert "Started GRPCInferenceService" in amira("logs", "--lines", "500").stdout
    assert json.loads(amira("stop", "--json").stdout) == {"stopped": state["url"]}
    assert daemon.running() is None
    assert json.loads(amira("stop", "--json").stdout) == {"stopped": None}
    assert "no Triton runs" in str(amira("status").exception)
    assert "Started GRPCInferenceService" in amira("logs", "--lines", "500").stdout


@pytest.mark.models
def test_our_own_repository_fits_its_models() -> None:
    found = json.loads(amira("check", "--json").stdout)
    assert [item for item in found if item["problem"]] == []
    assert {"preprocessor", "moonshine-encoder"} <= {item["model"] for item in found if not item["unchecked"]}


@pytest.mark.models
@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ('name: "pcm"', 'name: "audio"', "input 'audio' is not in the model, which has: pcm"),
        ("TYPE_INT16", "TYPE_INT8", "'pcm' is TYPE_INT8 here and TYPE_INT16 in the model"),
        ("dims: [ -1 ] }\n]\noutput", "dims: [ -1, 2 ] }\n]\noutput", "'pcm' has the sizes [-1, 2] here"),
        ("max_batch_size: 16", "max_batch: 16", "3:1"),
        ("    batch_size: 1\n", "", "warm-up request 'one second' has no batch_size"),
        ('key: "pcm"', 'key: "audio"', "the model's inputs differ in: audio, pcm"),
        ("dims: [ 16000 ]", "dims: [ -1 ]", "gives 'pcm' as TYPE_INT16 [-1], and the input is TYPE_INT16 [-1]"),
        ('backend: "onnxruntime"', 'name: "other"', "name is 'other', the folder's is 'preprocessor'"),
    ],
)
def test_a_wrong_configuration_is_named_with_its_place(tmp_path: Path, before: str, after: str, message: str) -> None:
    folder = tmp_path / "preprocessor"
    shutil.copytree(repository.served() / "preprocessor", folder)
    text = (folder / "config.pbtxt").read_text("utf-8")
    assert before in text
    (folder / "config.pbtxt").write_text(text.replace(before, after, 1), "utf-8")
    [finding] = check.check(tmp_path)
    assert message in finding.problem
    assert amira("check", "--repository", str(tmp_path)).exit_code == 2


def test_a_server_says_why_it_does_not_start(models: Path, tmp_path: Path) -> None:
    with pytest.raises(AmiraError, match=r"'ech' does not exist; have: crowded, echo.*Did you mean 'echo'"):
        TritonServer(ServerSpec(models, ("ech",))).__enter__()
    (tmp_path / "empty").mkdir()
    with pytest.raises(AmiraError, match=r"has no models: no folder in it has a config\.pbtxt"):
        TritonServer(ServerSpec(tmp_path / "empty")).__enter__()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(AmiraError, match=f"the gRPC port {port} cannot be used: Address already in use"):
            TritonServer(ServerSpec(models, ports=Ports(port, 0, 0))).__enter__()
    (models / "echo" / "config.pbtxt").write_text("backend: python\n", "utf-8")
    with pytest.raises(AmiraError, match=r"config\.pbtxt is not a Triton configuration: 1:10"):
        TritonServer(ServerSpec(models, ("echo",))).__enter__()
    (models / "failing" / "1" / "model.py").write_text("raise ImportError('no such thing')\n", "utf-8")
    with pytest.raises(AmiraError, match=r"Triton did not start .*no such thing"):
        TritonServer(ServerSpec(models, ("failing",))).__enter__()


def wait_for_listener(port: int, timeout_s: float = 10.0) -> None:
    end = monotonic() + timeout_s
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert monotonic() < end, f"nothing listens on port {port}"


def test_an_endpoint_that_speaks_something_else_is_said_to(models: Path) -> None:
    call = Call("echo", {"x": np.ones(1, np.float32)}, ("y",), Deadline.after(5))
    with TritonServer(ServerSpec(models)) as server:
        http = f"127.0.0.1:{server.ports.http}"
        wait_for_listener(server.ports.http)  # the server counts as ready as soon as gRPC is
        with FreshConnection(http, 1 << 20) as connection, pytest.raises(ServiceError, match="gRPC port"):
            connection.infer(call)


def test_a_repository_elsewhere_becomes_a_copy(tmp_path: Path) -> None:
    said: list[str] = []
    filled = repository.fill(model_repo_dir(), tmp_path / "copy", tmp_path / "no models", said.append)
    assert filled == ["preprocessor"]
    assert any("moonshine-encoder: left out, moonshine-aed has no encoder.fp32.onnx yet" in line for line in said)
    assert repository.servable(tmp_path / "copy") == ["preprocessor"]


def test_an_ensemble_that_takes_more_than_its_parts_is_named(tmp_path: Path) -> None:
    for path in repository.served().glob("*/config.pbtxt"):
        (tmp_path / path.parent.name).mkdir()
        shutil.copy2(path, tmp_path / path.parent.name)
    path = tmp_path / "asr-ensemble" / "config.pbtxt"
    [fine] = check.check(tmp_path, ["asr-ensemble"])
    assert not fine.problem
    path.write_text(re.sub(r"max_batch_size: \d+", "max_batch_size: 99", path.read_text("utf-8")), "utf-8")
    [finding] = check.check(tmp_path, ["asr-ensemble"])
    assert "takes batches of 99, and its step 'preprocessor' only of 16" in finding.problem


@pytest.mark.models
@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("dims: [ 511 ]", "dims: [ 510 ]", r"'state_samples' is TYPE_FP32 \[510\] here and TYPE_FP32 \[511\]"),
        ("zero_data: true", "data_file: 'noise'", "'state_samples' needs an initial_state of zeros"),
    ],
)
def test_a_state_that_does_not_fit_is_named(tmp_path: Path, before: str, after: str, message: str) -> None:
    if "stream-ctc-server" not in repository.servable(repository.served()):
        pytest.skip("stream-ctc-server is not built. Build it: amira models build")
    folder = tmp_path / "stream-ctc-server"
    shutil.copytree(repository.served() / folder.name, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    path = folder / "configs" / "gpu.pbtxt"
    text = path.read_text("utf-8")
    assert before in text
    path.write_text(text.replace(before, after, 1), "utf-8")
    [whole, finding] = check.check(tmp_path)
    assert not whole.problem
    assert re.search(message, finding.problem)
