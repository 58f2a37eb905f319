"""The contract suite: every registered variant, whoever registered it, keeps its axis's contract.

A new axis needs a check here before a variant of it can pass.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines import registry
from pipelines.acoustic.tokens import TokenList
from pipelines.config import PipelineConfig, default_config
from pipelines.contracts import (
    AcousticModel,
    AedDecoder,
    AudioBatch,
    CtcVocabulary,
    Decoder,
    EncoderDecoderModel,
    ExpectingDecoder,
    Hypothesis,
    LogProbs,
    Recognizer,
    StreamingAcousticModel,
    Trace,
)
from pipelines.errors import AmiraError
from pipelines.paths import models_dir
from pipelines.registry import Context
from pipelines.streaming import Opener
from tests.contract.options import needed_options
from tests.small_ctc import LABELS, write_small_ctc, write_small_stream

STREAMING = ("vad", "partials", "finals")
ORDER = ("memory", "kernel", "acoustic", "decoder")


CTC_BELOW = {"memory": "memory/pooled", "kernel": "kernel/scalar", "acoustic": "acoustic/ort@fp32"}


@pytest.fixture(scope="session")
def triton() -> Iterator[None]:
    """One server for all variants that want one; that each can start its own is tested elsewhere."""
    from pipelines.triton import environment, repository, variants
    from pipelines.triton.server import ServerSpec, TritonServer

    if environment.problem() is not None:
        yield  # the variants say so themselves
        return
    models = ("preprocessor", "moonshine-encoder", "moonshine-encoder-int8")
    with TritonServer(ServerSpec(repository.served(), models)) as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv(variants.URL_VARIABLE, server.url)
        yield


@contextmanager
def small_ctc_on_triton(folder: Path, parts: dict[str, Any]) -> Iterator[Context]:
    """The context of the small CTC model, which a Triton of its own serves with the repository's configuration."""
    from pipelines.triton import repository, variants
    from pipelines.triton.server import ServerSpec, TritonServer

    names = ("small", "small-int8")
    for name in names:
        (folder / "served" / name / "1").mkdir(parents=True)
        shutil.copy2(folder / "model.onnx", folder / "served" / name / "1" / "model.onnx")
        shutil.copy2(repository.served() / "moonshine-ctc" / "config.pbtxt", folder / "served" / name)
    (folder / "small").symlink_to(folder)
    with TritonServer(ServerSpec(folder / "served", names)) as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv(variants.URL_VARIABLE, server.url)
        yield Context(models_dir(), str(folder / "small"), 1, parts)


@contextmanager
def opened(
    variant_id: str, family: str, folder: Path, write: Callable[[Path], Path] = write_small_ctc
) -> Iterator[Any]:
    """The variant's resource, on top of the parts that come before it; skips where it cannot run.

    Without a family, or for `aed`, that is the default pipeline; for `ctc` it is a small model in `folder`.
    """
    variant = registry.get(variant_id)
    problem = variant.available()
    if problem is not None:
        pytest.skip(f"{problem.reason} {problem.remedy}")
    axis = variant_id.partition("/")[0]
    parts: dict[str, Any] = {}
    ctc = family == "ctc"
    model = str(write(folder)) if ctc else default_config().model
    variants = CTC_BELOW if ctc else default_config().variants
    context = Context(models_dir(), model, 1, parts)
    with ExitStack() as stack:
        if ctc and variant.needs:
            context = stack.enter_context(small_ctc_on_triton(folder, parts))
        for other in variant.needs:
            parts[other] = stack.enter_context(registry.get(registry.ids(other)[0]).open(context))
        if axis in ORDER:
            for below in ORDER[: ORDER.index(axis)]:
                parts[below] = stack.enter_context(registry.get(variants[below]).open(context))
        if axis in STREAMING:
            second = Opener(default_config(), models_dir())
            first = streaming_pipeline(folder) if variant_id == "partials/streaming" else None
            parts |= {"first": Opener(first, models_dir()), "second": second.pipeline, "second_parts": second.parts}
        yield stack.enter_context(variant.open(context, **needed_options(variant, folder)))


