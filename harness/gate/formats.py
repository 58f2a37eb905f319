"""A result for people and for machines: Markdown for a pull request, JUnit XML for a CI server, JSON for scripts."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

from harness.gate.judge import CaseVerdict
from harness.gate.result import Result
from harness.gate.row import Row, said
from pipelines.errors import AmiraError

HEADLINES = {
    "fine": "✅ No regression",
    "regression": "❌ Regression",
    "unclear": "⚠️ Too noisy to say",
    "nothing measured": "⛔ Nothing was measured",
}
SIGNS = {
    "better": "🟢 better",
    "fine": "✅ fine",
    "unclear": "⚠️ unclear",
    "worse": "❌ worse",
    "broken": "❌ broken",
    "not measured": "⛔ not measured",
    "unavailable": "➖ unavailable",
}
HOW = {
    "interleaved": "both checkouts measured together, call by call, in fresh processes",
    "stored baseline": "the candidate measured now, the baseline stored before",
    "stored runs": "two stored runs, measured at different times",
}
MARKDOWN = str.maketrans({char: f"\\{char}" for char in "\\`*_[]<>|#"} | {"\n": " "})


def markdown(result: Result) -> str:
    """The verdict first, then a table of cases, then every number."""
    lines = [f"## {HEADLINES[result.verdict]}", ""]
    lines += [f"- **{_md(case.title)}** ({case.verdict}): {_md(case.reason)}" for case in _interesting(result)]
    lines += ["", f"Candidate `{result.candidate}` against baseline `{result.baseline}`: {HOW[result.how]}.", ""]
    lines += ["| case | verdict | latency | word errors |", "|---|---|---|---|"]
    lines += [
        f"| {_md(case.title)} | {SIGNS[case.verdict]} | {_cell(case, 'latency')} | {_cell(case, 'wer ')} |"
        for case in result.cases
    ]
    lines += ["", "<details><summary>Every number</summary>", ""]
    lines += ["| case | what | change (95 % interval) | counts from | verdict | samples | note |"]
    lines += ["|---|---|---|---|---|---|---|"]
    lines += [_row(case, row) for case in result.cases for row in case.rows]
    lines += ["", "</details>", ""]
    notes = [*result.notes, *(f"{case.title}: {note}" for case in result.cases for note in case.notes)]
    lines += [f"- {_md(note)}" for note in dict.fromkeys(notes)]
    lines += ["", f"Measured on {_md(result.machine)}; runs: {', '.join(f'`{run}`' for run in result.runs) or 'none'}."]
    return "\n".join(lines).replace("\n\n\n", "\n\n") + "\n"


def junit(result: Result) -> str:
    """A test suite for each case and a test for each number.

    A number that is worse is a failure; unclear, and a case that could not be measured, are errors: they are not
    passed either.
    """
    root = ElementTree.Element("testsuites", name="amira gate")
    for case in result.cases:
        tests = [_test(case, row) for row in case.rows if row.judged] or [_lacking(case)]
        suite = ElementTree.SubElement(
            root,
            "testsuite",
            name=case.case,
            tests=str(len(tests)),
            failures=str(sum(test.find("failure") is not None for test in tests)),
            errors=str(sum(test.find("error") is not None for test in tests)),
            skipped=str(sum(test.find("skipped") is not None for test in tests)),
        )
        suite.extend(tests)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def write(result: Result, folder: Path) -> tuple[Path, Path, Path]:
    """Write `gate.json`, `gate.md` and `junit.xml`.

    Raises:
        AmiraError: The folder cannot be written.
    """
    contents = {
        "gate.json": json.dumps(result.to_json(), indent=2, ensure_ascii=False, allow_nan=False) + "\n",
        "gate.md": markdown(result),
        "junit.xml": junit(result),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in contents.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise AmiraError(
            f"cannot write the verdict to '{folder}': {error.strerror or error}. Name another with --output."
        ) from error
    return folder / "gate.json", folder / "gate.md", folder / "junit.xml"


def _interesting(result: Result) -> list[CaseVerdict]:
    return [case for case in result.cases if case.verdict != "fine"]


def _cell(case: CaseVerdict, start: str) -> str:
    found = [said(row).removeprefix(f"{row.metric} ") for row in case.rows if row.metric.startswith(start)]
    return "<br>".join(found) or "–"


def _row(case: CaseVerdict, row: Row) -> str:
    change = said(row).removeprefix(f"{row.metric} ")
    margin = f"{row.margin:+.1%}" if row.unit == "fraction" else f"{row.margin:+.1f} points"
    word = row.verdict if row.judged else f"({row.verdict}, not judged)"
    cells = (_md(case.title), _md(row.metric), change, margin, word, str(row.samples), _md(row.note or ""))
    return f"| {' | '.join(cells)} |"


def _test(case: CaseVerdict, row: Row) -> ElementTree.Element:
    test = ElementTree.Element("testcase", classname=f"amira.{case.case}", name=row.metric)
    if row.verdict == "worse":
        ElementTree.SubElement(test, "failure", type="regression", message=said(row))
    elif row.verdict == "unclear":
        ElementTree.SubElement(test, "error", type="noise", message=f"too noisy to say: {said(row)}")
    else:
        ElementTree.SubElement(test, "system-out").text = said(row)
    return test


def _lacking(case: CaseVerdict) -> ElementTree.Element:
    test = ElementTree.Element("testcase", classname=f"amira.{case.case}", name="measured")
    kind = {"broken": "failure", "unavailable": "skipped"}.get(case.verdict, "error")
    ElementTree.SubElement(test, kind, type=case.verdict, message=case.reason)
    return test


def _md(text: str) -> str:
    return text.translate(MARKDOWN)
