"""Every CTC decoder, whoever registered it: streams, batches, and bad input."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kernels.kernel_set import KernelSet
from pipelines import registry
from pipelines.contracts import Decoder, ExpectingDecoder, LogProbs
from pipelines.decode.ctc import CtcDecoder
from pipelines.errors import AmiraError
from pipelines.registry import Context
from tests.contract.options import needed_options
from tests.small_ctc import LABELS
from tests.synthetic_ctc import model, peaky, sentence

DECODERS = [name for name in registry.ids("decoder") if "ctc" in registry.get(name).families]
STREAMING = settings(
    max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module", params=DECODERS)
def decoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Decoder]:
    variant = registry.get(request.param)
    problem = variant.available()
    if problem is not None:
        pytest.skip(f"{problem.reason} {problem.remedy}")
    parts: dict[str, Any] = {"acoustic": model(), "kernel": KernelSet("scalar")}
    context = Context(Path(), "synthetic", 1, parts)
    with ExitStack() as stack:
        opened = stack.enter_context(variant.open(context, **needed_options(variant, tmp_path_factory.mktemp("graph"))))
        if isinstance(opened, ExpectingDecoder):
            pytest.skip("it follows a text and is tested with texts: tests/unit/test_reading.py")
        yield opened


def whole(values: np.ndarray) -> LogProbs:
    return LogProbs(values[None], np.array([len(values)]))


@pytest.mark.parametrize("seed", range(5))
def test_reads_what_was_said(decoder: Decoder, seed: int) -> None:
    text = sentence(seed)
    [[best, *_]] = decoder.decode(whole(peaky(text, seed, doubt=0.01)))
    assert best.text == text
    assert [word.text for word in best.words] == text.split()
    assert all(first.end_s <= second.start_s for first, second in pairwise(best.words))
    assert best.words[0].start_s == pytest.approx(0.072)


@STREAMING
@given(seed=st.integers(0, 10_000), doubt=st.floats(0, 0.8), cuts=st.lists(st.integers(0, 300), max_size=40))
def test_a_stream_ends_as_the_whole_clip_does(decoder: Decoder, seed: int, doubt: float, cuts: list[int]) -> None:
    values = peaky(sentence(seed, words=4), seed, doubt=doubt)
    edges = sorted({0, len(values), *(cut for cut in cuts if cut < len(values))})
    stream, buffer = decoder.stream(), np.empty((len(values), values.shape[1]), np.float32)
    stable = ""
    for start, end in pairwise(edges):
        chunk = buffer[: end - start]
        chunk[:] = values[start:end]
        partial = stream.push(chunk)
        chunk[:] = np.nan  # the array is the caller's: the decoder must not look at it again
        assert partial.text[: len(stable)] == stable
        assert len(stable) <= partial.stable_chars <= len(partial.text)
        stable = partial.text[: partial.stable_chars]
    streamed = stream.finish()
    [offline] = decoder.decode(whole(values))
    assert [reading.text for reading in streamed] == [reading.text for reading in offline]
    assert streamed[0].tokens == offline[0].tokens
    assert streamed[0].score == pytest.approx(offline[0].score, rel=1e-4)
    assert streamed[0].words == offline[0].words
    assert streamed[0].text.startswith(stable)


def test_some_of_it_is_stable_before_the_end(decoder: CtcDecoder) -> None:
    if not decoder.incremental:
        pytest.skip("this peer decodes a stream at its end")
    values = peaky(sentence(1, words=12), 1, doubt=0.01)
    stream = decoder.stream()
    lengths = [stream.push(values[start : start + 7]).stable_chars for start in range(0, len(values), 7)]
    assert lengths[len(lengths) // 2] > 0


def test_streams_do_not_mix(decoder: Decoder) -> None:
    texts = [sentence(seed, words=4) for seed in (1, 2)]
    chunks = [np.array_split(peaky(text, 5, doubt=0.01), 9) for text in texts]
    streams = [decoder.stream() for _ in texts]
    for step in range(9):
        for stream, parts in zip(streams, chunks, strict=True):
            stream.push(parts[step])
    assert [stream.finish()[0].text for stream in streams] == texts


def test_a_batch_gives_what_its_clips_give(decoder: Decoder) -> None:
    clips = [peaky(sentence(seed, words=seed), seed) for seed in (2, 5, 3)]
    lengths = [len(clip) for clip in clips]
    values = np.full((3, max(lengths), len(LABELS)), np.nan, np.float32)  # nobody may look beyond a clip's end
    for row, clip in enumerate(clips):
        values[row, : len(clip)] = clip
    together = decoder.decode(LogProbs(values, np.array(lengths)))
    assert together == [decoder.decode(whole(clip))[0] for clip in clips]


def test_nothing_and_one_frame(decoder: Decoder) -> None:
    nothing = np.empty((0, len(LABELS)), np.float32)
    [[empty, *_]] = decoder.decode(whole(nothing))
    assert (empty.text, empty.tokens, empty.words) == ("", (), ())
    stream = decoder.stream()
    assert stream.push(nothing).text == ""
    assert stream.finish()[0].text == ""
    silence = np.full((1, len(LABELS)), np.log(0.001), np.float32)
    silence[0, 0] = np.log(0.97)
    [[best, *_]] = decoder.decode(whole(silence))
    assert best.text == ""
    assert decoder.decode(LogProbs(np.empty((0, 5, len(LABELS)), np.float32), np.empty(0, np.int64))) == []


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_none(decoder: Decoder, value: float) -> None:
    values = peaky("a cat", 1)
    values[7, 3] = value
    with pytest.raises(AmiraError, match=rf"clip 0 hold {value}, first at frame 7, label 3: .*fp32"):
        decoder.decode(whole(values))
    stream = decoder.stream()
    stream.push(values[:5])
    with pytest.raises(AmiraError, match=r"the chunk from frame 5 on hold .* frame 2, label 3"):
        stream.push(values[5:])
    [[best, *_]] = decoder.decode(whole(peaky("a cat", 1, doubt=0.01)))
    assert best.text == "a cat"  # it goes on as if nothing had been


def test_impossible_labels_are_no_error(decoder: Decoder) -> None:
    values = peaky("a cat", 1, doubt=0.01)
    values[values < np.log(0.01)] = -np.inf
    [[best, *_]] = decoder.decode(whole(values))
    assert best.text == "a cat"
    assert np.isfinite(best.score)


def test_frames_without_any_possible_label(decoder: Decoder) -> None:
    values = peaky("a cat", 1, doubt=0.01)
    values[:2] = -np.inf
    [[best, *_]] = decoder.decode(whole(values))
    assert isinstance(best.text, str)


def test_a_vocabulary_of_another_size(decoder: Decoder) -> None:
    values = np.full((1, 5, 40), np.log(1 / 40), np.float32)
    with pytest.raises(AmiraError, match="over 40 labels, the vocabulary has 29"):
        decoder.decode(LogProbs(values, np.array([5])))
    with pytest.raises(AmiraError, match="over 40 labels"):
        decoder.stream().push(values[0])


def test_arrays_of_the_wrong_kind(decoder: Decoder) -> None:
    values = peaky("a", 1)
    with pytest.raises(ValueError, match="float64"):
        decoder.decode(whole(values.astype(np.float64)))
    with pytest.raises(ValueError, match="must be \\(batch, frames, vocabulary\\)"):
        decoder.decode(LogProbs(values, np.array([1])))
    with pytest.raises(ValueError, match="clip 0 has 99 frames"):
        decoder.decode(LogProbs(values[None], np.array([99])))


def test_a_finished_stream(decoder: Decoder) -> None:
    stream = decoder.stream()
    stream.push(peaky("a", 1))
    stream.finish()
    with pytest.raises(ValueError, match="was finished"):
        stream.push(peaky("a", 1))
    with pytest.raises(ValueError, match="was finished"):
        stream.finish()
