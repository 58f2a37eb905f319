import json
from pathlib import Path

import pytest

from pipelines.errors import AmiraError
from pipelines.paths import home
from tests.trained_weights import token_head, write_weights
from training.facts import main, table

README_OF = {
    "moonshine-ctc": "experiments/010-moonshine-ctc/README.md",
    "moonshine-ctc-tokens": "experiments/010-moonshine-ctc/README.md",
    "stream-ctc-server": "experiments/011-stream-ctc/README.md",
    "stream-ctc-tokens": "experiments/011-stream-ctc/README.md",
    "stream-ctc-draft": "experiments/011-stream-ctc/README.md",
}


def model(folder: Path) -> Path:
    facts = {"step": 1200, "hours": 12.3, "wer": {"an4": 7.0, "an4 empty": 1}, "training": {"batch_s": 40.0}}
    (folder / "config.json").write_text(json.dumps({"facts": facts}))
    return folder


def test_facts_go_between_the_marks_and_only_there(tmp_path: Path) -> None:
    document = tmp_path / "README.md"
    document.write_text("before\n<!-- draft -->\nold\n<!-- end draft -->\nafter\n")
    main(model(tmp_path), document, "draft")
    text = document.read_text()
    assert text.startswith("before\n") and text.endswith("\nafter\n") and "old" not in text
    assert "| an4 | 7.0 | 1 |" in text and "1,200 steps of 40 s on 12.3 h" in text
    with pytest.raises(AmiraError, match="not the folder of a trained model"):
        table(tmp_path / "none")


def test_weights_are_measured_where_they_are(tmp_path: Path) -> None:
    """The error rates in `config.json` become those of the dev speech at hand."""
    pytest.importorskip("torch", reason="PyTorch is not installed (extra `train`)")
    import numpy as np
    import soundfile

    from training.config import Model, TrainingConfig
    from training.exported import export
    from training.network import Network
    from training.vocabulary import CharacterUnits

    noise = np.random.default_rng(0).standard_normal(9_000).astype(np.float32) / 10
    soundfile.write(tmp_path / "a.wav", noise, 16_000)
    manifest = tmp_path / "dev.jsonl"
    manifest.write_text(json.dumps({"audio": "a.wav", "id": "a", "text": "go on", "corpus": "noise"}) + "\n")
    network = Network(Model(layers=1, frozen_layers=0))
    network.head.bias.data[0] = 1e4  # it says nothing
    training = TrainingConfig(name="t", dev=str(manifest)).model_dump()
    facts = {"training": training, "step": 1, "hours": 1.0, "wer": {"noise": 3.0}}
    export(tmp_path / "t", network, CharacterUnits(), network.state_dict(), facts)
    main(tmp_path / "t", cache=tmp_path / "cache")
    found = json.loads((tmp_path / "t" / "config.json").read_text())["facts"]["wer"]
    assert found == {"noise": 100.0, "noise empty": 1}
    facts["training"]["units"] = "bpe"
    export(tmp_path / "t", network, CharacterUnits(), network.state_dict(), facts)
    with pytest.raises(AmiraError, match="writes bpe: only models of characters and of tokens"):
        main(tmp_path / "t", cache=tmp_path / "cache")


def test_a_head_alone_is_not_measured_here(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed (extra `train`)")
    facts = {"training": {"units": "tokens", "dev": "shared:dev"}}
    folder = write_weights(tmp_path / "head", token_head(), streaming=False, units="tokens", facts=facts)
    with pytest.raises(AmiraError, match=r"holds a head alone \(`python -m training.head`\)"):
        main(folder, cache=Path("unused"))


@pytest.mark.parametrize("name", README_OF)
def test_the_documents_say_what_the_committed_weights_say(name: str) -> None:
    root = Path(__file__).resolve().parents[2]
    folder = root / "model-repo" / name
    if not (folder / "config.json").is_file():
        pytest.skip(f"no trained weights in {folder.relative_to(home())}")
    assert table(folder) in (root / README_OF[name]).read_text("utf-8")