def streaming_pipeline(folder: Path) -> PipelineConfig:
    """A small streaming model and its decoder."""
    model = str(write_small_stream(folder / "stream"))
    return PipelineConfig(model=model, variants={**CTC_BELOW, "decoder": "decoder/greedy"})


def tone(seconds: float) -> np.ndarray:
    """A voice-like buzz: harmonics of 120 Hz under a slow envelope; int16."""
    t = np.arange(round(seconds * 16_000)) / 16_000
    wave = sum(np.sin(2 * np.pi * 120 * k * t) / k for k in range(1, 20)) * np.sin(2 * np.pi * 3 * t) ** 2
    return (wave / np.abs(wave).max() * 8_000).astype("<i2")


def check_kernel(kernels: Any) -> None:
    from pipelines.contracts import Kernels

    assert isinstance(kernels, Kernels)
    rng = np.random.default_rng(0)
    samples = rng.integers(-32768, 32768, 1_601, np.int16)
    for count in (0, 1, 15, 16, 17, 1_601):
        pcm = samples[:count].astype("<i2").tobytes()
        out = np.full(count, np.nan, np.float32)
        kernels.pcm16_to_float32(pcm, out)
        np.testing.assert_array_equal(out, samples[:count] / np.float32(32768))
        ring = np.zeros(2_000, np.float32)
        assert kernels.pcm16_into_ring(pcm, ring, 1_500) == (1_500 + count) % 2_000
        np.testing.assert_array_equal(np.roll(ring, -1_500)[:count], out)
    with pytest.raises(ValueError, match="even number of bytes"):
        kernels.pcm16_to_float32(b"\x00\x00\x00", np.empty(1, np.float32))
    with pytest.raises(ValueError, match="out must be"):
        kernels.pcm16_to_float32(b"\x00\x00", np.empty(2, np.float32))
    telephone = np.empty(2, np.float32)
    kernels.mulaw_to_float32(b"\x80\x00", telephone)
    assert telephone.tolist() == [32124 / 32768, -32124 / 32768]
    kernels.alaw_to_float32(b"\xaa\x2a", telephone)
    assert telephone.tolist() == [32256 / 32768, -32256 / 32768]

    x = rng.standard_normal((5, 37)).astype(np.float32)
    labels, values, indices = np.empty(5, np.int64), np.empty((5, 3), np.float32), np.empty((5, 3), np.int64)
    kernels.argmax(x, labels)
    assert labels.tolist() == x.argmax(axis=1).tolist()
    kernels.top_k(x, values, indices)
    assert indices.tolist() == np.argsort(-x, axis=1)[:, :3].tolist()
    scores = np.empty_like(x)
    kernels.log_softmax(x, scores)
    np.testing.assert_allclose(np.exp(scores).sum(axis=1), 1, rtol=1e-5)
    turned = np.empty((1, 37, 5), np.float32)
    kernels.transpose(x[None], turned)
    np.testing.assert_array_equal(turned[0], x.T)

    scores[:] = np.log(0.01)
    scores[np.arange(5), [4, 4, 0, 4, 9]] = np.log([0.5, 0.75, 0.9, 1.0, 0.25])
    carry, tokens, frames = np.array([0]), np.empty(5, np.int64), np.empty((5, 2), np.int64)
    confidences = np.empty(5, np.float32)
    assert kernels.ctc_greedy(scores, 0, carry, tokens, confidences, frames) == 3
    assert (tokens[:3].tolist(), frames[:3].tolist(), carry.tolist()) == ([4, 4, 9], [[0, 1], [3, 3], [4, 4]], [9])
    np.testing.assert_allclose(confidences[:3], [0.75, 1.0, 0.25], rtol=1e-6)
    energies = np.empty((1, 2), np.float32)
    bank = np.array([1, 2, 3], np.float32), np.array([0, 3]), np.array([2, 4])
    kernels.log_mel(np.array([[1, 2, 9, 0]], np.float32), *bank, 0.0, 0.5, energies)
    np.testing.assert_allclose(energies, np.log([[5, 0.5]]), rtol=1e-6)


