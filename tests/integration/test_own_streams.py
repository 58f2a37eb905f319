"""Streaming models of one's own: chunk by chunk they say what the same model says of the whole clip under its mask."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kernels.kernel_set import KernelSet
from pipelines.acoustic.card_check import check_sense, feature_shift
from pipelines.acoustic.front import Features, FeatureStream
from pipelines.assemble import open_pipeline
from pipelines.config import PipelineConfig
from pipelines.contracts import AcousticModel, AudioBatch, Float32, StreamingAcousticModel
from pipelines.decode.greedy import CtcGreedyDecoder
from pipelines.errors import AmiraError
from pipelines.first_pass import StreamingPass
from pipelines.models.model_card import FeaturesCard, ctc_card
from pipelines.paths import models_dir
from tests import toolkit_streams as toolkits
from tests.own_models import kaldi_features, nemo_features, opened, voice
from tests.small_ctc import STREAM_CARD, write_small_stream

Write = Callable[[Path], Path]
REFERENCE = KernelSet("numpy")


def icefall_features(samples: Float32) -> Float32:
    return kaldi_features(samples, scale=1, high_hz=-400)


def wenet_features(samples: Float32) -> Float32:
    return kaldi_features(samples, scale=32768, high_hz=8_000)


def plain_nemo_features(samples: Float32) -> Float32:
    return nemo_features(samples, per_feature=False)


EXPORTS: dict[str, tuple[Write, toolkits.Shape, Callable[[Float32], Float32]]] = {
    "icefall": (toolkits.icefall_stream, toolkits.ICEFALL, icefall_features),
    "wenet": (toolkits.wenet_stream, toolkits.WENET, wenet_features),
    "wenet, endless left context": (toolkits.wenet_growing_stream, toolkits.WENET_GROWING, wenet_features),
    "nemo": (toolkits.nemo_stream, toolkits.NEMO, plain_nemo_features),
}


def expected(name: str, samples: Float32) -> np.ndarray:
    """The offline model on the clip and the silence behind it, as many frames as the clip has."""
    _, shape, features = EXPORTS[name]
    shift = 160 * shape.subsampling
    silence = np.zeros(160 * (shape.window + shape.chunk * shape.subsampling) + 400, np.float32)
    return toolkits.offline(shape, features(np.concatenate([samples, silence])))[: -(-len(samples) // shift)]


def stream(model: StreamingAcousticModel, samples: Float32) -> np.ndarray:
    state, rows = model.open(), []
    for start in range(0, len(samples) + 1, model.chunk_samples):
        chunk = samples[None, start : start + model.chunk_samples]
        found = model.infer_chunk([state], AudioBatch(chunk, np.array([chunk.shape[1]])))
        rows.append(found.values[0, : found.lengths[0]].copy())
    state.close()
    return np.concatenate(rows)


@pytest.mark.parametrize("seconds", [2.0, 1.2807, 0.02])
@pytest.mark.parametrize("name", EXPORTS)
def test_streaming_equals_offline(name: str, seconds: float, tmp_path: Path) -> None:
    samples = voice(seconds, 3)
    write, shape, _ = EXPORTS[name]
    with opened(write(tmp_path / "model")) as model:
        assert isinstance(model, StreamingAcousticModel)
        assert isinstance(model, AcousticModel)
        assert model.chunk_samples == 160 * shape.subsampling * shape.chunk
        model.warm_up()
        found = stream(model, samples)
        whole = model.infer(AudioBatch(samples[None], np.array([len(samples)])))
    np.testing.assert_allclose(found, expected(name, samples), atol=1e-3)
    np.testing.assert_allclose(whole.values[0, : whole.lengths[0]], found, atol=1e-5)


@pytest.mark.parametrize("name", EXPORTS)
def test_streams_of_one_batch_do_not_disturb_each_other(name: str, tmp_path: Path) -> None:
    """Three streams that begin one chunk apart: together each says what it says alone."""
    clips = [voice(1.5, 0), voice(0.9, 1), voice(2.0, 2)]
    with opened(EXPORTS[name][0](tmp_path / "model")) as model:
        alone = [stream(model, clip) for clip in clips]
        states: list[Any] = [model.open() for _ in clips]
        together: list[list[np.ndarray]] = [[] for _ in clips]
        for turn in range(20):
            live = [row for row in range(3) if row <= turn and not states[row].ended]
            if not live:
                continue
            size = model.chunk_samples
            parts = [clips[row][(turn - row) * size : (turn - row + 1) * size] for row in live]
            chunks = np.zeros((len(live), size), np.float32)
            for row, part in enumerate(parts):
                chunks[row, : len(part)] = part
            lengths = np.array([len(part) for part in parts])
            found = model.infer_chunk([states[row] for row in live], AudioBatch(chunks, lengths))
            for position, row in enumerate(live):
                together[row].append(found.values[position, : found.lengths[position]].copy())
    for one, said in zip(alone, together, strict=True):
        np.testing.assert_allclose(np.concatenate(said), one, atol=1e-3)


def test_streams_with_a_batch_axis_share_a_step(tmp_path: Path) -> None:
    with opened(toolkits.icefall_stream(tmp_path / "model")) as model:
        calls = []
        run = model._session.run
        model._session = type("Counted", (), {"run": lambda _, *a: calls.append(len(a[1]["x"])) or run(*a)})()
        states = [model.open() for _ in range(4)]
        silence = AudioBatch(np.zeros((4, model.chunk_samples), np.float32), np.full(4, model.chunk_samples))
        for _ in range(3):
            model.infer_chunk(states, silence)
        assert calls == [4, 4]  # the first window is not full after one chunk


def test_how_long_a_frame_waits(tmp_path: Path) -> None:
    """The window's last sample: 13 feature frames and 15 ms behind the chunk for icefall, none but a half for NeMo."""
    with opened(toolkits.icefall_stream(tmp_path / "a")) as model:
        assert model.lookahead_samples == 160 * (45 - 32) + 240
    with opened(toolkits.nemo_stream(tmp_path / "b")) as model:
        assert model.lookahead_samples == 40


