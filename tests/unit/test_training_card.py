"""What a model's card says of its training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipelines.models.training_card import DATA, UNKNOWN, section, verdicts

ROOT = Path(__file__).parents[2] / "model-repo"
COMMITTED = sorted(path.parent.name for path in ROOT.glob("*/weights.safetensors"))


def facts(**rates: float) -> dict[str, Any]:
    training = {
        "corpus": "shared:train", "dev": "shared:dev", "seed": 7, "batch_s": 40.0, "init": ["ctc"], "teacher": "ctc",
    }  # fmt: skip
    return {"training": training, "step": 1250, "hours": 12.3, "wer": {**rates, "an4 empty": 2}}


def test_data_licences_seed_recipe_and_accuracy_are_there() -> None:
    text = section(facts(an4=5.0, librispeech=60.0))
    assert "12.3 h of English speech (`shared:train`)" in text
    assert all(f"- {name}: {about}" in text for name, about in DATA.items())
    assert "1,250 steps of 40 s, seed 7, characters, from `ctc`; teacher `ctc`" in text
    assert "| an4 | 5.0 | 2 |" in text
    assert "| librispeech | 60.0 | 0 |" in text
    pieces = facts(an4=5.0)
    pieces["training"] |= {"units": "bpe", "bpe_size": 128, "init": [], "corpus": "mine.jsonl", "teacher": ""}
    text = section(pieces | {"speech": {"home": 2.5}})
    assert "(`mine.jsonl`):\n  - home, 2.5 h: licence not recorded" in text
    assert "128 pieces of words, from the package's encoder." in text
    pieces["training"] |= {"units": "tokens"}
    text = section(pieces)
    assert "the tokens of the package's decoder, from the package's encoder." in text
    assert "`python -m training.head --tokens` repeats it" in text
    pieces["training"] |= {"model": {"streaming": True}}
    assert "`python -m training` repeats it" in section(pieces)


def test_what_it_is_good_and_bad_at_follows_from_its_errors() -> None:
    first, second, third, fourth = verdicts(facts(an4=5.0, librispeech=60.0, other=30.0))
    assert first == "Best at speech as of an4, spelled words, numbers and addresses (5.0 % of the words wrong)."
    assert second == "Worst at speech as of librispeech, audiobooks (60.0 %)."
    assert third.startswith("Not to be used alone for librispeech:")
    assert "readers of other:" in fourth
    assert verdicts(facts(an4=5.0)) == [first]
    assert verdicts(None) == ["How many words it gets wrong was not measured when it was trained."]
    assert section(None) == UNKNOWN


@pytest.mark.parametrize("name", COMMITTED)
def test_the_committed_weights_say_all_of_it(name: str) -> None:
    own = json.loads((ROOT / name / "config.json").read_text("utf-8"))["facts"]
    assert section(own).count("\n| ") == 1 + sum(not key.endswith(" empty") for key in own["wer"])
    assert verdicts(own)