def check_memory(buffers: Any) -> None:
    with buffers.lease((3, 5), np.float32) as first, buffers.lease((3, 5), np.int64) as second:
        assert (first.shape, first.dtype) == ((3, 5), np.float32)
        assert (second.shape, second.dtype) == ((3, 5), np.int64)
        assert first.flags.c_contiguous
        assert first.flags.writeable
        assert not np.shares_memory(first, second)
    with buffers.lease((0, 4), np.float32) as empty:
        assert empty.size == 0


def check_ctc_acoustic(model: Any) -> None:
    assert isinstance(model, AcousticModel)
    assert isinstance(model.vocabulary, CtcVocabulary)
    assert model.vocabulary.piece(model.vocabulary.blank) == ""
    model.warm_up()
    voice = (tone(1.0) / 32768).astype(np.float32)
    lengths = np.array([16_000, 9_000, 100])
    samples = np.zeros((3, 16_000), np.float32)
    for row, length in enumerate(lengths):
        samples[row, :length] = voice[:length]
    found = model.infer(AudioBatch(samples, lengths))
    values, frames = found.values.copy(), found.lengths.copy()
    assert values.dtype == np.float32
    assert values.shape == (3, frames[0], len(model.vocabulary))
    assert frames[0] == pytest.approx(1.0 / model.frame_shift_s, abs=3)
    assert frames[2] == 0
    np.testing.assert_allclose(np.exp(values[0]).sum(axis=1), 1, rtol=1e-4)
    for row, length in enumerate(lengths):
        alone = model.infer(AudioBatch(np.ascontiguousarray(samples[row : row + 1, :length]), lengths[row : row + 1]))
        assert alone.lengths.tolist() == [frames[row]]
        np.testing.assert_allclose(alone.values[0, : frames[row]], values[row, : frames[row]], atol=1e-3)


def check_streaming(model: Any) -> None:
    """For acoustic variants of CTC models, on one with a streaming card."""
    assert isinstance(model, StreamingAcousticModel)
    assert model.lookahead_samples >= 0
    model.warm_up()
    size = model.chunk_samples
    voice = (tone(1.0) / 32768).astype(np.float32)
    states = [model.open(), model.open()]
    whole = AudioBatch(np.stack([voice[:size], voice[size : 2 * size]]), np.array([size, size]))
    first = model.infer_chunk(states, whole).values.copy()
    assert first.shape == (2, round(size / 16_000 / model.frame_shift_s), len(model.vocabulary))
    np.testing.assert_allclose(np.exp(first).sum(axis=2), 1, rtol=1e-4)
    alone = model.open()
    for row, expected in ((0, first[0]), (1, None)):
        found = model.infer_chunk([alone], AudioBatch(whole.samples[row : row + 1], np.array([size])))
        if expected is not None:
            np.testing.assert_allclose(found.values[0], expected, atol=1e-3)
    assert not np.allclose(found.values[0], first[1], atol=1e-3)  # it remembers what came before
    last = model.infer_chunk(states[:1], AudioBatch(whole.samples[:1, :100], np.array([100])))
    assert last.lengths.tolist() == [1]
    with pytest.raises(ValueError, match="last chunk"):
        model.infer_chunk(states, whole)
    with pytest.raises(ValueError, match="twice"):
        model.infer_chunk([states[1], states[1]], whole)
    for state in (*states, alone):
        state.close()


