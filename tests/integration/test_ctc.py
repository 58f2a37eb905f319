"""CTC models: the graph on the package's encoder, and a pipeline around a small model of the same interface."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest

from pipelines import registry
from pipelines.assemble import open_pipeline
from pipelines.audio.read import read_audio
from pipelines.config import PipelineConfig
from pipelines.contracts import AcousticModel, AudioBatch, Float32
from pipelines.errors import AmiraError
from pipelines.models import build_ctc, source
from pipelines.models.catalogue import build_all
from pipelines.models.recipe import is_current, make
from pipelines.paths import model_repo_dir, models_dir
from pipelines.registry import Context
from tests.small_ctc import CARD, SHIFT, WINDOW, kernel, write_small_ctc
from tests.trained_weights import token_head, upper_layers, write_weights

pytestmark = pytest.mark.models

NAME = "moonshine-ctc"
CTC = {"decoder": "greedy", "kernel": "numpy", "memory": "pooled"}


@pytest.fixture(scope="module")
def samples() -> Float32:
    pcm = read_audio(source.package_file("moonshine_cpp/test-data/beckett.wav")).pcm16
    return np.frombuffer(pcm, "<i2").astype(np.float32) / 32768


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained weights of the last two layers and the head, as the repository would hold them (random here)."""
    training = {"corpus": "shared:train", "dev": "shared:dev", "seed": 1, "batch_s": 40, "init": [], "teacher": ""}
    facts = {"training": training, "step": 10, "hours": 1, "wer": {"an4": 5.5, "an4 empty": 0}}
    return write_weights(tmp_path_factory.mktemp("weights") / NAME, upper_layers(), facts=facts)


@pytest.fixture(scope="module")
def built(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(build_ctc.recipe(weights), tmp_path_factory.mktemp("models"), lambda text: None)


@pytest.fixture(scope="module")
def built_tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a head of tokens: the package's last norm is not in the way, for the head has norms of its own."""
    kept = {name: value for name, value in upper_layers(range(4, 8)).items() if name.startswith("layers.")}
    folder = tmp_path_factory.mktemp("weights") / "moonshine-ctc-tokens"
    write_weights(folder, kept | token_head(), units="tokens")
    return make(build_ctc.recipe(folder), tmp_path_factory.mktemp("models"), lambda text: None)


@contextmanager
def opened(folder: Path, name: str) -> Iterator[AcousticModel]:
    context = Context(folder.parent, folder.name, 1, {})
    with ExitStack() as stack:
        context.parts["memory"] = stack.enter_context(registry.get("memory/pooled").open(context))
        yield stack.enter_context(registry.get(f"acoustic/{name}").open(context))


def infer(model: AcousticModel, clips: list[Float32], noise: float = 0.0) -> list[Float32]:
    """Log-probabilities of the real frames of each clip of a batch, padded with zeros or noise."""
    longest = max(map(len, clips))
    batch = (noise * np.random.default_rng(0).standard_normal((len(clips), longest))).astype(np.float32)
    for row, clip in enumerate(clips):
        batch[row, : len(clip)] = clip
    found = model.infer(AudioBatch(batch, np.array([len(clip) for clip in clips])))
    return [found.values[row, :count].copy() for row, count in enumerate(found.lengths)]


@pytest.mark.parametrize(
    ("fixture", "frames"), [("built", [413, 102, 40, 41, 1]), ("built_tokens", [207, 51, 20, 21, 1])]
)
def test_padding_changes_nothing(
    fixture: str, frames: list[int], samples: Float32, request: pytest.FixtureRequest
) -> None:
    clips = [samples, samples[30_000:70_001], samples[:16_000], samples[5_000:21_255], samples[20_000:21_000]]
    with opened(request.getfixturevalue(fixture), "ort@fp32") as model:
        alone = [infer(model, [clip])[0] for clip in clips]
        together = infer(model, clips, noise=0.3)
    assert [len(row) for row in together] == frames
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-3)


@pytest.mark.parametrize("name", ["ort@fp32", "ort@fp16", "ort@int8"])
@pytest.mark.parametrize(("fixture", "second"), [("built", 40), ("built_tokens", 20)])
def test_clips_without_a_frame_silence_and_clipping(
    name: str, fixture: str, second: int, samples: Float32, request: pytest.FixtureRequest
) -> None:
    """No frames where none fit, and log-probabilities for whatever else is heard; a neighbour changes nothing."""
    loud = np.clip(100 * samples[:16_000], -1, 1)
    clips = [samples[:894], np.zeros(16_000, np.float32), loud, samples[:1], samples[:895]]
    with opened(request.getfixturevalue(fixture), name) as model:
        rows = infer(model, clips)
        alone = [infer(model, [clip])[0] for clip in clips]
        nothing = model.infer(AudioBatch(np.zeros((1, 0), np.float32), np.array([0])))
    assert [len(row) for row in rows] == [len(row) for row in alone] == [0, second, second, 0, 1]
    assert nothing.lengths.tolist() == [0]
    for row in (*rows, *alone):
        np.testing.assert_allclose(np.exp(row).sum(axis=1), 1, rtol=1e-3)


def test_lower_layers_are_the_packages(tmp_path: Path, samples: Float32) -> None:
    """With a head and nothing else trained, it is the shipped encoder and that head."""
    tensors = upper_layers(layers=range(0))
    del tensors["layer_norm.weight"]
    folder = make(
        build_ctc.recipe(write_weights(tmp_path / "w" / NAME, tensors)), tmp_path / "models", lambda text: None
    )
    clip = samples[:32_000]
    with opened(folder, "ort@fp32") as model, opened(models_dir() / "moonshine-aed", "ort@shipped") as shipped:
        [found] = infer(model, [clip])
        with shipped.encode(AudioBatch(clip[None], np.array([clip.size]))) as encoded:  # type: ignore[attr-defined]
            hidden = encoded.hidden[0].copy()
    logits = hidden @ tensors["head.weight"].astype(np.float32).T + tensors["head.bias"].astype(np.float32)
    expected = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(found, expected, atol=1e-3)


