"""The streaming model: chunk by chunk it says what the same model says offline under the same mask."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines import registry
from pipelines.acoustic import simd_stream
from pipelines.assemble import open_pipeline
from pipelines.audio.read import read_audio
from pipelines.config import PipelineConfig
from pipelines.contracts import AcousticModel, AudioBatch, Float32, StreamingAcousticModel
from pipelines.errors import AmiraError
from pipelines.models import build_ctc, forms, source
from pipelines.models.fold import fold, read_ort
from pipelines.models.moonshine import Weights
from pipelines.models.recipe import make
from pipelines.models.token_head import with_units
from pipelines.paths import models_dir
from pipelines.registry import Context
from tests import stream_oracle
from tests.allocations import traced
from tests.trained_weights import LABELS, stream_weights, token_head, upper_layers, write_weights
from training.config import load_config

pytestmark = pytest.mark.models

LAYERS, LEFT, MEAN, STD = 2, 20, 0.02, 0.3
NAME = "stream-ctc-draft"
UNITS = ("tokens", "units", "scale", "bias", "blank")
"""Tensors of a head that writes tokens from one product."""


@pytest.fixture(scope="module")
def samples() -> Float32:
    pcm = read_audio(source.package_file("moonshine_cpp/test-data/beckett.wav")).pcm16
    return np.frombuffer(pcm, "<i2").astype(np.float32)[:50_100] / 32768


@pytest.fixture(scope="module", params=[(0, 0), (96, 40)], ids=["whole", "factored"])
def tensors(request: pytest.FixtureRequest) -> dict[str, np.ndarray]:
    return stream_weights(LAYERS, request.param)


def build(folder: Path, tensors: dict[str, np.ndarray]) -> Path:
    config = {"streaming": True, "layers": LAYERS, "left_frames": LEFT, "stem_mean": MEAN, "stem_std": STD}
    weights = write_weights(folder / "weights" / NAME, tensors, **config)
    return make(build_ctc.recipe(weights), folder / "models", lambda text: None)


@pytest.fixture(scope="module")
def built(tensors: dict[str, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("stream"), tensors)


@contextmanager
def opened(folder: Path, name: str = "ort@fp32", threads: int = 1, **options: Any) -> Iterator[Any]:
    context = Context(folder.parent, folder.name, threads, {})
    with ExitStack() as stack:
        context.parts["memory"] = stack.enter_context(registry.get("memory/pooled").open(context))
        yield stack.enter_context(registry.get(f"acoustic/{name}").open(context, **options))


def offline(tensors: dict[str, np.ndarray], samples: Float32, chunk_frames: int, layers: int = LAYERS) -> np.ndarray:
    return stream_oracle.log_probs(
        tensors, samples, layers=layers, chunk_frames=chunk_frames, left_frames=LEFT, mean=MEAN, deviation=STD
    )


def stream(model: StreamingAcousticModel, samples: Float32) -> np.ndarray:
    state = model.open()
    rows = []
    for start in range(0, len(samples), model.chunk_samples):
        chunk = samples[None, start : start + model.chunk_samples]
        found = model.infer_chunk([state], AudioBatch(chunk, np.array([chunk.shape[1]])))
        rows.append(found.values[0, : found.lengths[0]].copy())
    state.close()
    return np.concatenate(rows)


@pytest.mark.parametrize("chunk_frames", [1, 7, 30])
def test_streaming_equals_offline(
    chunk_frames: int, built: Path, tensors: dict[str, np.ndarray], samples: Float32
) -> None:
    expected = offline(tensors, samples, chunk_frames)
    with opened(built, chunk_frames=chunk_frames) as model:
        assert isinstance(model, StreamingAcousticModel)
        assert (model.chunk_samples, model.lookahead_samples) == (384 * chunk_frames, 0)
        found = stream(model, samples)
        assert len(found) == 131  # 130.5 frames of audio, the last one filled up with zeros
        np.testing.assert_allclose(found, expected, atol=1e-3)
        assert isinstance(model, AcousticModel)
        whole = model.infer(AudioBatch(samples[None], np.array([len(samples)])))
        assert whole.lengths.tolist() == [131]
        np.testing.assert_array_equal(whole.values[0], found)


@pytest.mark.parametrize("chunk_frames", [1, 5, 7, 30])
@pytest.mark.parametrize(("name", "tolerance"), [("simd-stream@fp32", 1e-3), ("simd-stream@int8", 0.1)])
def test_compiled_loops_say_the_same(
    name: str, tolerance: float, chunk_frames: int, built: Path, tensors: dict[str, np.ndarray], samples: Float32
) -> None:
    """The ring goes round many times, and the last step is a short one that must not see what is too old."""
    with opened(built, name, chunk_frames=chunk_frames) as model:
        np.testing.assert_allclose(stream(model, samples), offline(tensors, samples, chunk_frames), atol=tolerance)


def test_weights_are_halves_where_those_say_every_number(
    built: Path, samples: Float32, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact, other = np.array([1.5, -(2.0**-20), 0.0], np.float32), np.array([0.1, 70_000.0], np.float32)
    assert simd_stream.stored(exact).view(np.float16).tolist() == exact.tolist()
    assert simd_stream.stored(other).tolist() == other.tolist()
    said = []
    for store in (lambda panels: panels.astype(np.float16).view(np.uint16), lambda panels: panels.astype(np.float32)):
        monkeypatch.setattr(simd_stream, "stored", store)
        with opened(built, "simd-stream@fp32") as model:
            said.append(stream(model, samples))
    np.testing.assert_allclose(said[0], said[1], atol=0.02)


@pytest.mark.parametrize(("name", "tolerance"), [("ort@fp16", 0.02), ("ort@int8", 0.3)])
def test_other_precisions_are_near(
    name: str, tolerance: float, built: Path, tensors: dict[str, np.ndarray], samples: Float32
) -> None:
    with opened(built, name) as model:
        np.testing.assert_allclose(stream(model, samples), offline(tensors, samples, 7), atol=tolerance)


@pytest.mark.parametrize(
    ("name", "threads"),
    [("ort@fp32", 1), *((f"simd-stream@{form}", threads) for form in ("fp32", "int8") for threads in (1, 2, 4))],
)
def test_streams_of_one_batch_do_not_disturb_each_other(
    name: str, threads: int, built: Path, tensors: dict[str, np.ndarray], samples: Float32
) -> None:
    """Three streams, one step apart, of different lengths: together they say what each says alone."""
    clips = [samples[:20_000], samples[5_000:30_000], samples[10_000:12_000]]
    with opened(built, name, threads) as model:
        alone = [stream(model, clip) for clip in clips]
        states = [model.open() for _ in clips]
        together: list[list[np.ndarray]] = [[] for _ in clips]
        size = model.chunk_samples
        for turn in range(12):
            live = [(row, turn - row) for row in range(3) if 0 <= (turn - row) * size < len(clips[row])]
            if not live:
                continue
            chunks = np.zeros((len(live), size), np.float32)
            lengths = np.zeros(len(live), np.int64)
            for position, (row, step) in enumerate(live):
                part = clips[row][step * size : (step + 1) * size]
                chunks[position, : len(part)], lengths[position] = part, len(part)
            found = model.infer_chunk([states[row] for row, _ in live], AudioBatch(chunks, lengths))
            for position, (row, _) in enumerate(live):
                together[row].append(found.values[position, : found.lengths[position]].copy())
    for one, parts in zip(alone, together, strict=True):
        np.testing.assert_allclose(np.concatenate(parts), one, atol=1e-3)


def test_no_memory_is_made_on_the_way(built: Path) -> None:
    """After the first chunks a stream's arrays only change places."""
    with opened(built) as model:
        state = model.open()
        batch = AudioBatch(np.zeros((1, model.chunk_samples), np.float32), np.array([model.chunk_samples]))
        seen = set()
        for turn in range(6):
            found = model.infer_chunk([state], batch)
            if turn >= 2:
                seen.add((found.values.ctypes.data, *sorted(array.ctypes.data for array in state.tensors)))
        assert len(seen) == 2


