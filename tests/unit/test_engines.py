"""Engines: what is refused and why; with TensorRT-RTX, a small graph is compiled for a GPU that is not here."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path

import onnx
import pytest
from typer.testing import CliRunner

from harness.cli import cli
from harness.gpu import lanes
from pipelines.engines import api, build
from pipelines.errors import AmiraError
from tests.small_ctc import write_small_ctc, write_small_stream

rtx = pytest.mark.skipif(
    find_spec("tensorrt_rtx") is None, reason="TensorRT-RTX is not installed: pip install 'amira-asr[rtx]'"
)
no_gpu = pytest.mark.skipif(api.has_gpu(), reason="this machine has a GPU")
SM89 = build.Options("sm89")


def test_shapes_of_a_profile() -> None:
    profile = build.Profile("p", (1, 4, 16), (100, 200, 300))
    assert profile.shapes((-1, -1)) == ((1, 100), (4, 200), (16, 300))
    assert profile.shapes((-1, 2, 84, 416)) == ((1, 2, 84, 416), (4, 2, 84, 416), (16, 2, 84, 416))
    assert build.profile_of(None) is build.UTTERANCES
    assert build.profile_of(2_688).samples == (384, 2_688, 2_688)


def test_an_engine_is_found_again_by_all_that_it_depends_on(tmp_path: Path) -> None:
    class Module:
        __version__ = "11.0.0"

    file = tmp_path / "model.onnx"
    file.write_bytes(b"1")
    found, other = api.Api("tensorrt", Module), api.Api("tensorrt_rtx", Module)
    keys = {
        build.key(file, found, "H200", build.UTTERANCES, SM89),
        build.key(file, other, "H200", build.UTTERANCES, SM89),
        build.key(file, found, "H100", build.UTTERANCES, SM89),
        build.key(file, found, "H200", build.chunks(384), SM89),
        build.key(file, found, "H200", build.UTTERANCES, build.Options("sm80")),
    }
    file.write_bytes(b"2")
    keys.add(build.key(file, found, "H200", build.UTTERANCES, SM89))
    assert len(keys) == 6


@no_gpu
def test_without_a_gpu_nothing_is_measured_and_the_cpu_lanes_are_unharmed(tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["gpu"])
    assert "no NVIDIA GPU" in str(done.exception)
    assert done.exception.exit_code == 4  # type: ignore[union-attr]
    folder = write_small_stream(tmp_path)
    found = lanes(tmp_path, str(folder), ("tensorrt@fp16", "torch-cuda@bf16", "ort@fp32"), 10, lambda text: None)
    assert [found[name]["status"] for name in found] == ["unavailable", "unavailable", "ok"]
    assert "no NVIDIA GPU" in found["tensorrt@fp16"]["reason"]
    rows = found["ort@fp32"]["rows"]
    assert [row["batch"] for row in rows[:2]] == [1, 2]
    assert all(len(row["times_s"]) == 10 and row["device_s"] is None for row in rows)


@no_gpu
def test_an_engine_for_a_gpu_that_is_not_there(tmp_path: Path) -> None:
    if find_spec("tensorrt_rtx") is None:
        with pytest.raises(AmiraError, match=r"pip install 'amira-asr\[rtx\]'"):
            api.load("tensorrt_rtx")
        return
    done = CliRunner().invoke(cli, ["engines", "build", str(write_small_ctc(tmp_path)), "--forms", "fp32", "--rtx"])
    assert "--targets sm80" in str(done.exception)


@rtx
def test_a_small_model_is_compiled_once_for_each_gpu(tmp_path: Path) -> None:
    file = write_small_ctc(tmp_path) / "model.onnx"
    found = api.load("tensorrt_rtx")
    assert {"sm80", "sm89", "sm120"} <= set(found.builds_for)
    said: list[str] = []
    profile = build.Profile("short", (1, 1, 2), (1_600, 1_600, 3_200))
    for target in ("sm89", "sm89", "sm120"):
        build.engine(file, found, "no GPU", profile, build.Options(target), tmp_path / "engines", said.append)
    assert [text.split(": ")[1].split(" ")[0] for text in said] == ["building", "up", "building"]
    assert len(list((tmp_path / "engines").glob("*.engine"))) == 2
    with pytest.raises(AmiraError, match="sm90"):
        build.build(file, found, profile, build.Options("sm90"), tmp_path / "t")


@rtx
def test_an_operator_that_is_not_supported_is_named(tmp_path: Path) -> None:
    file = write_small_ctc(tmp_path) / "model.onnx"
    model = onnx.load(file)
    model.graph.node[0].op_type = "NoSuchOperator"
    onnx.save(model, file)
    with pytest.raises(AmiraError, match=r"NoSuchOperator.*acoustic/ort@fp32"):
        build.build(file, api.load("tensorrt_rtx"), build.UTTERANCES, SM89, tmp_path / "t")
    shutil.copy(__file__, file)
    with pytest.raises(AmiraError, match=r"does not take model\.onnx"):
        build.build(file, api.load("tensorrt_rtx"), build.UTTERANCES, SM89, tmp_path / "t")
    with pytest.raises(AmiraError, match="amira models build"):
        build.engine(tmp_path / "none.onnx", api.load("tensorrt_rtx"), "", build.UTTERANCES, SM89, tmp_path, print)


def test_a_tensorrt_that_is_too_old_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Old:
        __version__ = "8.6.1"

    monkeypatch.setattr(api, "import_module", lambda name: Old)
    with pytest.raises(AmiraError, match="older than 10"):
        api.load()