@pytest.mark.parametrize("convention", ["kaldi", "nemo"])
def test_features_of_a_stream_are_those_of_the_clip(convention: str) -> None:
    card = FeaturesCard(convention=convention, scale=100.0)
    features, rng = Features(card, REFERENCE), np.random.default_rng(0)
    samples = voice(1.0, 5)
    growing, at = FeatureStream(features, 0), 0
    while at < len(samples):
        size = int(rng.integers(1, 900))
        growing.push(samples[at : at + size])
        at += size
    whole = features(samples)[: len(growing.frames)]
    assert len(whole) >= 98
    np.testing.assert_allclose(growing.frames, whole, atol=1e-4)


@pytest.mark.parametrize("name", EXPORTS)
def test_partials_of_a_segment_that_ends_with_a_chunk(name: str, tmp_path: Path) -> None:
    """What waits for audio behind the last whole chunk is not lost when the segment is finished."""
    with opened(EXPORTS[name][0](tmp_path / "model")) as model:
        decoder = CtcGreedyDecoder(model, REFERENCE)
        samples = (voice(3.0, 1) * 32768).astype("<i2")[: 3 * model.chunk_samples]
        first_pass = StreamingPass(model, decoder, REFERENCE)
        segment = first_pass.open()
        for start in range(0, len(samples), model.chunk_samples):
            first_pass.push([segment], [samples[start : start + model.chunk_samples].tobytes()])
        said = first_pass.finish(segment)
        whole = AudioBatch((samples / np.float32(32768))[None].astype(np.float32), np.array([len(samples)]))
        [best] = decoder.decode(model.infer(whole))
    assert said[0].tokens == best[0].tokens
    assert said[0].tokens


def test_as_a_pipeline(tmp_path: Path) -> None:
    variants = {"acoustic": "ort@fp32", "decoder": "greedy", "kernel": "numpy", "memory": "pooled"}
    config = PipelineConfig(model=str(toolkits.nemo_stream(tmp_path / "model")), variants=variants)
    with open_pipeline(config, models_dir()) as pipeline:
        pipeline.warm_up()
        assert set(pipeline.transcribe((voice(1.0, 2) * 32767).astype("<i2").tobytes()).text) <= set("abcd ")


def test_misuse_is_refused_before_anything_runs(tmp_path: Path) -> None:
    with (
        opened(toolkits.icefall_stream(tmp_path / "a")) as model,
        opened(toolkits.icefall_stream(tmp_path / "b")) as other,
    ):
        size = model.chunk_samples

        def chunk(length: int) -> AudioBatch:
            return AudioBatch(np.zeros((1, length), np.float32), np.array([length]))

        state = model.open()
        with pytest.raises(ValueError, match=rf"0 to {size} samples"):
            model.infer_chunk([state], chunk(size + 1))
        with pytest.raises(ValueError, match="opened by another model"):
            model.infer_chunk([other.open()], chunk(size))
        model.infer_chunk([state], chunk(0))
        with pytest.raises(ValueError, match="has had its last chunk"):
            model.infer_chunk([state], chunk(size))


