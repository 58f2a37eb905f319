"""Models of one's own: small ones with just the interfaces that NeMo, WeNet and icefall export, and broken ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import soundfile
from onnx import TensorProto, helper, numpy_helper
from scipy.special import log_softmax
from typer.testing import CliRunner

from harness.cli import cli
from harness.fingerprint import fingerprint
from harness.plan import parse_plan
from pipelines.assemble import open_pipeline
from pipelines.config import PipelineConfig
from pipelines.contracts import AudioBatch, Float32
from pipelines.errors import AmiraError
from pipelines.models.locate import check_model
from pipelines.paths import models_dir
from tests.own_models import MELS, PIECES, kaldi_features, nemo_features, opened, voice, write_files
from tests.small_ctc import write_small_ctc, write_small_stream

LABELS, SUBSAMPLING = 6, 4
PROJECTION = (np.random.default_rng(0).standard_normal((MELS, LABELS)) * 0.2).astype(np.float32)
INT64_MAX = np.iinfo(np.int64).max


def network(
    x: str,
    output: str,
    lengths: str | None,
    out_lengths: str | None,
    *,
    channels_first: bool,
    normalised: bool = True,
    lengths_kind: int = TensorProto.INT64,
) -> onnx.ModelProto:
    """Every fourth feature frame through one projection, in the interface of some toolkit."""
    node, info = helper.make_node, helper.make_tensor_value_info
    nodes, frames_first = [], x
    if channels_first:
        nodes.append(node("Transpose", [x], ["frames_first"], perm=[0, 2, 1]))
        frames_first = "frames_first"
    nodes += [
        node("Slice", [frames_first, "zero", "end", "one", "four"], ["fewer"]),
        node("MatMul", ["fewer", "projection"], ["logits" if normalised else output]),
    ]
    if normalised:
        nodes.append(node("LogSoftmax", ["logits"], [output], axis=-1))
    shape: list[str | int] = ["N", MELS, "T"] if channels_first else ["N", "T", MELS]
    inputs = [info(x, TensorProto.FLOAT, shape)]
    outputs = [info(output, TensorProto.FLOAT, ["N", "U", LABELS])]
    if lengths:
        inputs.append(info(lengths, lengths_kind, ["N"]))
    if lengths and out_lengths:
        nodes += [
            node("Cast", [lengths], ["wide"], to=TensorProto.INT64),
            node("Add", ["wide", "three"], ["more"]),
            node("Div", ["more", "by"], ["wide_out"]),
            node("Cast", ["wide_out"], [out_lengths], to=lengths_kind),
        ]
        outputs.append(info(out_lengths, lengths_kind, ["N"]))
    elif lengths:
        nodes.append(node("Identity", [lengths], ["unused"]))
    arrays = {
        "projection": PROJECTION,
        "three": np.array(3, np.int64),
        "by": np.array(4, np.int64),
        **{name: np.array([value], np.int64) for name, value in [("zero", 0), ("end", INT64_MAX), ("one", 1)]},
        "four": np.array([SUBSAMPLING], np.int64),
    }
    constants = [numpy_helper.from_array(value, name) for name, value in arrays.items()]
    graph = helper.make_graph(nodes, "toy", inputs, outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)


def write_model(folder: Path, model: onnx.ModelProto, sections: str, tokens: list[str] = PIECES) -> Path:
    return write_files(folder, sections, {"model.onnx": model}, tokens)


ICEFALL = """
[features]
convention = "kaldi"
low_hz = 20
high_hz = -400
[input]
name = "x"
lengths = "x_lens"
[output]
name = "log_probs"
lengths = "log_probs_len"
shift_samples = 640
"""
WENET = """
[features]
convention = "kaldi"
scale = 32768
low_hz = 20
[input]
name = "speech"
lengths = "speech_lengths"
[output]
name = "logits"
shift_samples = 640
kind = "logits"
"""
WENET_GPU = WENET.replace('"logits"\n', '"ctc_log_probs"\nlengths = "encoder_out_lens"\n', 1).replace(
    'kind = "logits"\n', ""
)
NEMO = """
[features]
convention = "nemo"
per_feature = true
channels_first = true
[vocabulary]
blank = 5
[input]
name = "audio_signal"
lengths = "length"
[output]
name = "logprobs"
shift_samples = 640
"""


def icefall(folder: Path) -> Path:
    return write_model(folder, network("x", "log_probs", "x_lens", "log_probs_len", channels_first=False), ICEFALL)


def wenet(folder: Path) -> Path:
    model = network("speech", "logits", "speech_lengths", None, channels_first=False, normalised=False)
    return write_model(folder, model, WENET)


def wenet_gpu(folder: Path) -> Path:
    """As `export_onnx_gpu.py` has it, in int32."""
    names = ("speech", "ctc_log_probs", "speech_lengths", "encoder_out_lens")
    return write_model(folder, network(*names, channels_first=False, lengths_kind=TensorProto.INT32), WENET_GPU)


def nemo(folder: Path) -> Path:
    model = network("audio_signal", "logprobs", "length", None, channels_first=True)
    return write_model(folder, model, NEMO, ["a", "b", "c", "d", "\u2581", "<blk>"])


EXPECTED: dict[str, tuple[Callable[[Path], Path], Callable[[Float32], Float32]]] = {
    "icefall": (icefall, lambda samples: kaldi_features(samples, scale=1, high_hz=-400)),
    "wenet": (wenet, lambda samples: kaldi_features(samples, scale=32768, high_hz=8_000)),
    "wenet, both with lengths": (wenet_gpu, lambda samples: kaldi_features(samples, scale=32768, high_hz=8_000)),
    "nemo": (nemo, nemo_features),
}


@pytest.mark.parametrize("toolkit", EXPECTED)
def test_a_toolkits_export_loads_without_code(toolkit: str, tmp_path: Path) -> None:
    write, features = EXPECTED[toolkit]
    clips = [voice(1.0, 0), voice(0.6, 1)]
    batch = np.zeros((2, 16_000), np.float32)
    for row, clip in enumerate(clips):
        batch[row, : len(clip)] = clip
    with opened(write(tmp_path / "model")) as model:
        assert model.frame_shift_s == pytest.approx(0.04)
        model.warm_up()
        found = model.infer(AudioBatch(batch, np.array([len(clip) for clip in clips])))
    for row, clip in enumerate(clips):
        logits = features(clip)[::SUBSAMPLING] @ PROJECTION
        expected = log_softmax(logits, axis=1)
        assert found.lengths[row] == len(expected)
        np.testing.assert_allclose(found.values[row, : len(expected)], expected, atol=2e-2)


@pytest.mark.parametrize("toolkit", EXPECTED)
def test_it_runs_as_a_pipeline(toolkit: str, tmp_path: Path) -> None:
    folder = EXPECTED[toolkit][0](tmp_path / "model")
    variants = {"acoustic": "ort@fp32", "decoder": "greedy", "kernel": "numpy", "memory": "pooled"}
    with open_pipeline(PipelineConfig(model=str(folder), variants=variants), models_dir()) as pipeline:
        pcm = (voice(1.0, 2) * 32767).astype("<i2").tobytes()
        transcript = pipeline.transcribe(pcm)
        assert set(transcript.text) <= set("abcd ")
        assert transcript.hypotheses[0].tokens
        assert pipeline.transcribe(pcm[:200]).text == ""


def replaced(write: Callable[[Path], Path], folder: Path, old: str, new: str) -> Path:
    made = write(folder)
    card = made / "model-card.toml"
    text = card.read_text("utf-8")
    assert old in text
    card.write_text(text.replace(old, new), "utf-8")
    return made


@pytest.mark.parametrize(
    ("write", "old", "new", "message"),
    [
        (icefall, 'name = "x"', 'name = "xs"', "contradict each other: input 'xs' does not exist; have: x, x_lens"),
        (icefall, '"log_probs_len"', '"lens"', "output 'lens' does not exist; have: log_probs, log_probs_len"),
        (icefall, 'lengths = "x_lens"', "", "the model also wants x_lens"),
        (icefall, 'convention = "kaldi"', 'convention = "kaldi"\nmels = 40', "with 80 on axis 2.* card has 40 mel"),
        (nemo, "channels_first = true", "channels_first = true\nmels = 64", "with 80 on axis 1.* card has 64 mel"),
        (icefall, "high_hz = -400", "high_hz = 10", "mel edges must satisfy"),
        (icefall, "shift_samples = 640", "shift_samples = 0", "'output.shift_samples': .*greater than or equal to 1"),
        (icefall, "[features]", "[features]\nwindow = 3", "'features.window': Extra inputs are not permitted"),
        (nemo, "blank = 5", "blank = 6", "blank 6 is no label of .*ids 0 to 5"),
        (write_small_ctc, "[output]", '[features]\nconvention = "kaldi"\n[output]', "with 3 axes"),
        (write_small_stream, '"next_samples"', '"log_probs"', r"state 'state_samples' is .* and becomes 'log_probs'"),
        (write_small_stream, 'input = "state_samples"', 'input = "memory"', "input 'memory' does not exist"),
        (write_small_stream, '"next_samples"', '"next_samples"\nbatch_axis = 1', "a fixed size on every axis"),
    ],
)  # fmt: skip
def test_cards_that_contradict_their_file(
    write: Callable[[Path], Path], old: str, new: str, message: str, tmp_path: Path
) -> None:
    folder = replaced(write, tmp_path / "model", old, new)
    with pytest.raises(AmiraError, match=message), opened(folder):
        pass


@pytest.mark.parametrize("tokens", [PIECES[:-1], [*PIECES, "e"]])
def test_a_vocabulary_of_the_wrong_size(tokens: list[str], tmp_path: Path) -> None:
    folder = icefall(tmp_path / "model")
    (folder / "tokens.txt").write_text("\n".join(tokens), "utf-8")
    with (
        pytest.raises(AmiraError, match=rf"'log_probs' has 6 labels, the vocabulary tokens.txt has {len(tokens)}"),
        opened(folder),
    ):
        pass


def test_a_vocabulary_that_is_not_there(tmp_path: Path) -> None:
    folder = icefall(tmp_path / "model")
    (folder / "tokens.txt").unlink()
    with pytest.raises(AmiraError, match=r"cannot read the vocabulary .*tokens\.txt"), opened(folder):
        pass


def test_a_model_by_its_path_on_the_command_line(tmp_path: Path) -> None:
    folder = icefall(tmp_path / "model")
    clip = tmp_path / "clip.wav"
    soundfile.write(clip, voice(1.0, 3), 16_000)
    shown = CliRunner().invoke(cli, ["models", "inspect", str(folder), "--json"])
    found = json.loads(shown.stdout)
    assert found["forms"]["fp32"]["inputs"] == {"x": ["tensor(float)", "N", "T", 80], "x_lens": ["tensor(int64)", "N"]}
    assert found["labels"] == {"count": 6, "blank": 0, "first": PIECES}
    said = CliRunner().invoke(cli, ["transcribe", "--model", str(folder), "--json", str(clip)])
    assert json.loads(said.stdout)[0]["file"] == str(clip)


def test_a_model_by_its_path_in_a_plan(tmp_path: Path) -> None:
    folder = icefall(tmp_path / "model")
    plan = f"""
        name = "own"
        title = "My own"
        corpus = "x"
        [[case]]
        id = "mine"
        title = "Mine"
        model = "{folder}"
        variants = {{ acoustic = "ort@fp32", decoder = "greedy", kernel = "numpy", memory = "fresh" }}
    """
    [case] = parse_plan(plan, tmp_path / "plan.toml").cases
    check_model(models_dir(), case.pipeline.model)
    found = fingerprint(models_dir(), [case.pipeline.model])["models"]
    assert list(found) == ["model"]
    assert set(found["model"]) == {"model-card.toml", "model.onnx", "tokens.txt"}
    with pytest.raises(AmiraError, match=r"model 'nothing' is not here: .*A model of your own is a folder"):
        check_model(models_dir(), str(tmp_path / "nothing"))
