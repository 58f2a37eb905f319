import json
from pathlib import Path

import pytest

from pipelines.errors import AmiraError
from pipelines.paths import home
from training.facts import BEGIN, END, table, write_into

README_OF = {
    "moonshine-ctc": "experiments/010-moonshine-ctc/README.md",
    "stream-ctc-server": "experiments/011-stream-ctc/README.md",
}


def model(folder: Path) -> Path:
    facts = {"step": 1200, "hours": 12.3, "wer": {"an4": 7.0, "an4 empty": 1}, "training": {"batch_s": 40.0}}
    (folder / "config.json").write_text(json.dumps({"facts": facts}))
    return folder


def test_facts_go_between_the_marks_and_only_there(tmp_path) -> None:
    document = tmp_path / "README.md"
    document.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    write_into(document, model(tmp_path))
    text = document.read_text()
    assert text.startswith("before\n") and text.endswith("\nafter\n") and "old" not in text
    assert "| an4 | 7.0 | 1 |" in text and "1,200 steps of 40 s on 12.3 h" in text
    document.write_text("no marks")
    with pytest.raises(AmiraError, match="no place"):
        write_into(document, tmp_path)
    with pytest.raises(AmiraError, match="not the folder of a trained model"):
        table(tmp_path / "none")


@pytest.mark.parametrize("name", README_OF)
def test_the_documents_say_what_the_committed_weights_say(name: str) -> None:
    root = Path(__file__).resolve().parents[2]
    folder = root / "model-repo" / name
    if not (folder / "config.json").is_file():
        pytest.skip(f"no trained weights in {folder.relative_to(home())}")
    assert table(folder) in (root / README_OF[name]).read_text("utf-8")
