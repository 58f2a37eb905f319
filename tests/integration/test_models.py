"""The real model in all its forms: the same answers, and the sentence that it must read."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest

from kernels import cpu
from pipelines.assemble import Pipeline, open_pipeline
from pipelines.audio.read import read_audio
from pipelines.config import PipelineConfig
from pipelines.contracts import AudioBatch, EncoderDecoderModel, Float32
from pipelines.errors import AmiraError
from pipelines.models import card, source
from pipelines.models.build import NAME, recipe
from pipelines.models.forms import DEFAULT
from pipelines.models.recipe import is_current, make
from pipelines.paths import model_repo_dir, models_dir
from pipelines.registry import Context, get

pytestmark = pytest.mark.models

BECKETT = "Ever tried ever failed, no matter try again fail again fail better."
PARTS = {"decoder": "aed-greedy", "kernel": "numpy", "memory": "fresh"}


@pytest.fixture(scope="module")
def pcm() -> bytes:
    return read_audio(source.package_file("moonshine_cpp/test-data/beckett.wav")).pcm16


@pytest.fixture(scope="module")
def samples(pcm: bytes) -> Float32:
    return np.frombuffer(pcm, "<i2").astype(np.float32)[None] / 32768


@contextmanager
def pipeline(**variants: str) -> Iterator[Pipeline]:
    with open_pipeline(PipelineConfig(variants=variants), models_dir()) as opened:
        yield opened


@contextmanager
def model(name: str) -> Iterator[EncoderDecoderModel]:
    context = Context(models_dir(), NAME, 1, {})
    with get("memory/fresh").open(context) as context.parts["memory"], get(f"acoustic/{name}").open(context) as opened:
        yield opened


@pytest.mark.parametrize(
    "acoustic",
    ["ort@shipped", "ort@folded", "ort@fp32", "ort-shortlist@fp32", "ort@int8", "simd@fp32", "simd@int8"],
)
def test_beckett(acoustic: str, pcm: bytes) -> None:
    skip_where_unavailable(f"acoustic/{acoustic}")
    with pipeline(acoustic=acoustic, **PARTS) as opened:
        transcript = opened.transcribe(pcm)
    assert transcript.text == BECKETT
    assert transcript.steps == len(transcript.hypotheses[0].tokens) + 1
    assert [span.stage for span in transcript.spans] == ["ingest", "acoustic", "decode"]


def skip_where_unavailable(variant: str) -> None:
    if problem := get(variant).available():
        pytest.skip(f"{problem.reason} {problem.remedy}")


def test_beckett_by_the_peer(pcm: bytes) -> None:
    problem = get("peer/moonshine-cpp").available()
    if problem is not None:
        pytest.skip(f"{problem.reason} {problem.remedy}")
    with pipeline(peer="moonshine-cpp") as opened:
        assert opened.transcribe(pcm).text == BECKETT


def test_the_peer_is_not_loaded_by_a_cpu_that_its_library_would_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "features", lambda: frozenset({"avx2", "fma"}))
    lacks = pytest.raises(AmiraError, match="compiled for AVX-512 and does not ask; this CPU lacks avx512bw")
    with lacks, pipeline(peer="moonshine-cpp"):
        pass


@pytest.mark.parametrize(
    ("name", "tolerance"), [("ort@folded", 1e-4), ("ort@fp32", 1e-4), ("simd@fp32", 1e-4), ("ort@int8", 0.1)]
)
def test_encoder_equals_the_shipped_one(name: str, tolerance: float, samples: Float32) -> None:
    batch = AudioBatch(samples[:, :16_000], np.array([16_000]))
    with ExitStack() as stack:
        expected, found = (
            stack.enter_context(stack.enter_context(model(each)).encode(batch)).hidden for each in ("ort@shipped", name)
        )
        error = np.linalg.norm(found - expected) / np.linalg.norm(expected)
    assert error < tolerance


def logits(opened: EncoderDecoderModel, samples: Float32, groups: list[list[int]]) -> Float32:
    batch = AudioBatch(samples, np.array([samples.shape[1]]))
    with opened.encode(batch) as encoded, opened.open(encoded, 32) as state:
        return np.concatenate([opened.step(state, group).copy() for group in groups])


TOKENS = [1, 12, 345, 6_789, 29, 881]


@pytest.mark.parametrize("name", ["ort@fp32", "simd@fp32"])
def test_step_equals_the_merged_decoder(name: str, samples: Float32) -> None:
    one_by_one = [[token] for token in TOKENS]
    with model("ort@shipped") as shipped, model(name) as ours:
        expected = logits(shipped, samples[:, :32_000], one_by_one)
        np.testing.assert_allclose(logits(ours, samples[:, :32_000], one_by_one), expected, atol=2e-3)


@pytest.mark.parametrize("name", ["ort@fp32", "simd@fp32"])
@pytest.mark.parametrize("groups", [[TOKENS], [TOKENS[:1], TOKENS[1:4], TOKENS[4:]]])
def test_several_tokens_at_once_equal_one_by_one(groups: list[list[int]], name: str, samples: Float32) -> None:
    with model(name) as ours:
        expected = logits(ours, samples[:, :32_000], [[token] for token in TOKENS])
        np.testing.assert_allclose(logits(ours, samples[:, :32_000], groups), expected, atol=2e-3)


def test_a_rounded_step_gives_the_same_bits_however_many_tokens_it_takes(samples: Float32) -> None:
    skip_where_unavailable("acoustic/simd@int8")
    with model("simd@int8") as ours, model("simd@fp32") as exact:
        batch = AudioBatch(samples[:, :32_000], np.array([32_000]))
        tokens = [*TOKENS, *range(400, 434)]  # past a whole panel of keys
        with ours.encode(batch) as encoded, ours.open(encoded, 64) as state:
            expected = np.concatenate([ours.step(state, [token]).copy() for token in tokens])
            for group in (2, 5, 13):
                ours.rewind(state, 0)
                for start in range(0, len(tokens), group):
                    taken = tokens[start : start + group]
                    found = ours.step(state, [*taken, 7, 8])[: len(taken)]  # two that are taken back
                    assert np.array_equal(found, expected[start : start + group])
                    ours.rewind(state, start + len(taken))
        reference = logits(exact, samples[:, :32_000], [TOKENS])
    errors = np.linalg.norm(expected[: len(TOKENS)] - reference, axis=1) / np.linalg.norm(reference, axis=1)
    assert errors.max() < 0.1


def test_shortlist_has_the_same_best_tokens(samples: Float32) -> None:
    groups = [TOKENS]
    with model("ort@fp32") as full, model("ort-shortlist@fp32") as short:
        expected, found = (logits(each, samples[:, :32_000], groups) for each in (full, short))
    best = np.argsort(-expected, axis=1)[:, :10]
    np.testing.assert_allclose(
        np.take_along_axis(found, best, axis=1), np.take_along_axis(expected, best, axis=1), atol=2e-3
    )
    assert (found.argmax(axis=1) == best[:, 0]).all()


def test_int8_step_is_near_fp32(samples: Float32) -> None:
    groups = [[token] for token in TOKENS]
    with model("ort@fp32") as full, model("ort@int8") as small:
        expected, found = (logits(each, samples[:, :32_000], groups) for each in (full, small))
    assert np.linalg.norm(found - expected) < 0.1 * np.linalg.norm(expected)


@pytest.mark.parametrize("count", [2, 1_000, 1_599, 3_000])
def test_clips_shorter_than_a_word_are_legal(count: int) -> None:
    with pipeline(acoustic="ort@int8", **PARTS) as opened:
        assert isinstance(opened.transcribe(bytes(count * 2)).text, str)


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (0, "no audio"),
        (3, "even number of bytes, got 3"),
        (65 * 32_000, r"65\.0 s long.*at most 64 s.*amira transcribe"),
    ],
)
def test_audio_that_a_pipeline_refuses(size: int, message: str) -> None:
    with pipeline(acoustic="ort@int8", **PARTS) as opened, pytest.raises(AmiraError, match=message):
        opened.transcribe(bytes(size))


@pytest.mark.parametrize(
    ("variants", "message"),
    [
        ({"acoustic": "ort@int8"}, "no variant for: decoder, kernel, memory"),
        ({"peer": "moonshine-cpp", "kernel": "numpy"}, "does not use: kernel"),
        ({}, "no variant for"),
    ],
)
def test_pipelines_that_do_not_fit_together(variants: dict[str, str], message: str) -> None:
    with pytest.raises(AmiraError, match=message), pipeline(**variants):
        pass


def test_missing_models_say_how_to_build_them(tmp_path: Path) -> None:
    config = PipelineConfig(variants={"acoustic": "ort@fp32", **PARTS})
    with pytest.raises(AmiraError, match="amira models build"), open_pipeline(config, tmp_path):
        pass


@pytest.fixture
def built_copy(tmp_path: Path) -> Path:
    folder = tmp_path / NAME
    folder.mkdir()
    for file in (models_dir() / NAME).iterdir():
        (folder / file.name).hardlink_to(file)
    return folder


def replace_file(path: Path, data: bytes) -> None:
    path.unlink()  # it is a hard link to the real one
    path.write_bytes(data)


def test_a_file_with_a_wrong_hash_is_named(built_copy: Path) -> None:
    made = card.read(built_copy)
    assert made is not None
    card.check(built_copy, made)
    original = (built_copy / "cross.int8.onnx").read_bytes()
    replace_file(built_copy / "cross.int8.onnx", original[:-1] + b"\x00\x01")
    with pytest.raises(AmiraError, match=r"cross\.int8\.onnx does not match its card: expected sha256 .* --force"):
        card.check(built_copy, made)


def test_a_damaged_model_file_is_a_clear_error(built_copy: Path) -> None:
    replace_file(built_copy / "step.fp32.onnx", b"\x00" * 100)
    config = PipelineConfig(variants={"acoustic": "ort@fp32", **PARTS})
    with pytest.raises(AmiraError, match=r"cannot load .*step\.fp32\.onnx"), open_pipeline(config, built_copy.parent):
        pass


def test_package_files_are_checked_by_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "encoder_model.ort"
    shutil.copyfile(source.package_file(source.ENCODER.path), fake)
    with fake.open("r+b") as file:
        file.write(b"\x99")
    monkeypatch.setattr(source, "package_file", lambda relative: fake)
    with pytest.raises(AmiraError, match=r"sha256 .*, expected 9d1a19e044cbf89a.*make setup"):
        source.verified(source.ENCODER)


def test_a_whole_build_is_not_made_again(built_copy: Path) -> None:
    assert is_current(recipe(model_repo_dir(), DEFAULT), built_copy)
    before = {file.name: file.stat().st_mtime_ns for file in built_copy.iterdir()}
    said: list[str] = []
    make(recipe(model_repo_dir(), DEFAULT), built_copy.parent, said.append)
    assert said == [f"{NAME}: up to date"]
    assert {file.name: file.stat().st_mtime_ns for file in built_copy.iterdir()} == before


def test_an_incomplete_build_is_noticed(built_copy: Path) -> None:
    (built_copy / "encoder.int8.onnx").unlink()
    assert not is_current(recipe(model_repo_dir(), DEFAULT), built_copy)
