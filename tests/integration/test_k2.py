"""The real k2 against kaldi-decoder on the same graph; skipped, with the reason, where `make k2` was not run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from pipelines.contracts import LogProbs
from pipelines.decode.k2.decoder import K2, K2Decoder
from pipelines.decode.kaldi import Kaldi, KaldiDecoder
from pipelines.registry import Context
from tests.synthetic_ctc import model, peaky, sentence, small_graph

BEAM = 25.0


@pytest.fixture(scope="module")
def decoders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[K2Decoder, KaldiDecoder]]:
    for variant in (K2, Kaldi):
        if problem := variant.available():
            pytest.skip(f"{problem.reason} {problem.remedy}")
    graph = str(small_graph(tmp_path_factory.mktemp("graphs")).path)
    context = Context(Path(), "synthetic", 1, {"acoustic": model()})
    with ExitStack() as stack:
        yield (
            stack.enter_context(K2.open(context, graph=graph, beam=BEAM, nbest=4, lattice_beam=8.0)),
            stack.enter_context(Kaldi.open(context, graph=graph, beam=BEAM, nbest=4, lattice_beam=8.0)),
        )


def whole(values: np.ndarray) -> LogProbs:
    return LogProbs(values[None], np.array([len(values)]))


@pytest.mark.parametrize("seed", range(60))
def test_k2_and_kaldi_decoder_agree(decoders: tuple[K2Decoder, KaldiDecoder], seed: int) -> None:
    values = whole(peaky(sentence(seed, words=1 + seed % 9), seed, doubt=0.1 + seed / 60))
    [[ours, *_]], [[theirs, *_]] = (decoder.decode(values) for decoder in decoders)
    assert ours.text == theirs.text
    assert ours.score == pytest.approx(theirs.score, abs=0.01)
    assert ours.words == theirs.words


def test_a_clip_that_stops_inside_a_word(decoders: tuple[K2Decoder, KaldiDecoder]) -> None:
    values = whole(peaky("the cat lett", 1, doubt=0.01, lead=0))
    [[ours, *_]], [[theirs, *_]] = (decoder.decode(values) for decoder in decoders)
    assert ours.text == theirs.text != ""


def test_the_n_best_are_distinct_and_fall(decoders: tuple[K2Decoder, KaldiDecoder]) -> None:
    values = whole(peaky("the cats sat on a mat", 3, doubt=0.5))
    [drawn], [exact] = (decoder.decode(values) for decoder in decoders)
    texts, scores = [reading.text for reading in drawn], [reading.score for reading in drawn]
    assert len(set(texts)) == len(texts) == 4
    assert scores == sorted(scores, reverse=True)
    known = {reading.text: reading.score for reading in exact}
    for reading in drawn:
        if reading.text in known:
            assert reading.score == pytest.approx(known[reading.text], abs=0.02)