@pytest.mark.parametrize("form", ["ort@fp32", "ort@fp16", "ort@int8"])
def test_the_model_of_tokens_writes_words(form: str, samples: Float32) -> None:
    """The committed weights, on a sentence that no training heard."""
    variants = {"acoustic": form, **CTC}
    with open_pipeline(PipelineConfig(model="moonshine-ctc-tokens", variants=variants), models_dir()) as pipeline:
        pipeline.warm_up()
        transcript = pipeline.transcribe((samples * 32768).astype("<i2").tobytes())
    said = transcript.text.split()
    assert {"ever", "failed", "no", "matter", "again", "better"} <= set(said)
    assert [word.text for word in transcript.hypotheses[0].words] == said


def test_a_build_follows_its_weights(tmp_path: Path) -> None:
    folder = write_weights(tmp_path / "w" / NAME, upper_layers())
    recipe = build_ctc.recipe(folder)
    built = make(recipe, tmp_path / "models", lambda text: None)
    assert is_current(recipe, built)
    write_weights(folder, upper_layers(seed=1))
    assert not is_current(recipe, built)


def test_no_weights_no_model(tmp_path: Path) -> None:
    said: list[str] = []
    (tmp_path / "moonshine-aed").symlink_to(model_repo_dir() / "moonshine-aed")  # its calibration, as it was built with
    folders = build_all(models_dir(), tmp_path, said.append)
    assert [folder.name for folder in folders] == ["moonshine-aed"]
    for line, name in zip(said, build_ctc.MODELS, strict=False):
        assert line.startswith(f"{name}: not built, for its trained weights are not in")


def test_the_card_says_how_it_came_about(built: Path) -> None:
    text = (built / "MODEL_CARD.md").read_text("utf-8")
    assert "## Training" in text
    assert "librispeech: audiobooks; CC BY 4.0" in text
    assert "Best at speech as of an4" in text.partition("## Good at, bad at")[2]


def test_damaged_weights_are_named(tmp_path: Path) -> None:
    folder = write_weights(tmp_path / "w" / NAME, upper_layers())
    (folder / "weights.safetensors").write_bytes(b"\x00" * 9)
    with pytest.raises(AmiraError, match=r"cannot read the weights .*weights\.safetensors"):
        make(build_ctc.recipe(folder), tmp_path / "models", lambda text: None)
    assert not (tmp_path / "models" / NAME).exists()


def test_a_pipeline_says_what_the_best_path_says(tmp_path: Path, samples: Float32) -> None:
    folder = write_small_ctc(tmp_path / "small")
    config = PipelineConfig(model=str(folder), variants={"acoustic": "ort@fp32", **CTC})
    pcm = (samples * 32768).astype("<i2").tobytes()
    with open_pipeline(config, models_dir()) as pipeline:
        pipeline.warm_up()
        transcript = pipeline.transcribe(pcm)
        silence = pipeline.transcribe(bytes(2))
    windows = np.lib.stride_tricks.sliding_window_view(samples, WINDOW)[::SHIFT]
    path = (windows @ kernel()[:, 0].T).argmax(axis=1)
    kept = [int(label) for label, before in zip(path, [-1, *path[:-1]], strict=True) if label not in (before, 0)]
    assert transcript.hypotheses[0].tokens == tuple(kept)
    assert [word.text for word in transcript.hypotheses[0].words] == transcript.text.split()
    assert [span.stage for span in transcript.spans] == ["ingest", "acoustic", "decode"]
    assert silence.text == ""


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"decoder": "aed-greedy"}, r"family 'ctc', and 'decoder/aed-greedy' is for: aed\. .*: .*decoder/greedy"),
        ({"acoustic": "ort@shipped"}, r"family 'ctc', and 'acoustic/ort@shipped' is for: aed\. .*acoustic/ort@fp32"),
    ],
)
def test_variants_of_another_family(changes: dict[str, str], message: str, tmp_path: Path) -> None:
    variants = {"acoustic": "ort@fp32", **CTC, **changes}
    config = PipelineConfig(model=str(write_small_ctc(tmp_path / "small")), variants=variants)
    with pytest.raises(AmiraError, match=message), open_pipeline(config, models_dir()):
        pass


def test_a_ctc_decoder_on_the_default_model() -> None:
    config = PipelineConfig(variants={"acoustic": "ort@fp32", **CTC})
    with (
        pytest.raises(AmiraError, match=r"'moonshine-aed' is of family 'aed', and 'decoder/greedy' is for: ctc"),
        open_pipeline(config, models_dir()),
    ):
        pass


@pytest.mark.parametrize(
    ("card", "message"),
    [
        ('family = "rnnt"', "model family 'rnnt' does not exist; have: aed, ctc"),
        ('family = "ctc"\nname = "x"', r"'files': Field required"),
        ("family =", "cannot be read"),
        (CARD.replace("fp32", "fp64"), "form of model 'small-ctc' 'fp32' does not exist; have: .*fp64"),
    ],
)
def test_broken_cards(card: str, message: str, tmp_path: Path) -> None:
    folder = write_small_ctc(tmp_path / "small")
    (folder / "model-card.toml").write_text(card, "utf-8")
    config = PipelineConfig(model=str(folder), variants={"acoustic": "ort@fp32", **CTC})
    with pytest.raises(AmiraError, match=message), open_pipeline(config, models_dir()):
        pass