ICEFALL, WENET, NEMO = toolkits.icefall_stream, toolkits.wenet_stream, toolkits.nemo_stream
CONTRADICTIONS: list[tuple[Write, str, str, str]] = [
    (ICEFALL, "window_frames = 45", "window_frames = 61", "with 45 frames on axis 1.*window_frames = 61"),
    (ICEFALL, "chunk_frames = 8", "chunk_frames = 4", "a step gives 8 frames, the card has .* = 4"),
    (ICEFALL, "shift_samples = 640", "shift_samples = 320", "decode_chunk_len = 32, the card says 16"),
    (ICEFALL, '"cached_key_*"', '"cached_kay_*"', r"state 'cached_kay_\*' does not exist; have: .*cached_key_0"),
    (ICEFALL, '"new_cached_val1_*"', '"new_cached_val1"', r"one \* in both names, or none"),
    (ICEFALL, '"new_cached_val1_*"', '"cached_val1_*"', "output 'cached_val1_0' does not exist"),
    (ICEFALL, '"new_cached_key_*", batch_axis = 1', '"new_cached_key_*"', "a fixed size on every axis"),
    (ICEFALL, '"new_processed_lens"', '"log_probs"', "'processed_lens' is .* becomes 'log_probs' of"),
    (ICEFALL, "window_frames = 45\n", "", "window_frames is None, and a chunk has 32 feature frames"),
    (ICEFALL, "chunk_frames = 8", "chunk_frames = 8\nlookahead_samples = 9", "follows from window_frames"),
    (ICEFALL, "shift_samples = 640", "shift_samples = 650", "not a whole number of feature frames"),
    (ICEFALL, "high_hz = -400", "per_feature = true", "per_feature normalises over a whole clip"),
    (WENET, "window_frames = 19", "window_frames = 20", "decoding_window = 19, the card says 20"),
    (WENET, "shape = [2, 2, 8, 8]", "shape = [2, 4, 8, 8]", r"which is not of shape \[2, 4, 8, 8\]"),
    (WENET, ", shape = [2, 2, 8, 8]", "", "or say its shape"),
    (WENET, 'counters = [{ input = "offset", start = 8 }]', "", "the model also wants offset"),
    (WENET, '"att_mask"', '"cnn_cache"', "input 'cnn_cache' is tensor.float.*should be tensor.bool."),
    (WENET, 'input = "required_cache_size"', 'input = "att_cache"', "should be tensor.int64."),
    (WENET, 'input = "hidden"', 'input = "x"', "input of the head 'x' does not exist; have: hidden"),
    (WENET, 'output = "probs"', 'output = "logits"', "output of the head 'logits' does not exist"),
    (WENET, 'fp32 = "ctc.onnx"', 'int8 = "ctc.onnx"', r"form .* 'fp32' does not exist; have: int8"),
    (NEMO, "history_frames = 9", "history_frames = 10", "33, and a chunk has 24 .* at\nleast 34"),
    (NEMO, 'lengths = "length"', "", "the model also wants length"),
    (write_small_stream, "chunk_frames = 4", "chunk_frames = 4\nwindow_frames = 9", "the card has no .features."),
    (write_small_stream, "[output]", '[head]\nfiles = { fp32 = "h.onnx" }\n[output]', ".head. is for models that"),
]  # fmt: skip


@pytest.mark.parametrize(("write", "old", "new", "message"), CONTRADICTIONS)
def test_cards_that_contradict_their_file(write: Write, old: str, new: str, message: str, tmp_path: Path) -> None:
    folder = write(tmp_path / "model")
    card = folder / "model-card.toml"
    text = card.read_text("utf-8")
    assert old in text
    card.write_text(text.replace(old, new), "utf-8")
    with pytest.raises(AmiraError, match=message.replace("\n", " ")), opened(folder):
        pass


def test_other_chunks_than_those_of_the_export(tmp_path: Path) -> None:
    folder = toolkits.nemo_stream(tmp_path / "model")
    with opened(folder, chunk_frames=3):
        pass
    with pytest.raises(AmiraError, match="was exported for chunks of 3 frames"), opened(folder, chunk_frames=6):
        pass


def test_a_step_of_another_length_than_the_card_has(tmp_path: Path) -> None:
    """NeMo's file leaves its frames open: the first step, which warms the model up, finds it out."""
    folder = toolkits.nemo_stream(tmp_path / "model")
    card = folder / "model-card.toml"
    text = card.read_text("utf-8").replace("chunk_frames = 3", "chunk_frames = 2")
    card.write_text(text, "utf-8")
    with opened(folder) as model, pytest.raises(AmiraError, match="gives 3 frames of 6 labels for a chunk"):
        model.warm_up()


def test_a_pattern_of_states_in_a_model_of_the_waveform(tmp_path: Path) -> None:
    folder = write_small_stream(tmp_path / "model")
    (folder / "model-card.toml").write_text(
        STREAM_CARD.replace("state_samples", "state_*").replace("next_samples", "next_*")
    )
    with opened(folder) as model:
        assert model.open() is not None


def examples() -> list[str]:
    text = (Path(__file__).parents[2] / "model-repo" / "README.md").read_text("utf-8")
    return [block.partition("```")[0] for block in text.split("```toml\n")[1:]]


@pytest.mark.parametrize("card", examples(), ids=lambda card: card.split('"')[3])
def test_the_documented_cards_make_sense(card: str, tmp_path: Path) -> None:
    (tmp_path / "model-card.toml").write_text(card, "utf-8")
    read = ctc_card(tmp_path)
    check_sense(read, "the example")
    if read.streaming is not None:
        assert read.streaming.window_frames >= read.streaming.history_frames + feature_shift(read, read.streaming)


def test_every_toolkit_has_a_documented_card() -> None:
    assert [card.split('"')[3] for card in examples()] == [
        "zipformer",
        "zipformer-streaming",
        "fastconformer-streaming",
        "u2pp-streaming",
    ]
