"""Searches of a decoding graph: against each other, against every word sequence, and on damaged graphs."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from pydantic import ValidationError

from pipelines.acoustic.tokens import TokenList
from pipelines.contracts import LogProbs
from pipelines.decode import openfst, wfst
from pipelines.decode.graph import collapse
from pipelines.decode.kaldi import KaldiDecoder, KaldiOptions
from pipelines.decode.wfst import WfstDecoder, WfstOptions
from pipelines.errors import AmiraError
from pipelines.graphs.folder import GraphFolder
from tests.small_ctc import LABELS
from tests.synthetic_ctc import model, peaky, sentence, small_graph

pytest.importorskip("kaldi_decoder", reason="needs the extra 'wfst'")


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> GraphFolder:
    return small_graph(tmp_path_factory.mktemp("graphs"))


def whole(values: np.ndarray) -> LogProbs:
    return LogProbs(values[None], np.array([len(values)]))


def test_the_reader_finds_what_openfst_finds(graph: GraphFolder) -> None:
    import kaldifst

    ours, theirs = openfst.read(graph.fst_path), graph.read_fst()
    assert (ours.start, ours.finals.size) == (theirs.start, theirs.num_states)
    at = 0
    for state in range(theirs.num_states):
        assert ours.finals[state] == np.float32(theirs.final(state).value)
        for arc in kaldifst.ArcIterator(theirs, state):
            row = (ours.sources[at], ours.inputs[at], ours.outputs[at], ours.costs[at], ours.targets[at])
            assert row == (state, arc.ilabel, arc.olabel, np.float32(arc.weight.value), arc.nextstate)
            at += 1
    assert at == ours.costs.size


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data[:-4], "cut short"),
        (lambda data: data[:30], "not a transducer"),
        (lambda data: b"", "not a transducer"),
        (lambda data: b"some text that is no transducer", "does not begin as OpenFst"),
        (lambda data: data.replace(b"vector", b"ctesor"), "'ctesor'"),
        (lambda data: data[:-4] + b"\xff\xff\xff\x7f", "an arc leads out of it|cut short"),
    ],
)
def test_a_damaged_transducer(graph: GraphFolder, tmp_path: Path, damage: object, message: str) -> None:
    path = tmp_path / "HLG.fst"
    path.write_bytes(damage(graph.fst_path.read_bytes()))  # type: ignore[operator]
    with pytest.raises(AmiraError, match=message):
        openfst.read(path)
    with pytest.raises(AmiraError, match="amira graph build"):
        openfst.read(tmp_path / "none.fst")


@pytest.mark.parametrize("seed", range(20))
def test_ours_and_kaldis_agree(graph: GraphFolder, seed: int) -> None:
    values = whole(peaky(sentence(seed), seed, doubt=0.6))
    options = {"graph": str(graph.path), "beam": 20.0}
    [[ours]] = WfstDecoder(model(), WfstOptions(**options)).decode(values)
    [[theirs]] = KaldiDecoder(model(), KaldiOptions(**options)).decode(values)
    assert (ours.text, ours.tokens, ours.words) == (theirs.text, theirs.tokens, theirs.words)
    assert ours.score == pytest.approx(theirs.score, rel=1e-4)


def test_links_are_compacted_and_grow(graph: GraphFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    values = whole(peaky(sentence(1, words=30), 1, doubt=0.5))
    decoder = WfstDecoder(model(), WfstOptions(graph=str(graph.path)))
    plenty = decoder.decode(values)
    monkeypatch.setattr(wfst, "FIRST_LINKS", 4)
    assert decoder.decode(values) == plenty


def test_the_n_best_are_distinct_and_fall(graph: GraphFolder) -> None:
    options = KaldiOptions(graph=str(graph.path), nbest=8, lattice_beam=8.0, beam=20.0)
    values = peaky("the cats sat on a mat", 3, doubt=0.5)
    [readings] = KaldiDecoder(model(), options).decode(whole(values))
    texts = [reading.text for reading in readings]
    assert len(set(texts)) == len(texts) == 8
    scores = [reading.score for reading in readings]
    assert scores == sorted(scores, reverse=True)
    for reading in readings:  # a graph that knows these words alone gives each its score
        assert [word.text for word in reading.words] == reading.text.split()
        assert model().vocabulary.text(reading.tokens) == reading.text
        assert reading.score == pytest.approx(forced(graph, values, reading.text), abs=0.02)


def forced(graph: GraphFolder, values: np.ndarray, text: str) -> float:
    """The score of the best path of `graph` that says `text`: composition with a line of its words."""
    import kaldifst

    numbers = {word: label for label, word in enumerate(graph.words)}
    lines = [f"{i} {i + 1} {numbers[word]} {numbers[word]}" for i, word in enumerate(text.split())]
    line = kaldifst.compile("\n".join([*lines, str(len(lines))]) + "\n")
    hlg = graph.read_fst()
    kaldifst.arcsort(hlg, "olabel")
    only = kaldifst.compose(hlg, line)
    from kaldi_decoder import DecodableCtc, FasterDecoder, FasterDecoderOptions

    decoder = FasterDecoder(only, FasterDecoderOptions(beam=1000.0))
    decoder.decode(DecodableCtc(values))
    _, path = decoder.get_best_path()
    weight = kaldifst.get_linear_symbol_sequence(path)[3]
    return -(weight.value1 + weight.value2)


@pytest.mark.parametrize("kind", [(WfstDecoder, WfstOptions), (KaldiDecoder, KaldiOptions)])
class TestGraphs:
    def test_words_outside_the_lexicon_become_words_of_it(self, graph: GraphFolder, kind: tuple) -> None:
        decoder, options = kind
        opened = decoder(model(), options(graph=str(graph.path), beam=100.0))
        [[best, *_]] = opened.decode(whole(peaky("zebra quick", 1, doubt=0.01)))
        assert set(best.text.split()) <= set(graph.words)

    def test_a_beam_that_loses_every_path(self, graph: GraphFolder, kind: tuple) -> None:
        decoder, options = kind
        opened = decoder(model(), options(graph=str(graph.path), beam=1e-3))
        [[best, *_]] = opened.decode(whole(peaky("the cat sat", 1)))
        assert set(best.text.split()) <= set(graph.words)  # the best path of each frame always stays

    def test_a_vocabulary_that_does_not_fit(self, graph: GraphFolder, kind: tuple) -> None:
        decoder, options = kind
        for labels, message in ((LABELS[:-1], "29 tokens.*model has 28"), (LABELS[::-1], "29 tokens.*model has 29")):
            other = SimpleNamespace(vocabulary=TokenList(labels, labels.index("<blk>")), frame_shift_s=0.024)
            with pytest.raises(AmiraError, match=message):
                decoder(other, options(graph=str(graph.path)))

    def test_a_graph_that_is_not_there_or_not_whole(self, graph: GraphFolder, tmp_path: Path, kind: tuple) -> None:
        decoder, options = kind
        with pytest.raises(AmiraError, match="graph 'nowhere' does not exist"):
            decoder(model(), options(graph="nowhere"))
        broken = tmp_path / "broken"
        shutil.copytree(graph.path, broken)
        (broken / "HLG.fst").write_bytes(graph.fst_path.read_bytes()[:100])
        with pytest.raises(AmiraError, match="amira graph build"):
            decoder(model(), options(graph=str(broken)))

    @pytest.mark.parametrize(
        ("name", "value"), [("beam", 0), ("beam", -1), ("beam", 1e9), ("beam", float("nan")), ("graph", "")]
    )
    def test_beams_of_no_or_absurd_size(self, kind: tuple, name: str, value: object) -> None:
        with pytest.raises(ValidationError, match=name):
            kind[1](**{"graph": "x", name: value})


def test_collapse() -> None:
    assert collapse([0, 3, 3, 0, 3, 4, 4, 0], 0) == ([3, 3, 4], [(1, 2), (4, 4), (5, 6)])
    assert collapse([], 0) == ([], [])


def test_preferred_words_cost_less_and_nothing_else_changes(graph: GraphFolder) -> None:
    options = WfstOptions(graph=str(graph.path), beam=20.0, hot_bonus=0.7)
    plain = WfstDecoder(model(), options)
    for seed in range(8):
        values = whole(peaky(sentence(seed), seed, doubt=0.6))
        [[before]] = plain.decode(values)
        said = before.text.split()
        [[after]] = plain.preferring(said[:1]).decode(values)
        assert after.text.split().count(said[0]) >= said.count(said[0])
        if after.text == before.text:
            assert after.score == pytest.approx(before.score + 0.7 * said.count(said[0]), rel=1e-4)
        [[again]] = plain.decode(values)
        assert again == before  # the shared graph is as it was


def test_enough_preference_changes_what_is_heard(graph: GraphFolder) -> None:
    plain = WfstDecoder(model(), WfstOptions(graph=str(graph.path), beam=60.0, hot_bonus=30.0))
    changed = 0
    for seed in range(8):
        values = whole(peaky(sentence(seed), seed, doubt=0.6))
        [[before]] = plain.decode(values)
        other = next(word for word in graph.words[1:] if word not in before.text.split() and word.isalpha())
        [[after]] = plain.preferring([other]).decode(values)
        changed += other in after.text.split()
    assert changed >= 4


def test_words_that_the_graph_does_not_know_are_named(graph: GraphFolder) -> None:
    plain = WfstDecoder(model(), WfstOptions(graph=str(graph.path)))
    with pytest.raises(AmiraError, match="does not know: qqqq"):
        plain.preferring([graph.words[1], "qqqq"])