def check_ctc_decoder(decoder: Decoder, vocabulary: Any) -> None:
    ids = [index for index in range(len(vocabulary)) if vocabulary.piece(index).isalpha()][:3]
    [space] = [index for index in range(len(vocabulary)) if vocabulary.piece(index) == " "]
    a, b, _ = ids
    path = [vocabulary.blank, a, a, vocabulary.blank, a, space, b, b]
    values = np.full((2, len(path), len(vocabulary)), np.log(0.001), np.float32)
    values[0, np.arange(len(path)), path] = np.log(0.95)
    values[1] = values[0]
    letter, other = vocabulary.piece(a), vocabulary.piece(b)
    if isinstance(decoder, ExpectingDecoder):
        decoder = decoder.expecting(f"{letter}{letter} {other}")
    both = decoder.decode(LogProbs(values, np.array([8, 3])))
    first, second = (hypotheses[0] for hypotheses in both)
    assert (first.text, second.text) == (f"{letter}{letter} {other}", letter)
    assert first.text == vocabulary.text(first.tokens)
    if first.words:
        assert [word.text for word in first.words] == first.text.split()
        assert all(0 <= word.start_s < word.end_s for word in first.words)
        assert all(0 < word.confidence <= 1 for word in first.words)
    [(empty, *_)] = decoder.decode(LogProbs(values[:1], np.array([0])))
    assert empty.text == ""


def check_acoustic(model: Any) -> None:
    assert isinstance(model, EncoderDecoderModel)
    assert model.frame_shift_s == pytest.approx(0.024)
    model.warm_up()
    samples = (tone(1.0) / 32768).astype(np.float32)[None]
    logits = []
    for _ in range(2):
        batch = AudioBatch(samples, np.array([samples.shape[1]]))
        with model.encode(batch) as encoded, model.open(encoded, 3) as state:
            assert encoded.hidden.shape[:2] == (1, encoded.lengths[0])
            assert encoded.hidden.shape[1] == pytest.approx(1.0 / model.frame_shift_s, abs=3)
            assert encoded.audio_s == (1.0,)
            assert np.isfinite(encoded.hidden).all()
            rows = [model.step(state, [token])[-1].copy() for token in (model.start_token, 5, 6)]
            assert all(row.dtype == np.float32 and row.ndim == 1 and np.isfinite(row).all() for row in rows)
            assert rows[0].size >= len(model.vocabulary)
            with pytest.raises(ValueError, match="state holds 3"):
                model.step(state, [7])
            model.rewind(state, 1)
            np.testing.assert_allclose(model.step(state, [5])[-1], rows[1], atol=1e-4)
            with pytest.raises(ValueError, match="2 were fed"):
                model.rewind(state, 3)
        logits.append(np.stack(rows))
    np.testing.assert_array_equal(*logits)  # a clip does not depend on the one before it
    with pytest.raises(ValueError, match="samples"), model.encode(AudioBatch(samples[:, :100], np.array([100]))):
        pass


def check_decoder(decoder: AedDecoder) -> None:
    [acoustic] = {registry.get(default_config().variants["acoustic"])}
    parts: dict[str, Any] = {}
    context = Context(models_dir(), default_config().model, 1, parts)
    with ExitStack() as stack:
        parts["memory"] = stack.enter_context(registry.get("memory/fresh").open(context))
        model = stack.enter_context(acoustic.open(context))
        samples = (tone(2.0) / 32768).astype(np.float32)[None]
        encoded = stack.enter_context(model.encode(AudioBatch(samples, np.array([samples.shape[1]]))))
        [first, *_], steps = decoder.decode(encoded)
        [again, *_], _ = decoder.decode(encoded)
        assert first.text == again.text == model.vocabulary.text(first.tokens)
        assert model.end_token not in first.tokens
        assert 1 <= steps <= 2.0 * model.max_tokens_per_s + 1


def check_peer(recognizer: Recognizer) -> None:
    recognizer.warm_up()
    trace = Trace()
    [best, *_], steps = recognizer.recognize(tone(1.0).tobytes(), trace)
    assert isinstance(best.text, str)
    assert steps >= 0
    assert next(span.stage for span in trace) == "ingest"
    assert all(span.duration_ns > 0 for span in trace)


