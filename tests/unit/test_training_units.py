"""Pieces of words as units of training."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("sentencepiece", reason="sentencepiece is not installed (extra `train`)")

from pipelines.acoustic.tokens import TokenList, read_symbols
from pipelines.errors import AmiraError
from tests.synthetic import SENTENCES
from training.config import TrainingConfig
from training.vocabulary import CharacterUnits, PieceUnits, collapse, learn_pieces, open_units

TEXTS = ["".join(c for c in text.lower() if c.isalpha() or c in " '") for text in SENTENCES]


@pytest.fixture(scope="module")
def units() -> PieceUnits:
    return PieceUnits(learn_pieces(TEXTS, 80))


def test_every_text_survives_its_pieces(units: PieceUnits) -> None:
    assert len(units.labels) == 80
    assert units.labels[0] == "<blank>"
    for text in [*TEXTS, "zq xv"]:
        tokens = units.encode(text)
        assert units.decode(tokens) == text
        assert 0 not in tokens
    assert sum(len(units.encode(text)) for text in TEXTS) < 0.7 * sum(map(len, TEXTS))
    assert units.encode("na\u00efve 7") == units.encode("nave ")


def test_a_best_path_collapses_and_the_runtime_reads_the_same(units: PieceUnits, tmp_path: Path) -> None:
    tokens = units.encode("the old ferry")
    path = [label for token in tokens for label in (token, token, 0)]
    assert collapse(units, path) == "the old ferry"
    (tmp_path / "tokens.txt").write_text("".join(f"{label} {i}\n" for i, label in enumerate(units.labels)), "utf-8")
    assert TokenList(read_symbols(tmp_path / "tokens.txt"), 0).text(tokens) == "the old ferry"


def test_pieces_are_learned_once_and_kept(tmp_path: Path) -> None:
    config = TrainingConfig(name="t", units="bpe", bpe_size=60)
    first = open_units(config, TEXTS, tmp_path)
    again = open_units(config, ["another text altogether"], tmp_path)
    assert first.labels == again.labels == PieceUnits(learn_pieces(TEXTS, 60)).labels
    with pytest.raises(AmiraError, match=r"has 60 pieces, the configuration's bpe_size is 64"):
        open_units(config.model_copy(update={"bpe_size": 64}), TEXTS, tmp_path)
    assert isinstance(open_units(TrainingConfig(name="t"), TEXTS, tmp_path), CharacterUnits)


@pytest.mark.parametrize(("size", "why"), [(20, "smaller than required_chars"), (4096, "too high")])
def test_a_size_that_the_texts_do_not_give(size: int, why: str) -> None:
    with pytest.raises(AmiraError, match=rf"cannot learn {size} pieces .*{why}.*Choose another bpe_size"):
        learn_pieces(TEXTS, size)
