"""PERFORMANCE.md: text by hand, tables between markers from stored runs.

A block begins with `<!-- amira KIND PATH -->` and ends with `<!-- /amira -->`. What stands between is made anew from
the run (or calibration) in the folder PATH, relative to the document, so that no number can be older than its run.
Every cell with a number links to the report of its run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from harness.report import numbers
from harness.store import open_run
from pipelines.errors import AmiraError, unknown

DOCUMENT = "PERFORMANCE.md"
HASH_DIGITS = 40
BLOCK = re.compile(r"(<!-- amira (?P<kind>\S+) (?P<path>\S+) -->\n)(?P<body>.*?)(<!-- /amira -->)", re.DOTALL)
SPECIAL = str.maketrans({"|": "\\|", "\n": " "})

Summary = Mapping[str, Any]


def filled_in(document: Path) -> str:
    """The document with every block made anew.

    Raises:
        AmiraError: A block is of an unknown kind, is never closed, or its run cannot be read.
    """
    try:
        text = document.read_text(encoding="utf-8")
    except OSError as error:
        raise AmiraError(f"'{document}' cannot be read: {error.strerror}.") from error
    opened, closed = text.count("<!-- amira "), len(BLOCK.findall(text))
    if opened != closed:
        raise AmiraError(
            f"'{document}' has {opened} blocks and {closed} that are closed. Close each with <!-- /amira -->."
        )
    return BLOCK.sub(lambda block: f"{block[1]}{_body(block['kind'], block['path'], document)}{block[5]}", text)


def _body(kind: str, path: str, document: Path) -> str:
    if kind not in KINDS:
        raise unknown("block", kind, KINDS, f"It stands in '{document}'.")
    return KINDS[kind](document.parent / path, path)


def _run_block(table: Callable[[Summary, str], list[str]]) -> Callable[[Path, str], str]:
    def made(folder: Path, link: str) -> str:
        from harness.summary import summarise

        summary = summarise(open_run(folder))
        return "\n".join([*table(summary, f"{link}/report.md"), "", _source(summary, link), ""])

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


def _ladder(summary: Summary, link: str) -> list[str]:
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
        lines.append(f"| {_md(rung['title'])} | {_ratio(rung, link)} | {_ratio(whole, link)} | {changed} |")
    return lines


def _comparisons(summary: Summary, link: str) -> list[str]:
    titles = {case["id"]: case["title"] for case in summary["cases"]}
    lines = ["| candidate | baseline | what | ratio |", "|---|---|---|---|"]
    lines += [
        f"| {_md(titles[row['candidate']])} | {_md(titles[row['baseline']])} | {row['metric'].replace('_', ' ')} "
        f"| {_ratio(row, link)} |"
        for row in summary["comparisons"]
        if row["metric"] in ("latency", "cpu", "peak_memory")
    ]
    return lines


def _accuracy(summary: Summary, link: str) -> list[str]:
    corpora = list(dict.fromkeys(name for case in summary["cases"] for name in case["wer"]))
    lines = [f"| case | {' | '.join(corpora)} |", f"|---|{'---|' * len(corpora)}"]
    for case in summary["cases"]:
        cells = [_wer(case["wer"].get(corpus), link) for corpus in corpora]
        lines.append(f"| {_md(case['title'])} | {' | '.join(cells)} |")
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
    return f"{markdown(found)}\n*Calibration [`{found['run']}`]({link}/calibration.json). Intervals are 95 %, exact.*\n"


def _ledger(folder: Path, link: str) -> str:
    from harness.ledger import ledger
    from harness.ledger_text import markdown

    run = open_run(folder)
    return f"{markdown(ledger(run))}\n*Run [`{run.manifest.run}`]({link}/report.md). Intervals are 95 %.*\n"


def _ratio(row: Mapping[str, Any], link: str) -> str:
    span = numbers.ratio_interval(row["low"], row["high"])
    return f"[{numbers.ratio(row['ratio'])} ({span})]({link}) {row['verdict']}"


def _wer(found: Mapping[str, Any] | None, link: str) -> str:
    if found is None:
        return "–"
    span = "" if found["low"] is None else f" ({found['low']:.1%} to {found['high']:.1%})"
    return f"[{found['value']:.1%}{span}]({link})"


def _md(text: str) -> str:
    return text.translate(SPECIAL)


KINDS: dict[str, Callable[[Path, str], str]] = {
    "ladder": _run_block(_ladder),
    "comparisons": _run_block(_comparisons),
    "accuracy": _run_block(_accuracy),
    "calibration": _calibration,
    "ledger": _ledger,
}
"""What a block can hold."""
