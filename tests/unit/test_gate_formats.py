"""The verdict as people and CI servers read it, and the configuration that it follows."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from harness.gate.config import DEFAULT, GateConfig, load_gate
from harness.gate.formats import junit, markdown, write
from harness.gate.judge import CaseVerdict
from harness.gate.result import Result
from harness.gate.row import Row, verdict
from pipelines.errors import AmiraError
from pipelines.paths import home

SLOW = Row("stage decode", "fraction", 0.1, 0.08, 0.12, 0.04, "worse", True, 8)
TINY = Row("stage ingest", "fraction", 0.1, 0.08, 0.12, 0.04, "worse", False, 8)
NOISY = Row("latency", "fraction", 0.02, -0.04, 0.09, 0.03, "unclear", True, 8)
HEARD = Row("wer dev", "points", 0.1, -0.1, 0.3, 0.5, "fine", True, 200, "3 of 200 texts changed")
CASES = (
    CaseVerdict("a", "A <b> | case", "worse", "stage decode +10.0 %", (SLOW, TINY, HEARD)),
    CaseVerdict("b", "B", "unclear", "latency +2.0 %", (NOISY,)),
    CaseVerdict("c", "C", "broken", "the candidate failed: boom"),
    CaseVerdict("d", "D", "fine", "no number is worse", (HEARD,), ("a note",)),
)


def result(*cases: CaseVerdict) -> Result:
    return Result("0123", "4567", "interleaved", cases, ("run-1",), "A CPU, 2 cores")


@pytest.mark.parametrize(
    ("change", "low", "high", "word"),
    [
        (0.05, 0.01, 0.09, "worse"),
        (0.02, 0.01, 0.029, "fine"),  # sure, and too small to matter
        (0.02, 0.01, 0.05, "unclear"),
        (0.05, -0.01, 0.11, "unclear"),
        (0.0, -0.02, 0.02, "fine"),
        (-0.05, -0.06, -0.04, "better"),
        (-0.02, -0.03, -0.01, "fine"),
        (0.0, None, None, "unclear"),
        (0.2, None, None, "unclear"),
    ],
)
def test_a_verdict_needs_effect_and_interval(change: float, low: float | None, high: float | None, word: str) -> None:
    assert verdict(change, low, high, 0.03) == word


@pytest.mark.parametrize(
    ("cases", "overall", "code"),
    [
        (CASES, "regression", 1),
        (CASES[2:], "regression", 1),
        (CASES[1:2] + CASES[3:], "unclear", 3),
        (CASES[3:], "fine", 0),
        ((), "nothing measured", 4),
        ((CaseVerdict("e", "E", "not measured", "no sample"),), "nothing measured", 4),
        ((CaseVerdict("e", "E", "not measured", "no sample"), CASES[3]), "fine", 0),
    ],
)
def test_one_verdict_for_all(cases: tuple[CaseVerdict, ...], overall: str, code: int) -> None:
    assert (result(*cases).verdict, result(*cases).exit_code) == (overall, code)


def test_junit_has_a_failure_for_what_is_worse_and_an_error_for_what_is_unsure() -> None:
    suites = {suite.get("name"): suite for suite in ElementTree.fromstring(junit(result(*CASES)))}
    assert {name: (s.get("tests"), s.get("failures"), s.get("errors")) for name, s in suites.items()} == {
        "a": ("2", "1", "0"),
        "b": ("1", "0", "1"),
        "c": ("1", "1", "0"),
        "d": ("1", "0", "0"),
    }
    failure = suites["a"].find("testcase/failure")
    assert failure is not None
    assert failure.get("message") == "stage decode +10.0 % (+8.0 to +12.0)"


def test_markdown_says_the_verdict_first_and_escapes() -> None:
    text = markdown(result(*CASES))
    assert text.splitlines()[0] == "## ❌ Regression"
    assert "A \\<b\\> \\| case" in text
    assert "(worse, not judged)" in text
    assert "- D: a note" in text


def test_written_files_are_the_same_verdict(tmp_path: Path) -> None:
    paths = write(result(*CASES), tmp_path / "new" / "folder")
    document = json.loads(paths[0].read_text())
    assert (document["verdict"], document["exit_code"], document["schema_version"]) == ("regression", 1, 1)
    assert document["cases"][0]["rows"][0]["metric"] == "stage decode"


def test_a_folder_that_cannot_be_written_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(AmiraError, match="cannot write the verdict"):
        write(result(*CASES), tmp_path / "file" / "folder")


def test_the_committed_configuration_is_read_and_says_the_defaults() -> None:
    found = load_gate(home() / DEFAULT)
    assert found.model_copy(update={"kernels": GateConfig().kernels}) == GateConfig()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[margin]\nlatencies = 0.1", "key 'latencies' does not exist; have: cpu, instructions, kernel, latency"),
        ("plans = 'x'", "Did you mean 'plan'"),
        ("[margin]\nlatency = -1", "margin.latency = -1"),
        ("[margin", "is not TOML"),
    ],
)
def test_a_wrong_configuration_is_one_clear_message(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "gate.toml"
    path.write_text(text)
    with pytest.raises(AmiraError, match=message.replace("(", "\\(")):
        load_gate(path)
    with pytest.raises(AmiraError, match="cannot be read"):
        load_gate(tmp_path / "missing.toml")
