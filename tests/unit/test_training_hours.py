"""The learning curve from the logs of several trainings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipelines.errors import AmiraError
from training.hours import Trained, doubling, draw, main, read_training, table


def training(root: Path, name: str, hours: float, rate: float) -> Path:
    """A log as the loop writes it: losses, an early evaluation, and one at the end."""
    folder = root / name
    folder.mkdir()
    entries = [
        {"step": 20, "elapsed_s": 1, "lr": 0.1, "ctc": 3.0},
        {"step": 40, "hours": hours, "wer": {"an4": 90.0, "an4 empty": 3}},
        {"step": 60, "elapsed_s": 2, "lr": 0.1, "ctc": 2.0},
        {"step": 80, "hours": hours, "wer": {"an4": rate, "an4 empty": 0, "librispeech": 2 * rate}},
    ]
    (folder / "log.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return folder


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    """A power law: twice the hours make 0.8 of the errors."""
    return [training(tmp_path, f"t{hours:g}h", hours, 50 * 0.8**doubled) for doubled, hours in enumerate((1.5, 3, 6))]


def test_the_last_evaluation_counts(folders: list[Path]) -> None:
    expected = Trained("t3h", 3.0, 80, {"an4": pytest.approx(40.0), "librispeech": pytest.approx(80.0)})
    assert read_training(folders[1]) == read_training(folders[1] / "log.jsonl") == expected


def test_a_power_law_is_found_and_tabulated(folders: list[Path]) -> None:
    found = [read_training(folder) for folder in reversed(folders)]
    assert doubling(found, "an4") == pytest.approx(0.8)
    assert doubling(found[:1], "an4") is None
    lines = table(found).splitlines()
    assert lines[2] == "| training | hours | steps | an4 | librispeech |"
    assert lines[4:] == [
        "| t1.5h | 1.5 | 80 | 50.0 | 100.0 |",
        "| t3h | 3 | 80 | 40.0 | 80.0 |",
        "| t6h | 6 | 80 | 32.0 | 64.0 |",
        "| twice the hours, times | | | 0.80 | 0.80 |",
    ]


def test_a_picture_and_a_document(folders: list[Path], tmp_path: Path) -> None:
    again = training(tmp_path, "second-seed", 6, 30)
    picture, document = tmp_path / "hours.svg", tmp_path / "README.md"
    document.write_text("before\n<!-- hours -->\nold\n<!-- end hours -->\nafter\n")
    import typer

    app = typer.Typer()
    app.command()(main)
    arguments = [*map(str, folders), str(again), "--picture", str(picture), "--document", str(document)]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert picture.read_text().count("<path") > 20
    text = document.read_text()
    assert "| second-seed | 6 | 80 | 30.0 | 60.0 |" in text
    assert "old" not in text
    draw([read_training(folders[0])], tmp_path / "one.png")
    assert (tmp_path / "one.png").stat().st_size > 1_000


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot read the training log"),
        ('{"step": 1, "ctc": 2}\n', "has no evaluation yet"),
        ('{"step": 1, "wer": {"an4": 2}}\n', "does not say on how many hours"),
    ],
)
def test_a_log_without_what_is_needed_is_refused(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text(content)
    with pytest.raises(AmiraError, match=message):
        read_training(tmp_path)
    with pytest.raises(AmiraError, match=r"none.*log\.jsonl|none"):
        read_training(tmp_path / "none")
