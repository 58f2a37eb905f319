"""What decoders buy: word errors against the time of the stage `decode`, where cases differ in nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness import stats
from harness.measured import Measured, measured_cases, table
from harness.report.figures import front
from harness.report.numbers import listing, number, percent, share, span
from harness.report.pictures import picture
from harness.report.sections import Cell, Section, Table
from harness.store import Run

DECODER = "decoder"
STAGE = "decode"
NS_PER_MS = 1e6
Case = dict[str, Any]


def section(run: Run, summary: dict[str, Any], prefix: str = "") -> Section | None:
    """The section; `None` where no two cases decode the same model's output in different ways."""
    cases = trade_off(run, summary)
    if not cases:
        return None
    corpora = front.corpora(summary | {"cases": cases})
    short = [case | {"title": case["id"]} for case in cases]  # many decoders have long names that begin alike
    drawn = picture(
        f"{prefix}decoders",
        lambda layout: front.draw(summary | {"cases": short}, layout, "ms of decoding for a second of audio"),
        lambda: f"Word error rate against decoding time. {' '.join(_findings(cases, corpora))}",
    )
    headings = ("Case", "In the figure", "Decoding, ms per s of audio", "95 % interval", "Share of a request, %")
    wer = tuple(heading for corpus in corpora for heading in (f"WER {corpus}, %", "95 % interval"))
    return Section(
        id=f"{prefix}decoders",
        title="Decoders",
        about=(
            "Cases that share model and acoustic variant and differ in how its output is searched. Left and low is "
            "better; the joined points are those that no other beats in both."
        ),
        findings=_findings(cases, corpora),
        figures=(drawn,) if drawn else (),
        tables=(
            Table(
                "Decoding time and word error rate",
                (*headings, *wer, "Peak memory, MiB"),
                tuple(_row(case, corpora) for case in cases),
                frozenset({1}),
            ),
        ),
    )


def trade_off(run: Run, summary: dict[str, Any]) -> list[Case]:
    """The summary's cases whose decoders can be compared, `rtf` being ms of decoding for a second of audio."""
    measured = measured_cases(run)
    groups: dict[tuple[str, str], list[str]] = {}
    for name, case in measured.items():
        pipeline = case.entry.case.pipeline
        if DECODER in pipeline.variants and any(STAGE in row.stages_ns for row in case.steady.values()):
            groups.setdefault((pipeline.model, pipeline.variants.get("acoustic", "")), []).append(name)
    wanted = {
        name for names in groups.values() if len({_decoder(measured[each]) for each in names}) > 1 for name in names
    }
    durations = [utterance.duration_s for utterance in run.utterances.values()]
    found = []
    for case in summary["cases"]:
        if case["id"] in wanted:
            spent = table(run, measured[case["id"]].steady, lambda row: row.stages_ns.get(STAGE, 0) / NS_PER_MS)
            rate = stats.rate_interval(spent, durations)
            whole = sum(row.latency_ns for row in measured[case["id"]].steady.values())
            own = sum(row.stages_ns.get(STAGE, 0) for row in measured[case["id"]].steady.values())
            found.append(
                case
                | {
                    "rtf": rate.value,
                    "rtf_interval": {"low": rate.low, "high": rate.high},
                    "share": own / whole,
                }
            )
    return found if all(case["rtf"] > 0 for case in found) else []


def _decoder(case: Measured) -> tuple[str, str]:
    pipeline = case.entry.case.pipeline
    return pipeline.variants[DECODER], str(pipeline.options.get(DECODER))


def _row(case: Case, corpora: Sequence[str]) -> tuple[Cell, ...]:
    rates = [case["wer"].get(corpus) for corpus in corpora]
    wer = [
        cell
        for rate in rates
        for cell in (
            percent(rate["value"] if rate else None),
            span(rate["low"], rate["high"], percent) if rate else "–",
        )
    ]
    spent = case["rtf_interval"]
    return (
        case["title"],
        case["id"],
        number(case["rtf"]),
        span(spent["low"], spent["high"], number),
        share(case["share"]),
        *wer,
        number(case["peak_rss_mib"]),
    )


def _findings(cases: list[Case], corpora: Sequence[str]) -> tuple[str, ...]:
    found = []
    for corpus in corpora:
        best = [
            f"“{case['title']}” ({percent(case['wer'][corpus]['value'])} %, {number(case['rtf'])} ms)"
            for case in front.efficient([case for case in cases if corpus in case["wer"]], corpus)
        ]
        found.append(f"On {corpus} no other is both faster and more accurate than {listing(best)}.")
    return tuple(found)