def check_allocator(name: str) -> None:
    from pipelines.allocators import process

    assert name.split()[0] in process.name()
    before = process.live_bytes()
    assert before is not None
    block = bytearray(32 << 20)
    grown = process.live_bytes()
    assert grown is not None
    assert 32 << 20 <= grown - before < 48 << 20
    del block


def check_pages(moved: int) -> None:
    assert moved % (2 << 20) == 0
    rollup = Path("/proc/self/smaps_rollup").read_text("ascii")
    [huge_kib] = [int(line.split()[1]) for line in rollup.splitlines() if line.startswith("AnonHugePages:")]
    assert huge_kib * 1024 >= moved


def check_vad(detector: Any) -> None:
    """A stream's judgements do not depend on which others are in its batch."""
    rng = np.random.default_rng(0)
    speech = np.resize(tone(1.0), (4, detector.chunk_samples))
    noise = rng.integers(-3_000, 3_000, speech.shape).astype(np.int16)
    alone, first, second = (detector.open() for _ in range(3))
    for chunk, other in zip(speech, noise, strict=True):
        [lone] = detector.probabilities([alone], chunk[None])
        both = detector.probabilities([first, second], np.stack([chunk, other]))
        assert both.dtype == np.float32
        assert ((both >= 0) & (both <= 1)).all()
        np.testing.assert_allclose(both[0], lone, atol=1e-5)


def check_partials(partials: Any) -> None:
    """A first pass hears segments in a batch as each alone; a growing one costs a bounded number of goes."""
    if partials.regrow is not None:
        length, goes = partials.regrow.step, 1
        while length < 20 * 16_000:
            length, goes = partials.regrow.next_length(length), goes + 1
        assert goes < 20
    passed = partials.first_pass
    if passed is None:
        return
    wave = tone(2.0)
    chunks = [wave[at : at + passed.chunk_samples].tobytes() for at in range(0, wave.size, passed.chunk_samples)]
    alone, one, other = (passed.open() for _ in range(3))
    for chunk in chunks:
        [lone] = passed.push([alone], [chunk])
        both = passed.push([one, other], [chunk, bytes(len(chunk))])
        assert both[0] == lone
        assert 0 <= lone.stable_chars <= len(lone.text)
    assert passed.finish(alone)[0].text == passed.finish(one)[0].text
    passed.close(other)


def check_finals(finals: Any) -> None:
    draft = (Hypothesis("a draft", (), 0.0),)
    assert isinstance(finals.settle(tone(1.0).tobytes(), draft).text, str)


