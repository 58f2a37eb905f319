"""From summary and pictures to the HTML page and the Markdown file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness import stats
from harness.records import SCHEMA_VERSION
from harness.report import numbers
from harness.report.figures.front import corpora
from harness.report.figures.rows import in_order, measured
from harness.report.figures.stages import stage_order
from harness.report.findings import findings
from harness.report.pictures import Picture
from harness.report.sections import Section
from harness.report.texts import examples
from harness.store import Run

TEMPLATES = Path(__file__).parent / "templates"
MARKDOWN_SPECIAL = str.maketrans({char: f"\\{char}" for char in "\\`*_[]<>|#"} | {"\n": " "})


def html_page(run: Run, summary: dict[str, Any], pictures: dict[str, Picture], sections: Sequence[Section] = ()) -> str:
    """The report as one HTML document with everything inside."""
    return _render("report.html.j2", _context(run, summary, pictures, sections), autoescape=True)


def markdown_page(
    run: Run, summary: dict[str, Any], pictures: dict[str, Picture], sections: Sequence[Section] = ()
) -> str:
    """The report as Markdown that refers to the files in `figures/`."""
    return _render("report.md.j2", _context(run, summary, pictures, sections), autoescape=False)


def html_of_sections(title: str, origin: str, sections: Sequence[Section]) -> str:
    """A page of sections alone."""
    return _render("sections.html.j2", _of_sections(title, origin, sections), autoescape=True)


def markdown_of_sections(title: str, origin: str, sections: Sequence[Section]) -> str:
    """The same as Markdown."""
    return _render("sections.md.j2", _of_sections(title, origin, sections), autoescape=False)


def _of_sections(title: str, origin: str, sections: Sequence[Section]) -> dict[str, Any]:
    return {"title": title, "origin": origin, "sections": sections, "schema_version": SCHEMA_VERSION}


def _render(template: str, context: dict[str, Any], *, autoescape: bool) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=autoescape,  # Markdown escapes by the `md` filter instead
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": numbers.number,
        "ratio": numbers.ratio,
        "times": numbers.times,
        "percent": numbers.percent,
        "share": numbers.share,
        "bound": numbers.bound,
        "points": numbers.points,
        "count": numbers.count,
        "file_size": numbers.file_size,
        "interval": lambda row: numbers.ratio_interval(row["low"], row["high"]),
        "percent_interval": lambda row: numbers.span(row["low"], row["high"], numbers.percent),
        "points_interval": lambda row: numbers.span(row["low"], row["high"], numbers.points),
        "md": lambda text: str(text).translate(MARKDOWN_SPECIAL),
    }
    return environment.get_template(template).render(context)


def _context(
    run: Run, summary: dict[str, Any], pictures: dict[str, Picture], sections: Sequence[Section]
) -> dict[str, Any]:
    cases = in_order(summary["cases"])
    ok = measured(summary)
    return {
        **_of_sections(summary["title"], f"run {summary['run']}", sections),
        "summary": summary,
        "pictures": pictures,
        "findings": findings(summary),
        "facts": _facts(summary),
        "titles": {case["id"]: case["title"] for case in summary["cases"]},
        "cases": cases,
        "measured": ok,
        "missing": [case for case in cases if case["status"] != "ok"],
        "ladder": _ladder_rows(summary),
        "attributed": _attributed(summary),
        "compared": _beside_the_ladder(summary),
        "costs": {
            (row["candidate"], row["metric"]): row for row in summary["comparisons"] if row["metric"] != "latency"
        },
        "stages": stage_order([case for case in ok if case["stages_ms"]]) if ok else [],
        "corpora": corpora(summary),
        "aged": _ages(ok),
        "confused": [case for case in ok if case["confusions"] and any(case["confusions"].values())],
        "examples": examples(run),
        "fingerprint": flatten(summary["fingerprint"]),
        "assumed_factor": stats.ASSUMED_PROCESS_FACTOR,
        "p99_needs": stats.samples_to_bound(0.99),
        "remembered": [case for case in ok if case["memory"]],
        "unstable": [case for case in ok if case["unstable_texts"]],
    }


def _ages(cases: list[dict[str, Any]]) -> dict[str, list[str]]:
    """The age groups of each corpus whose speakers' ages are known, from the youngest."""
    found: dict[str, list[str]] = {}
    for case in cases:
        for corpus, ages in case["wer_by_age"].items():
            found.setdefault(corpus, list(ages))
    return found


def _facts(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """What was compared on what, as value and label."""
    data = summary["data"]
    speakers = data["speakers"]
    minutes = data["audio_s"] / 60
    return [
        (f"{len(summary['cases'])}", "case" if len(summary["cases"]) == 1 else "cases"),
        (f"{data['utterances']:,}", "utterance" if data["utterances"] == 1 else "utterances"),
        (numbers.number(minutes), "minutes of speech"),
        (numbers.MISSING if speakers is None else f"{speakers:,}", _speakers_label(speakers)),
        (f"{data['repeats']}", "repeat" if data["repeats"] == 1 else "interleaved repeats"),
        (f"{data['samples']:,}", "samples"),
    ]


def _speakers_label(speakers: int | None) -> str:
    if speakers is None:
        return "speakers unknown"
    return "speaker" if speakers == 1 else "speakers"


def _ladder_rows(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """The ladder's table from the top down: each rung's case with its comparison, `None` for the bottom."""
    rungs = {rung["candidate"]: rung for rung in summary["rungs"]}
    if not any(rung["ratio"] is not None for rung in rungs.values()):
        return []
    ids = [case["id"] for case in summary["cases"] if case["rung"]]
    below = dict(zip(ids[1:], ids, strict=False))
    return [
        {
            "case": case,
            "rung": (rung := rungs.get(case["id"])),
            "skips": rung is not None and rung["baseline"] is not None and rung["baseline"] != below[case["id"]],
        }
        for case in in_order(summary["cases"])
        if case["rung"]
    ]


def _attributed(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """The rungs that have an attribution, from the top down, each with the stages that it changed."""
    rows = [rung for rung in reversed(summary["rungs"]) if rung["attribution"]]
    return [
        {"rung": rung, "stages": [stage for stage in rung["attribution"]["stages"] if stage["changed"]]}
        for rung in rows
    ]


def _beside_the_ladder(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """The latency comparisons that the ladder does not show already."""
    shown = {(rung["baseline"], rung["candidate"]) for rung in summary["rungs"]}
    rows = [row for row in summary["comparisons"] if row["metric"] == "latency"]
    return [row for row in rows if (row["baseline"], row["candidate"]) not in shown]


def flatten(value: Any, prefix: str = "") -> list[tuple[str, str]]:
    """Nested keys as `a.b` with their value as text; lists of plain values stay on one line."""
    if isinstance(value, dict):
        return [
            row for key, inner in value.items() for row in flatten(inner, f"{prefix}.{key}" if prefix else str(key))
        ]
    if isinstance(value, list | tuple):
        if any(isinstance(inner, dict | list) for inner in value):
            return [row for index, inner in enumerate(value) for row in flatten(inner, f"{prefix}.{index}")]
        return [(prefix, " ".join(str(inner) for inner in value) or "none")]
    return [
        (prefix, {None: "unknown", True: "yes", False: "no"}.get(value, str(value)) if _plain(value) else str(value))
    ]


def _plain(value: Any) -> bool:
    return value is None or isinstance(value, bool)
