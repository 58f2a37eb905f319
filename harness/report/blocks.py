"""What a block of PERFORMANCE.md can hold: a table of something stored, each number linked to its source."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from harness.measured import measured_cases
from harness.report import numbers
from harness.report.sections import Table, Verdict
from harness.scores import ALL, Scores
from harness.store import Run, open_run
from pipelines.errors import AmiraError

HASH_DIGITS = 40
SPECIAL = str.maketrans({"|": "\\|", "\n": " "})
MARKED = r"<!-- {name} -->\n(?P<body>.*?)<!-- end {name} -->"
TABLE = re.compile(r"(?:^\|.*\n)+", re.MULTILINE)
BAR = re.compile(r"(?<!\\)\|")
SEPARATOR = re.compile(r"\|[\s:|-]+")

Summary = Mapping[str, Any]


def cited(markdown: str, link: str) -> str:
    """A text with its tables' cells linked: all that hold a number, but for headings and what names the rows.

    The link is defined once, below the text, under the name of the folder that it leads into.
    """
    name, lines, inside = Path(link).parent.name, [], False
    for line in markdown.rstrip("\n").split("\n"):
        is_row = line.startswith("|")
        if is_row and inside and not SEPARATOR.fullmatch(line):
            first, *cells = BAR.split(line.strip("|"))
            line = f"|{first}|{'|'.join(_linked(cell, name) for cell in cells)}|"
        inside = is_row
        lines.append(line)
    return "\n".join([*lines, "", f"[{name}]: {link}"])


def _linked(cell: str, name: str) -> str:
    plain = cell.strip()
    return f" [{plain}][{name}] " if any(char.isdigit() for char in plain) else cell


def _run_block(table: Callable[[Run, Summary], list[str]]) -> Callable[[Path, str], str]:
    def made(folder: Path, link: str) -> str:
        from harness.summary import summarise

        run = open_run(folder)
        summary = summarise(run)
        text = "\n".join(table(run, summary))
        return f"{cited(text, f'{link}/report.md')}\n\n{_source(summary, link)}\n"

    return made


def _source(summary: Summary, link: str) -> str:
    facts, data = summary["fingerprint"], summary["data"]
    return (
        f"*Run [`{summary['run']}`]({link}/report.md), {_commit(facts['code']['commit'])}, "
        f"{facts['cpu']['model']}, {facts['cpu']['cores']} cores; {data['utterances']} utterances of {data['corpus']}, "
        f"{data['repeats']} interleaved repeat{'s' if data['repeats'] > 1 else ''}. Intervals are 95 %.*"
    )


def _commit(commit: str) -> str:
    return f"commit `{commit[:12]}`" if len(commit) == HASH_DIGITS else commit


def _ladder(_: Run, summary: Summary) -> list[str]:
    titles = {case["id"]: case["title"] for case in summary["cases"]}
    lines = ["| rung | over the rung below | over the lowest | stages that changed |", "|---|---|---|---|"]
    ids = [case["id"] for case in summary["cases"] if case["rung"]]
    if ids:
        lines.append(f"| {_md(titles[ids[0]])} | – | 1 | – |")
    for rung in summary["rungs"]:
        whole = rung["cumulative"]
        if rung["ratio"] is None or whole is None:
            lines.append(f"| {_md(rung['title'])} | {_md(rung['status'])}: {_md(rung['reason'] or '')} | – | – |")
            continue
        changed = ", ".join((rung["attribution"] or {}).get("changed", [])) or "none"
        lines.append(f"| {_md(rung['title'])} | {_ratio(rung)} | {_ratio(whole)} | {changed} |")
    return lines


def _comparisons(_: Run, summary: Summary) -> list[str]:
    return _compared(summary, ("latency", "cpu", "peak_memory"), {case["id"] for case in summary["cases"]})


def _beside(_: Run, summary: Summary) -> list[str]:
    return _compared(summary, ("latency",), {case["id"] for case in summary["cases"] if not case["rung"]})


def _compared(summary: Summary, metrics: tuple[str, ...], wanted: set[str]) -> list[str]:
    """The comparisons of the wanted cases, and those that were not measured with their reason."""
    titles = {case["id"]: case["title"] for case in summary["cases"]}
    lines = ["| candidate | baseline | what | ratio |", "|---|---|---|---|"]
    lines += [
        f"| {_md(titles[row['candidate']])} | {_md(titles[row['baseline']])} | {row['metric'].replace('_', ' ')} "
        f"| {_ratio(row)} |"
        for row in summary["comparisons"]
        if row["metric"] in metrics and row["candidate"] in wanted
    ]
    lines += [
        f"| {_md(case['title'])} | – | – | {case['status']}: {_md(case['reason'] or '')} |"
        for case in summary["cases"]
        if case["id"] in wanted and case["status"] != "ok"
    ]
    return lines


def _accuracy(_: Run, summary: Summary) -> list[str]:
    corpora = list(dict.fromkeys(name for case in summary["cases"] for name in case["wer"]))
    lines = [f"| case | {' | '.join(corpora)} |", f"|---|{'---|' * len(corpora)}"]
    for case in summary["cases"]:
        cells = [_wer(case["wer"].get(corpus)) for corpus in corpora]
        lines.append(f"| {_md(case['title'])} | {' | '.join(cells)} |")
    return lines


def _differences(run: Run, summary: Summary) -> list[str]:
    titles = {case["id"]: case["title"] for case in summary["cases"]}
    corpora = list(dict.fromkeys(name for case in summary["cases"] for name in case["wer_difference"]))
    scores = Scores(run.utterances, {name: case.texts() for name, case in measured_cases(run).items()})
    headings = [*corpora, *([ALL] if len(corpora) > 1 else [])]
    lines = [f"| case | against | {' | '.join(headings)} |", f"|---|---|{'---|' * len(headings)}"]
    for case in summary["cases"]:
        found = [case["wer_difference"].get(corpus) for corpus in corpora]
        against = next((row["baseline"] for row in found if row), None)
        if against is not None:
            if len(corpora) > 1:
                found.append(scores.difference_in_all(case["id"], against))
            cells = ["–" if row is None else _points(row) for row in found]
            lines.append(f"| {_md(case['title'])} | {_md(titles[against])} | {' | '.join(cells)} |")
    return lines


def _points(row: Mapping[str, Any]) -> str:
    span = numbers.span(row["low"], row["high"], numbers.points)
    return f"{numbers.points(row['value'])} points ({span})"


def _decoders(run: Run, summary: Summary) -> list[str]:
    from harness.report.sections.decoders import trade_off

    cases = trade_off(run, dict(summary))
    if not cases:
        raise AmiraError(f"run '{summary['run']}' has no two decoders of one model: there is nothing to compare.")
    corpora = list(dict.fromkeys(name for case in cases for name in case["wer"]))
    lines = [f"| decoder | ms of decoding a second of audio | {' | '.join(corpora)} |"]
    lines.append(f"|---|---|{'---|' * len(corpora)}")
    for case in cases:
        spent, interval = numbers.number(case["rtf"]), case["rtf_interval"]
        span = numbers.span(interval["low"], interval["high"], numbers.number)
        cells = [_wer(case["wer"].get(corpus)) for corpus in corpora]
        lines.append(f"| {_md(case['title'])} | {spent} ({span}) | {' | '.join(cells)} |")
    return lines


def _calibration(folder: Path, link: str) -> str:
    from harness.gate.calibration import markdown

    path = folder / "calibration.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise AmiraError(
            f"'{path}' is no calibration: {error}. Make one: amira gate calibrate --output FOLDER"
        ) from error
    table = cited(markdown(found), f"{link}/calibration.json")
    return f"{table}\n\n*Calibration [`{found['run']}`]({link}/calibration.json). Intervals are 95 %, exact.*\n"


def _ledger(folder: Path, link: str) -> str:
    from harness.ledger import ledger
    from harness.ledger_text import markdown

    run = open_run(folder)
    table = cited(markdown(ledger(run)), f"{link}/report.md")
    return f"{table}\n\n*Run [`{run.manifest.run}`]({link}/report.md). Intervals are 95 %.*\n"


def _load(folder: Path, link: str) -> str:
    from harness.load.summary import summarise
    from harness.load.text import HEADINGS, row

    summary = summarise(folder)
    facts = summary["fingerprint"]
    table = _table(Table("", HEADINGS, tuple(row(step) for step in summary["steps"])))
    return (
        f"{cited(table, f'{link}/report.md')}\n\n*Load run [`{summary['run']}`]({link}/report.md), "
        f"{_commit(facts['code']['commit'])}, {facts['cpu']['model']}, {facts['cpu']['cores']} cores, real speech of "
        f"{summary['corpus']}; open loop, from when the audio had been spoken.*\n"
    )


def _faults(folder: Path, link: str) -> str:
    from harness.faults import HEADINGS, MEANINGS, read_faults

    faults, _ = read_faults(folder)
    table = _table(Table("", HEADINGS, tuple(fault.cells() for fault in faults)))
    return f"{cited(table, f'{link}/report.md')}\n\n{' '.join(MEANINGS)}\n\n*[Faults]({link}/report.md).*\n"


def _excerpt(path: Path, link: str) -> str:
    """A table of a document that a command makes: `README.md#targets` by its marker, `result.md#2` by its place."""
    document, _, name = str(path).partition("#")
    try:
        text = Path(document).read_text(encoding="utf-8")
    except OSError as error:
        raise AmiraError(f"'{document}' cannot be read: {error.strerror}.") from error
    if name.isdigit():
        found = TABLE.findall(f"{text}\n")
        body = found[int(name) - 1] if 0 < int(name) <= len(found) else None
    else:
        match = re.search(MARKED.format(name=re.escape(name)), text, re.DOTALL)
        body = match["body"] if match else None
    if body is None:
        raise AmiraError(f"'{document}' has no table '{name}'. Name a table by its place, or by the marker before it.")
    source = link.partition("#")[0]
    return f"{cited(body.rstrip(), source)}\n\n*From [{source}]({source}), made from the samples beside it.*\n"


def _table(table: Table) -> str:
    def text(cell: str | Verdict) -> str:
        return _md(cell.word if isinstance(cell, Verdict) else cell)

    lines = [f"| {' | '.join(table.headings)} |", f"|{'---|' * len(table.headings)}"]
    return "\n".join([*lines, *(f"| {' | '.join(map(text, row))} |" for row in table.rows)])


def _ratio(row: Mapping[str, Any]) -> str:
    span = numbers.ratio_interval(row["low"], row["high"])
    return f"{numbers.ratio(row['ratio'])} ({span}) {row['verdict']}"


def _wer(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "–"
    span = "" if found["low"] is None else f" ({found['low']:.1%} to {found['high']:.1%})"
    return f"{found['value']:.1%}{span}"


def _md(text: str) -> str:
    return text.translate(SPECIAL)


KINDS: dict[str, Callable[[Path, str], str]] = {
    "ladder": _run_block(_ladder),
    "beside": _run_block(_beside),
    "comparisons": _run_block(_comparisons),
    "accuracy": _run_block(_accuracy),
    "differences": _run_block(_differences),
    "decoders": _run_block(_decoders),
    "calibration": _calibration,
    "ledger": _ledger,
    "load": _load,
    "faults": _faults,
    "excerpt": _excerpt,
}
"""The kinds of blocks: what is stored in a folder, and how a document cites it, to Markdown."""
