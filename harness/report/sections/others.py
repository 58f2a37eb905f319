"""A further run on the page of another: its cases in one table."""

from __future__ import annotations

from typing import Any

from harness.report.figures.front import corpora
from harness.report.figures.rows import in_order
from harness.report.findings import findings
from harness.report.numbers import number, percent, ratio_interval, span, times
from harness.report.sections import Cell, Section, Table, Verdict

Case = dict[str, Any]


def section(summary: dict[str, Any], prefix: str) -> Section:
    """The section of a run's summary."""
    names = corpora(summary)
    compared = {row["candidate"]: row for row in summary["comparisons"] if row["metric"] == "latency"}
    titles = {case["id"]: case["title"] for case in summary["cases"]}
    facts, data = summary["fingerprint"], summary["data"]
    return Section(
        id=f"{prefix}run",
        title=summary["title"],
        about=(
            f"Run {summary['run']}: {data['utterances']} utterances of “{data['corpus']}”, repeats: {data['repeats']}, "
            f"{facts['cpu']['model']}, {facts['cpu']['cores']} cores, commit {facts['code']['commit'][:12]}."
        ),
        findings=tuple(findings(summary)),
        tables=(
            Table(
                "Cases; the ratio is times as fast as the case that the plan compares with",
                (
                    "Case",
                    "p50, ms",
                    "p99, ms",
                    "CPU s per s",
                    "Peak, MiB",
                    *(f"WER {name}, % (95 %)" for name in names),
                    "Ratio (95 %)",
                    "Verdict",
                    "Compared with",
                ),
                tuple(_row(case, names, compared.get(case["id"]), titles) for case in in_order(summary["cases"])),
                frozenset({6 + len(names), 7 + len(names)}),
            ),
        ),
        notes=tuple(summary["notes"]),
    )


def _row(case: Case, names: list[str], ratio: dict[str, Any] | None, titles: dict[str, str]) -> tuple[Cell, ...]:
    if case["status"] != "ok":
        empty = ("–",) * (4 + len(names) + 1)
        return case["title"], *empty, case["status"], case["reason"] or "–"
    rates = [case["wer"].get(name) for name in names]
    wer = [f"{percent(rate['value'])} ({span(rate['low'], rate['high'], percent)})" if rate else "–" for rate in rates]
    latency = case["latency_ms"]
    numbers = (latency["p50"], latency["p99"], case["cpu_s_per_audio_s"], case["peak_rss_mib"])
    compared: tuple[Cell, ...] = ("–", "–", "–")
    if ratio:
        shown = f"{times(ratio['ratio'])} ({ratio_interval(ratio['low'], ratio['high'])})"
        compared = (shown, Verdict(ratio["verdict"]), titles[ratio["baseline"]])
    return case["title"], *map(number, numbers), *wer, *compared
