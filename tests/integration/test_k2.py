"""The real k2 against kaldi-decoder on the same graph; skipped, with the reason, where `make k2` was not run."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from pipelines.contracts import LogProbs
from pipelines.decode.k2 import grammar
from pipelines.decode.k2.decoder import K2, K2Decoder, python
from pipelines.decode.k2.grammar import UNKNOWN_COST
from pipelines.decode.kaldi import Kaldi, KaldiDecoder
from pipelines.errors import AmiraError
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


OTHER_ARPA = """\\data\\
ngram 1=12
ngram 2=6

\\1-grams:
-99 <s> -0.5
-0.6 </s>
-1.9 the -0.4
-1.4 cat -0.2
-0.9 sat -0.3
-1.0 on
-0.8 that -0.3
-0.7 cats -0.2
-2.0 a
-1.1 an
-0.9 ant -0.1
-1.2 tea

\\2-grams:
-0.3 <s> that
-0.5 that cats
-0.4 cats sat
-0.6 the cats
-0.4 an ant
-0.3 ant </s>

\\end\\
"""


def other_log_prob(text: str) -> float:
    """Natural log-probability of a text under `OTHER_ARPA` as the rescoring counts it, worked out from its lines."""
    unigrams: dict[str, tuple[float, float]] = {}
    bigrams: dict[tuple[str, str], float] = {}
    for line in OTHER_ARPA.splitlines():
        fields = line.split()
        if len(fields) in (2, 3) and fields[0].startswith("-"):
            if len(fields) == 3 and not fields[2].startswith("-"):
                bigrams[fields[1], fields[2]] = float(fields[0])
            else:
                unigrams[fields[1]] = (float(fields[0]), float(fields[2]) if len(fields) == 3 else 0.0)
    total, before = 0.0, "<s>"
    for word in [*text.split(), "</s>"]:
        backoff = unigrams[before][1] if before in unigrams else 0.0
        if (before, word) in bigrams:
            total += bigrams[before, word] * np.log(10)
        elif word in unigrams:
            total += (backoff + unigrams[word][0]) * np.log(10)
        else:
            total += backoff * np.log(10) - UNKNOWN_COST
        before = word
    return total


@pytest.mark.parametrize("weight", [0.0, 0.6, 2.0])
def test_a_lattice_is_rescored_as_its_readings_would_be_one_by_one(tmp_path: Path, weight: float) -> None:
    for variant in (K2, Kaldi):
        if problem := variant.available():
            pytest.skip(f"{problem.reason} {problem.remedy}")
    graph = str(small_graph(tmp_path / "graphs").path)
    (tmp_path / "other.arpa").write_text(OTHER_ARPA, "utf-8")
    context = Context(Path(), "synthetic", 1, {"acoustic": model()})
    options = {"graph": graph, "beam": BEAM, "lattice_beam": 10.0}
    changed = 0
    with (
        K2.open(
            context, **options, nbest=3, rescore_lm=str(tmp_path / "other.arpa"), rescore_weight=weight
        ) as rescored,
        Kaldi.open(context, **options, nbest=100) as plain,
    ):
        for seed in range(8):
            values = whole(peaky(sentence(seed, words=3), seed, doubt=0.6))
            [readings], [found] = plain.decode(values), rescored.decode(values)
            scores = {one.text: one.score + weight * other_log_prob(one.text) for one in readings}
            best = max(scores, key=scores.__getitem__)
            # The two lattices differ at their edges: k2 may have kept a reading that is better still.
            assert found[0].text == best or (found[0].text not in scores and found[0].score > scores[best])
            assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
            for one in found:
                if one.text in scores:
                    assert one.score == pytest.approx(scores[one.text], abs=0.02)
            changed += best != readings[0].text
    assert (changed > 0) == (weight > 0)


def test_a_grammar_that_fits_no_word_of_the_graph_is_refused(tmp_path: Path) -> None:
    folder = small_graph(tmp_path / "graphs")
    strange = "\\data\\\nngram 1=3\n\n\\1-grams:\n-99 <s>\n-0.3 </s>\n-0.5 zebra\n\n\\end\\\n"
    (tmp_path / "strange.arpa").write_text(strange, "utf-8")
    with pytest.raises(AmiraError, match="no word of language model"):
        grammar.load(str(tmp_path / "strange.arpa"), folder)
    with pytest.raises(AmiraError, match="does not exist"):
        grammar.load(str(tmp_path / "nothing.arpa"), folder)


def test_a_device_that_is_not_there_is_named(decoders: tuple[K2Decoder, KaldiDecoder], tmp_path: Path) -> None:
    probe = "import k2, torch, sys; sys.exit(k2.with_cuda and torch.cuda.is_available())"
    if subprocess.run([str(python()), "-c", probe], check=False).returncode:
        pytest.skip("there is a GPU that k2 can use")
    graph = str(small_graph(tmp_path / "graphs").path)
    context = Context(Path(), "synthetic", 1, {"acoustic": model()})
    refused = pytest.raises(AmiraError, match=r"device 'cuda' cannot be had: .*Use device 'cpu'")
    with refused, K2.open(context, graph=graph, device="cuda"):
        pass
