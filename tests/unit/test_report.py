"""Reports of every kind of run: whole, self-contained, escaped, and saying what the numbers say."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.report import ReportPaths, write_readme_picture, write_report
from harness.report.figures.canvas import ratio_ticks, spread
from harness.report.figures.front import efficient
from harness.report.findings import findings
from harness.report.numbers import count, file_size, listing, number, points, ratio
from harness.report.page import flatten
from harness.report.texts import align, examples
from harness.store import open_run
from harness.summary import summarise
from pipelines.errors import AmiraError
from tests.synthetic import DEFAULT_CASES, FakeRun, write_run
from tests.unit.test_summary import RUNS

SVG = "{http://www.w3.org/2000/svg}"


def _report(tmp_path: Path, fake: FakeRun) -> ReportPaths:
    return write_report(open_run(write_run(tmp_path, fake)))


@pytest.mark.parametrize("name", RUNS)
def test_every_run_gives_a_sensible_page(tmp_path: Path, name: str) -> None:
    paths = _report(tmp_path, RUNS[name])
    html, markdown = paths.html.read_text(), paths.markdown.read_text()
    fake = RUNS[name]
    for case in fake.cases:
        assert case.title.replace("'", "&#39;") in html
        assert case.title in markdown
    for text in (html, markdown):
        assert not re.search(r"\bnan\b|\bNone\b|\binf\b|Undefined", text)
    assert html.count("<h1>") == 1
    figures = {path.stem for path in paths.figures}
    assert all(path.is_file() and path.stat().st_size > 1000 for path in paths.figures)
    assert ("front" in figures) == (fake.references and "all" not in name)
    assert ("ladder" in figures) == (name not in ("one case", "no ladder", "all failed", "all unavailable"))


@pytest.fixture(scope="module")
def default_report(tmp_path_factory: pytest.TempPathFactory) -> ReportPaths:
    return _report(tmp_path_factory.mktemp("default"), FakeRun())


def test_the_page_asks_nobody_for_anything(default_report: ReportPaths) -> None:
    html = default_report.html.read_text()
    links = re.findall(r"(?:src|srcset|href)=\"([^\"]*)\"", html)
    assert links
    assert all(link.startswith(("data:", "#")) for link in links)
    assert "<script" not in html
    assert "@import" not in html
    assert "url(" not in html


def test_figures_have_real_text_and_follow_dark_mode(default_report: ReportPaths) -> None:
    svgs = [path for path in default_report.figures if path.suffix == ".svg"]
    assert {path.stem for path in svgs} == {"ladder", "percentiles", "stages", "front", "cost", "memory"}
    for path in svgs:
        root = ElementTree.fromstring(path.read_text())
        words = " ".join("".join(text.itertext()) for text in root.iter(f"{SVG}text"))
        assert "INT8 matrix products" in words
        style = root.find(f"{SVG}style")
        assert style is not None
        assert "prefers-color-scheme:dark" in (style.text or "")
        assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


def test_markdown_links_to_its_figures(default_report: ReportPaths) -> None:
    links = re.findall(r"\]\((figures/[^)]+)\)", default_report.markdown.read_text())
    assert len(links) == 6
    assert all((default_report.markdown.parent / link).is_file() for link in links)


def test_names_and_errors_cannot_break_out_of_the_page(tmp_path: Path) -> None:
    evil = "<script>alert('x')</script> | \"quoted\""
    cases = (
        replace(DEFAULT_CASES[0], title=evil),
        replace(DEFAULT_CASES[1], error=f"RuntimeError: {evil}"),
    )
    paths = _report(tmp_path, FakeRun(cases=cases, title=evil, utterances=2, repeats=1))
    html = paths.html.read_text()
    assert "<script" not in html
    assert "&lt;script&gt;alert" in html
    rows = [line for line in paths.markdown.read_text().splitlines() if "RuntimeError" in line]
    assert re.search(r"\\\|", rows[0])


def test_the_report_goes_where_it_is_told(tmp_path: Path) -> None:
    run = open_run(write_run(tmp_path / "runs", FakeRun(utterances=2, repeats=1)))
    paths = write_report(run, tmp_path / "elsewhere")
    assert paths.html == tmp_path / "elsewhere" / "report.html"
    assert not (run.path / "report.html").exists()


def test_a_folder_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    run = open_run(write_run(tmp_path, FakeRun(utterances=1, repeats=1)))
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(AmiraError, match="cannot write"):
        write_report(run, blocked)


def test_the_readme_picture_is_the_ladder(tmp_path: Path) -> None:
    run = open_run(write_run(tmp_path, FakeRun()))
    svg = write_readme_picture(run, tmp_path / "docs" / "ladder.svg")
    assert "20.0×" in svg.read_text()
    png = write_readme_picture(run, tmp_path / "ladder.png")
    assert png.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(AmiraError, match=r"must end in \.svg or \.png"):
        write_readme_picture(run, tmp_path / "ladder.gif")


def test_a_run_without_a_ladder_has_no_readme_picture(tmp_path: Path) -> None:
    run = open_run(write_run(tmp_path, RUNS["no ladder"]))
    with pytest.raises(AmiraError, match="no ladder"):
        write_readme_picture(run, tmp_path / "ladder.svg")


def _said(tmp_path: Path, fake: FakeRun) -> str:
    return " ".join(findings(summarise(open_run(write_run(tmp_path, fake)))))


def test_the_finding_names_the_biggest_gain_and_what_had_no_effect(tmp_path: Path) -> None:
    said = _said(tmp_path, FakeRun())
    assert "20.0 times as fast" in said
    assert "biggest single gain is “Weights folded to FP32 once” (6.6" in said
    assert re.search(r"“PCM conversion.*“Pooled buffers”.* had no effect", said)
    assert "“moonshine-cpp's own engine” takes 7.2" in said


def test_the_finding_follows_the_numbers_down(tmp_path: Path) -> None:
    slower = (DEFAULT_CASES[1], replace(DEFAULT_CASES[2], rtf=0.2))
    said = _said(tmp_path, FakeRun(cases=slower))
    assert "is slower: 0.45" in said
    assert "made it slower" in said
    assert "biggest single gain" not in said
    assert "Accuracy did not change" in said


def test_the_finding_does_not_call_noise_an_effect(tmp_path: Path) -> None:
    same = (DEFAULT_CASES[1], replace(DEFAULT_CASES[2], rtf=0.09))
    said = _said(tmp_path, FakeRun(cases=same, process_noise=0.05))
    assert "could not be told from no effect" in said
    assert "shows no clear difference" in said


def test_a_clear_loss_of_accuracy_is_said(tmp_path: Path) -> None:
    worse = (DEFAULT_CASES[4], replace(DEFAULT_CASES[5], slip=0.5))
    assert "“INT8 matrix products” raised the word error rate on starter by" in _said(tmp_path, FakeRun(cases=worse))


def test_nothing_measured_is_the_finding(tmp_path: Path) -> None:
    assert "No case could be measured: 7 of 7 failed" in _said(tmp_path, RUNS["all failed"])


def test_examples_show_where_the_cases_differ(tmp_path: Path) -> None:
    shown = examples(open_run(write_run(tmp_path, FakeRun())))
    assert 1 <= len(shown) <= 5
    assert len(shown[0].readings) > 1
    assert shown[0].readings[-1].label == "The other 6 cases"
    for example in shown:
        assert sum(len(reading.cases) for reading in example.readings) == 7


def test_align_marks_each_kind_of_error() -> None:
    pieces = align("the old ferry left the harbour", "the old fairy has left harbour")
    assert {(piece.kind, piece.text) for piece in pieces} >= {("same", "the old"), ("deleted", "the")}
    assert [piece.kind for piece in align("one two", "")] == ["deleted"]


WORDS = st.lists(st.sampled_from(["a", "b", "c", "d"]), max_size=8).map(" ".join)


@given(reference=WORDS.filter(bool), hypothesis=WORDS)
def test_align_loses_no_word_of_either_side(reference: str, hypothesis: str) -> None:
    pieces = align(reference, hypothesis)
    heard = [piece.text for piece in pieces if piece.kind != "deleted"]
    wanted = [
        piece.reference if piece.kind == "substituted" else piece.text for piece in pieces if piece.kind != "inserted"
    ]
    assert " ".join(heard) == hypothesis
    assert " ".join(wanted) == reference


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.05479, "0.0548"), (6.6512, "6.65"), (20.06, "20.1"), (123.4, "123"), (1234.0, "1,230"), (0, "0"),
        (0.9996, "1.00"), (9.996, "10.0"), (-0.5, "−0.500"), (None, "–"), (float("nan"), "–"), (99.96, "100"),
    ],
)  # fmt: skip
def test_numbers_have_three_significant_digits(value: float | None, text: str) -> None:
    assert number(value) == text


@given(st.floats(min_value=1e-6, max_value=1e9))
def test_a_shown_number_is_within_half_a_percent(value: float) -> None:
    assert float(number(value).replace(",", "")) == pytest.approx(value, rel=0.0051)


def test_words_around_numbers() -> None:
    assert [ratio(0.996), ratio(1.004), ratio(0.137)] == ["1.00", "1.00", "0.137"]
    assert [points(0.0041), points(-0.0004), points(-0.012)] == ["+0.4", "0.0", "−1.2"]
    assert [count(1, "process"), count(2, "process"), count(3, "repeat")] == ["1 process", "2 processes", "3 repeats"]
    assert [file_size(812), file_size(58_600)] == ["812 B", "58.6 kB"]
    assert listing(["A"]) == "A"
    assert listing(["A", "B", "C"]) == "A, B and C"
    assert listing(list("ABCDEF"), 3) == "A, B and 4 more"


def test_the_fingerprint_is_flattened() -> None:
    nested = {"cpu": {"features": ["avx2", "fma"], "boost": None}, "dirty": False, "models": [{"name": "x"}]}
    assert flatten(nested) == [
        ("cpu.features", "avx2 fma"), ("cpu.boost", "unknown"), ("dirty", "no"), ("models.0.name", "x"),
    ]  # fmt: skip


def test_efficient_cases_are_beaten_by_none() -> None:
    def case(name: str, rtf: float, wer: float) -> dict[str, Any]:
        return {"id": name, "rtf": rtf, "wer": {"x": {"value": wer}}}

    cases = [case("slow", 0.5, 0.02), case("exact", 0.1, 0.02), case("fast", 0.05, 0.03), case("bad", 0.2, 0.04)]
    assert [found["id"] for found in efficient(cases, "x")] == ["fast", "exact"]


@given(st.lists(st.floats(min_value=0, max_value=10), min_size=1, max_size=20))
def test_spread_labels_keep_their_distance_and_order(wanted: list[float]) -> None:
    placed = spread(wanted, 0.4, 0, 10)
    ordered = [placed[index] for index in sorted(range(len(wanted)), key=lambda index: wanted[index])]
    assert all(after - before >= 0.4 - 1e-9 for before, after in pairwise(ordered))
    assert min(placed) >= -1e-9
    assert max(placed) <= 10 + 1e-9


@given(st.floats(min_value=0.01, max_value=100), st.floats(min_value=1.02, max_value=1000))
def test_a_logarithmic_axis_has_a_few_ticks_inside(low: float, span: float) -> None:
    ticks = ratio_ticks(low, low * span)
    assert 1 <= len(ticks) <= 9
    assert all(low <= tick <= low * span for tick in ticks)