@pytest.mark.parametrize("name", ["simd-stream@fp32", "simd-stream@int8"])
def test_compiled_loops_make_no_array_at_a_step(name: str, built: Path) -> None:
    with opened(built, name) as model:
        states = [model.open() for _ in range(3)]
        batch = AudioBatch(np.zeros((3, model.chunk_samples), np.float32), np.full(3, model.chunk_samples))
        kept, peak, arrays = traced(lambda: model.infer_chunk(states, batch))
    assert kept < 2_000
    assert arrays == 0
    assert peak < batch.samples.nbytes  # views and Python's own objects


def test_the_streams_of_a_batch_are_shared_out_among_threads(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[tuple[str, int]] = []
    run = simd_stream._Worker.run

    def noted(worker: Any, *rings: Any) -> None:
        ran.append((threading.current_thread().name, len(worker._room.slots)))
        run(worker, *rings)

    monkeypatch.setattr(simd_stream._Worker, "run", noted)
    with opened(built, "simd-stream@int8", 3) as model:
        states = [model.open() for _ in range(8)]
        for count in (1, 2, 8):
            ran.clear()
            silence = np.zeros((count, model.chunk_samples), np.float32)
            model.infer_chunk(states[:count], AudioBatch(silence, np.full(count, model.chunk_samples)))
            assert sorted(streams for _, streams in ran) == {1: [1], 2: [1, 1], 8: [2, 3, 3]}[count]
            assert threading.current_thread().name in [name for name, _ in ran]
            assert any(name.startswith("stream-step") for name, _ in ran) == (count > 1)


def test_a_thread_that_fails_fails_the_step_when_the_others_are_done(
    built: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, done = simd_stream._Worker.run, []

    def failing(worker: Any, *rings: Any) -> None:
        run(worker, *rings)
        done.append(worker)
        if threading.current_thread().name.startswith("stream-step"):
            raise RuntimeError("a thread failed")

    with opened(built, "simd-stream@fp32", 2) as model:
        states = [model.open() for _ in range(2)]
        batch = AudioBatch(np.zeros((2, model.chunk_samples), np.float32), np.full(2, model.chunk_samples))
        with monkeypatch.context() as patched:
            patched.setattr(simd_stream._Worker, "run", failing)
            with pytest.raises(RuntimeError, match="a thread failed"):
                model.infer_chunk(states, batch)
        assert len(done) == 2
        assert np.isfinite(model.infer_chunk(states, batch).values).all()


def test_an_endless_stream_stays_exact(built: Path, tensors: dict[str, np.ndarray]) -> None:
    """What was long ago does not matter: after its context has passed, a stream is where a fresh one would be."""
    rng = np.random.default_rng(0)
    noise = (0.1 * rng.standard_normal(384 * 7 * 40)).astype(np.float32)
    # Each layer sees LEFT frames back, the stem 511 samples: behind both, nothing of the beginning is left.
    forgotten = 384 * 7 * 12
    with opened(built) as model:
        whole = stream(model, noise)
        late = stream(model, noise[384 * 7 * 16 :])
    start = 7 * 16 + forgotten // 384
    np.testing.assert_allclose(whole[start:], late[forgotten // 384 :], atol=1e-3)


def test_misuse_is_refused_before_anything_runs(built: Path) -> None:
    with opened(built) as model, opened(built) as other:
        size = model.chunk_samples

        def chunk(*lengths: int) -> AudioBatch:
            return AudioBatch(np.zeros((len(lengths), max(lengths)), np.float32), np.array(lengths))

        state, twin = model.open(), model.open()
        with pytest.raises(ValueError, match=rf"0 to {size} samples, got lengths \[{size + 1}\]"):
            model.infer_chunk([state], chunk(size + 1))
        with pytest.raises(ValueError, match="2 states, 1 lengths"):
            model.infer_chunk([state, twin], chunk(size))
        with pytest.raises(ValueError, match="opened by another model"):
            model.infer_chunk([other.open()], chunk(size))
        with pytest.raises(ValueError, match="named twice"):
            model.infer_chunk([state, state], chunk(size, size))
        model.infer_chunk([state], chunk(5))
        with pytest.raises(ValueError, match="has had its last chunk"):
            model.infer_chunk([state], chunk(size))
        twin.close()
        with pytest.raises(ValueError, match="closed"):
            model.infer_chunk([twin], chunk(size))


@pytest.mark.parametrize("level", [0.0, 30.0])
def test_silence_and_clipping_give_numbers(level: float, built: Path) -> None:
    wave = np.clip(level * np.sin(np.arange(16_000) / 7), -1, 1).astype(np.float32)
    with opened(built) as model:
        found = stream(model, wave)
    np.testing.assert_allclose(np.exp(found).sum(axis=1), 1, rtol=1e-4)


def test_as_a_pipeline(built: Path, samples: Float32) -> None:
    variants = {"acoustic": "ort@fp32", "decoder": "greedy", "kernel": "numpy", "memory": "fresh"}
    config = PipelineConfig(model=str(built), variants=variants, options={"acoustic": {"chunk_frames": 14}})
    pcm = (samples * 32768).astype("<i2").tobytes()
    with open_pipeline(config, models_dir()) as pipeline:
        pipeline.warm_up()
        transcript = pipeline.transcribe(pcm)
        assert set(transcript.text) <= set("".join(LABELS) + " ")
        assert pipeline.transcribe(bytes(2)).hypotheses[0].tokens is not None


@pytest.fixture(scope="module")
def tokens_over_another(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, np.ndarray]]:
    """Weights of upper layers that write tokens over another model's lowest; built; and all of it as tensors.

    It has a layer more than the other one.
    """
    tmp_path = tmp_path_factory.mktemp("over")
    config = {"streaming": True, "layers": LAYERS, "left_frames": LEFT, "stem_mean": MEAN, "stem_std": STD}
    below, above = stream_weights(LAYERS), upper_layers(range(1, LAYERS + 1), seed=9)
    own = {key: value for key, value in token_head().items() if key.split(".")[1] in UNITS}
    own |= {key: value for key, value in above.items() if not key.startswith("head.")}
    write_weights(tmp_path / "weights" / NAME, below, **config)
    config["layers"] = LAYERS + 1
    folder = write_weights(tmp_path / "weights" / "stream-ctc-tokens", own, **config, over=NAME, units="tokens")
    built = make(build_ctc.recipe(folder), tmp_path / "models", lambda text: None)
    table = Weights.of_decoder(fold(read_ort(source.verified(source.DECODER)))).embedding().value.T
    written = {key: np.asarray(value, np.float32) for key, value in own.items()}
    return folder, built, below | with_units(written, table)


@pytest.mark.parametrize(("name", "tolerance"), [("ort@fp32", 1e-3), ("simd-stream@fp32", 1e-3), ("ort@int8", 0.2)])
def test_upper_layers_that_write_tokens_lie_over_another_models_lower_ones(
    name: str,
    tolerance: float,
    tokens_over_another: tuple[Path, Path, dict[str, np.ndarray]],
    samples: Float32,
) -> None:
    _, built, written = tokens_over_another
    wanted = offline(written, samples, 7, LAYERS + 1)
    assert wanted.shape == (131, 41)
    with opened(built, name) as model:
        np.testing.assert_allclose(stream(model, samples), wanted, atol=tolerance)


def test_a_model_over_another_is_made_from_its_weights_too(
    tokens_over_another: tuple[Path, Path, dict[str, np.ndarray]],
) -> None:
    folder, _, _ = tokens_over_another
    below = f"{NAME}/weights.safetensors"
    first = forms.ctc_forms(folder).sources[below]
    assert build_ctc.recipe(folder).sources()[below] == first == source.sha256(folder.parent / below)


@pytest.mark.parametrize("plan", ["draft", "draft-tokens"])
def test_the_browsers_model_has_at_most_eight_megabytes(plan: str, tmp_path: Path) -> None:
    """In INT8, with the layers, ranks and tokens that its training is configured with."""
    training = load_config(Path(__file__).parents[2] / "experiments" / "011-stream-ctc" / f"{plan}.toml")
    shape = training.model
    tensors = stream_weights(shape.layers, shape.stem_rank)
    config: dict[str, Any] = {"streaming": True, "layers": shape.layers, "left_frames": shape.left_frames}
    if training.units == "tokens":
        head = token_head(range(300, 300 + training.token_limit))
        tensors = {key: value for key, value in tensors.items() if not key.startswith("head.")}
        tensors |= {key: value for key, value in head.items() if key.split(".")[1] in UNITS}
        config["units"] = "tokens"
    small = forms.ctc_forms(write_weights(tmp_path / NAME, tensors, **config))
    assert small.write(small.weights, small.small).ByteSize() <= 8_000_000


def test_chunks_of_a_model_that_has_none() -> None:
    config = PipelineConfig(
        variants={"acoustic": "ort@fp32", "decoder": "aed-greedy", "kernel": "numpy", "memory": "fresh"},
        options={"acoustic": {"chunk_frames": 7}},
    )
    with pytest.raises(AmiraError, match="chunk_frames is for streaming models"), open_pipeline(config, models_dir()):
        pass
