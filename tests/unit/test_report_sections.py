"""What stands on a page beside the numbers of its run: ledger, decoders, load, faults, other runs, history."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.commands.report import report as command
from harness.gate.config import GateConfig
from harness.prices import Prices
from harness.report import Options, ReportPaths, write_report
from harness.report.sections import compared
from harness.report.sections.decoders import trade_off
from harness.store import Run, open_run
from harness.stored import StoredFaults, StoredLoad, open_stored
from harness.summary import summarise
from pipelines.errors import AmiraError
from pipelines.paths import home
from tests.synthetic import DEFAULT_CASES, FakeCase, FakeRun, write_run

REPORTS = home() / "reports"
GRID = (("numpy", "fresh"), ("numpy", "pooled"), ("avx512", "fresh"), ("avx512", "pooled"))


def changed(path: Path, change: Any) -> Path:
    """The run with its manifest changed."""
    manifest = json.loads((path / "manifest.json").read_text())
    change(manifest)
    (path / "manifest.json").write_text(json.dumps(manifest))
    return path


def factorial(folder: Path) -> Path:
    speeds = (0.05, 0.04, 0.05, 0.04)
    cases = [FakeCase(f"{k}-{m}", f"{k}, {m}", rtf, rung=False) for (k, m), rtf in zip(GRID, speeds, strict=True)]

    def vary(manifest: dict[str, Any]) -> None:
        for entry, (kernel, memory) in zip(manifest["cases"], GRID, strict=True):
            variants = {"kernel": f"kernel/{kernel}", "memory": f"memory/{memory}"}
            entry["case"]["pipeline"]["variants"] |= variants

    fake = FakeRun(cases, name="20250315-factorial", repeats=4, utterances=4, process_noise=0.001)
    return changed(write_run(folder, fake), vary)


def decoders(folder: Path) -> Path:
    cases = [
        FakeCase("greedy", "Greedy", 0.05, axis="decoder", variant="decoder/greedy", rung=False, slip=0.2),
        FakeCase("beam", "Beam", 0.06, axis="decoder", variant="decoder/beam", rung=False, slip=0.0),
        FakeCase("slow", "Slow <beam>", 0.09, axis="decoder", variant="decoder/slow", rung=False, slip=0.0),
    ]
    return write_run(folder, FakeRun(cases, name="20250316-decoders", utterances=8, repeats=2))


def edited(folder: Path, name: str, day: int, faster: float = 1.0) -> Path:
    """A run of the default plan on another day, of another commit; with the same clips, so that they can be paired."""
    cases = tuple(replace(case, rtf=case.rtf / faster) for case in DEFAULT_CASES[:2])
    path = write_run(folder, FakeRun(cases, name=name, seed=day, utterances=6, repeats=3))
    first = json.loads((folder / "run-1" / "manifest.json").read_text())

    def date(manifest: dict[str, Any]) -> None:
        manifest |= {"created_utc": f"2025-04-{day:02d}T00:00:00Z", "utterances": first["utterances"]}
        manifest["fingerprint"]["code"]["commit"] = f"{day:040x}"

    return changed(path, date)


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> ReportPaths:
    folder = tmp_path_factory.mktemp("everything")
    main = open_run(edited(folder, "run-1", 1))
    (main.path / "profiles").mkdir()
    (main.path / "profiles" / "folded <1>.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    beside = [
        open_run(edited(folder, "run-2", 2)),
        open_run(edited(folder, "run-3", 3, faster=0.5)),
        open_run(factorial(folder)),
        open_run(decoders(folder)),
        open_stored(str(REPORTS / "server-load")),
        open_stored(str(REPORTS / "triton-faults")),
    ]
    options = Options(prices=Prices(core_hour=0.04, currency="EUR"))
    return write_report(main, folder / "page", beside, options)


def test_everything_stands_on_one_page(everything: ReportPaths) -> None:
    html, markdown = everything.html.read_text(), everything.markdown.read_text()
    wanted = ["1-run", "1-compared", "2-run", "2-compared", "3-run", "3-ledger", "4-run", "4-decoders", "5-load"]
    for name in [*wanted, "6-faults", "history", "profiles"]:
        assert html.count(f'<section id="{name}"') == 1, name
        assert f'href="#{name}"' in html
    for text in (html, markdown):
        assert not re.search(r"\bnan\b|\bNone\b|\binf\b|Undefined|Verdict\(", text)
        assert "EUR an hour of audio" in text
        assert "server stopped (SIGSTOP)" in text
        assert "memory/pooled is faster: 1.2" in text
    assert "Slow &lt;beam&gt;" in html
    assert "<beam>" not in html
    assert "Slow \\<beam\\>" in markdown
    assert {path.stem for path in everything.figures} >= {"2-compared", "3-ledger", "4-decoders", "5-load", "history"}
    assert everything.html.stat().st_size < 5e6


def test_the_page_links_to_nothing_but_itself_and_its_profiles(everything: ReportPaths) -> None:
    links = re.findall(r"(?:src|srcset|href)=\"([^\"]*)\"", everything.html.read_text())
    elsewhere = {link for link in links if not link.startswith(("data:", "#"))}
    assert elsewhere == {"../run-1/profiles/folded%20%3C1%3E.svg"}


def test_a_slower_run_is_said_to_be_worse(everything: ReportPaths) -> None:
    markdown = everything.markdown.read_text()
    section = markdown[markdown.index("## Against run-1", markdown.index("run-3")) :]
    assert "is worse: latency +" in section
    assert "No case is shown to be worse" in markdown


def test_runs_of_other_machines_are_not_compared_unless_asked(tmp_path: Path) -> None:
    first = open_run(edited(tmp_path, "run-1", 1))

    def elsewhere(manifest: dict[str, Any]) -> None:
        manifest["fingerprint"]["cpu"]["model"] = "Another CPU"

    other = open_run(changed(edited(tmp_path, "run-2", 2), elsewhere))
    refused = compared.section(first, other, GateConfig(), anyway=False)
    assert refused is not None
    assert refused.tables == ()
    assert "Not compared: the fingerprints differ" in refused.notes[0]
    made = compared.section(first, other, GateConfig(), anyway=True)
    assert made is not None
    assert made.tables
    assert any(note.startswith("The fingerprints differ: cpu.model") for note in made.notes)


def test_a_load_run_and_faults_have_pages_of_their_own(tmp_path: Path) -> None:
    load, faults = open_stored(str(REPORTS / "server-load")), open_stored(str(REPORTS / "triton-faults"))
    assert isinstance(load, StoredLoad)
    assert isinstance(faults, StoredFaults)
    paths = write_report(load, tmp_path / "load", [faults])
    html = paths.html.read_text()
    assert "<h1>What load does to the server</h1>" in html
    assert '<section id="load"' in html
    assert '<section id="1-faults"' in html
    html = write_report(faults, tmp_path / "faults").html.read_text()
    assert "<h1>What faults do to callers</h1>" in html


def test_decoders_are_compared_only_where_nothing_else_differs(tmp_path: Path) -> None:
    run = open_run(decoders(tmp_path))
    assert [case["id"] for case in trade_off(run, summarise(run))] == ["greedy", "beam", "slow"]
    ladder = open_run(write_run(tmp_path, FakeRun(utterances=4, repeats=1)))
    assert trade_off(ladder, summarise(ladder)) == []


def test_the_history_of_a_plan_is_shown_where_it_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMIRA_HOME", str(tmp_path))
    runs = tmp_path / "reports" / "runs"
    for day in range(1, 13):
        edited(runs, f"run-{day}", day, faster=1.0 if day < 7 else 0.5)
    changed(runs / "run-2", lambda manifest: manifest.update(schema_version=0))
    paths = write_report(open_run(runs / "run-12"), options=Options(history=True))
    text = paths.markdown.read_text()
    assert "became 0.5" in text
    assert "with run run-7 (commit 000000000000" in text
    assert "left out: " in text
    assert "schema\\_version 0" in text


def test_the_command_takes_one_run_or_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AMIRA_HOME", str(tmp_path))
    first, second = (edited(tmp_path, name, day) for day, name in ((1, "run-1"), (2, "run-2")))
    command([str(first), str(second)], json=True)
    assert [each["run"] for each in json.loads(capsys.readouterr().out)] == ["run-1", "run-2"]
    command([str(first)], json=True)
    assert json.loads(capsys.readouterr().out)["run"] == "run-1"
    command([str(REPORTS / "triton-faults")], json=True)
    assert json.loads(capsys.readouterr().out)["faults"][0]["fault"] == "server killed, pooled"
    command([str(first), str(second)])
    assert (tmp_path / "reports" / "pages" / "run-1+run-2" / "report.html").is_file()
    with pytest.raises(AmiraError, match="ladder of one run"):
        command([str(first), str(second)], picture=tmp_path / "x.svg")
    with pytest.raises(AmiraError, match="run 'nothing' does not exist"):
        open_stored("nothing")


def test_a_run_without_anything_beside_it_has_no_further_section(tmp_path: Path) -> None:
    run = open_run(write_run(tmp_path, FakeRun(DEFAULT_CASES[:2], utterances=3, repeats=1)))
    assert isinstance(run, Run)
    sections = re.findall(r'<section id="([^"]+)"', write_report(run).html.read_text())
    assert sections == ["ladder", "latency", "stages", "accuracy", "cost", "start", "texts", "method", "data"]