def check_connection(service: Any) -> None:
    from pipelines.resilience import Deadline, DeadlineExceededError, ServiceError

    service.need("preprocessor")
    pcm = tone(0.16)[None]
    for count in (1, 160, pcm.size):
        [waveform] = service.infer("preprocessor", {"pcm": pcm[:, :count].copy()}, ("waveform",)).outputs.values()
        np.testing.assert_array_equal(waveform, pcm[:, :count] / np.float32(32_768))
    reply = service.infer("preprocessor", {"pcm": pcm}, ("waveform",))
    service.infer("preprocessor", {"pcm": pcm // 2}, ("waveform",))
    np.testing.assert_array_equal(reply.outputs["waveform"], pcm / np.float32(32_768))  # not overwritten
    marks = [reply.marks_ns[name] for name in ("start", "leased", "serialised", "received", "end")]
    assert marks == sorted(marks)
    for model, name, value, message in (
        ("preprocessor", "wave", pcm, "unexpected inference input 'wave'"),
        ("preprocessor", "pcm", pcm.astype(np.float32), "expects 'INT16'"),
        ("preprocessor", "pcm", pcm[..., None], "unexpected shape for input 'pcm'"),
        ("preproc", "pcm", pcm, "has no model 'preproc'"),
    ):
        with pytest.raises(ServiceError, match=message) as told:
            service.infer(model, {name: value}, ("waveform",))
        assert not told.value.retryable
    with pytest.raises(ValueError, match="Send less at once"):
        service.infer("preprocessor", {"pcm": np.zeros((1, 40 << 20), np.int16)}, ("waveform",))
    with pytest.raises(DeadlineExceededError):
        service.infer("preprocessor", {"pcm": pcm}, ("waveform",), Deadline.after(0))
    service.infer("preprocessor", {"pcm": pcm}, ("waveform",))  # nothing of that broke it


CHECKS: dict[tuple[str, str], Callable[[Any], None]] = {
    ("connection", ""): check_connection,
    ("kernel", ""): check_kernel,
    ("memory", ""): check_memory,
    ("acoustic", "aed"): check_acoustic,
    ("acoustic", "ctc"): check_ctc_acoustic,
    ("decoder", "aed"): check_decoder,
    ("decoder", "ctc"): lambda decoder: check_ctc_decoder(decoder, TokenList(LABELS, 0)),
    ("peer", ""): check_peer,
    ("pages", ""): check_pages,
    ("allocator", ""): check_allocator,
    ("vad", ""): check_vad,
    ("partials", ""): check_partials,
    ("finals", ""): check_finals,
}
"""By axis and, where it has several, family of model."""


@pytest.mark.parametrize("variant_id", registry.ids())
def test_says_what_it_is(variant_id: str) -> None:
    variant = registry.get(variant_id)
    assert variant.id == variant_id
    assert 10 < len(variant.summary) < 120
    problem = variant.available()
    if problem is not None:
        assert problem.reason
        assert problem.remedy


@pytest.mark.parametrize("variant_id", registry.ids())
def test_refuses_an_unknown_option(variant_id: str) -> None:
    variant = registry.get(variant_id)
    if variant.available() is not None:
        pytest.skip("cannot run here")
    with pytest.raises(AmiraError, match="no_such_option"):
        variant.open(Context(models_dir(), "moonshine-aed", 1, {}), no_such_option=1)


@pytest.mark.models
@pytest.mark.parametrize(
    ("variant_id", "family"),
    [(name, family) for name in registry.ids() for family in registry.get(name).families or ("",)],
)
def test_keeps_the_contract_of_its_axis(
    variant_id: str, family: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if "connection" in (*registry.get(variant_id).needs, variant_id.partition("/")[0]):
        request.getfixturevalue("triton")
    if needs := missing_from_this_process(variant_id):
        in_a_fresh_process(variant_id, family, needs)
        return
    check = CHECKS[variant_id.partition("/")[0], family]
    with opened(variant_id, family, tmp_path) as resource:
        check(resource)


@pytest.mark.models
@pytest.mark.parametrize(
    "variant_id",
    [
        v
        for v in registry.ids("acoustic")
        if "ctc" in registry.get(v).families and "connection" not in registry.get(v).needs
    ],
)
def test_streams(variant_id: str, tmp_path: Path) -> None:
    with opened(variant_id, "ctc", tmp_path, write_small_stream) as resource:
        check_streaming(resource)


def missing_from_this_process(variant_id: str) -> dict[str, str]:
    """What a process that opens the variant must be started with, and this one was not."""
    variant = registry.get(variant_id)
    if variant.available() is not None:
        return {}
    wanted = variant.process_environment(os.environ)
    return {name: value for name, value in wanted.items() if os.environ.get(name) != value}


def in_a_fresh_process(variant_id: str, family: str, environment: dict[str, str]) -> None:
    """Run the contract test of this variant in a process that is started as the variant wants it."""
    this = f"{__file__}::test_keeps_the_contract_of_its_axis[{variant_id}-{family}]"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", this]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_every_axis_can_be_configured() -> None:
    for axis in registry.axes():
        assert any(axis == checked for checked, _ in CHECKS)
        PipelineConfig(variants={axis: registry.ids(axis)[0]})
