"""A load run: how late the words of a server come as streams are added, and what it spends."""

from __future__ import annotations

from typing import Any

from harness.load.text import HEADINGS, row
from harness.report.figures import load as figure
from harness.report.numbers import count, number
from harness.report.pictures import picture
from harness.report.sections import Section, Table

KINDS = {"first_partial": "First partial", "partial": "Partials", "stable": "Stable words", "final": "Finals"}


def section(summary: dict[str, Any], prefix: str = "") -> Section:
    """The section of a load run's summary."""
    steps = summary["steps"]
    drawn = picture(
        f"{prefix}load", lambda layout: figure.draw(steps, layout), lambda: f"Latency under load. {_finding(steps)}"
    )
    code, cpu = summary["fingerprint"]["code"], summary["fingerprint"]["cpu"]
    return Section(
        id=f"{prefix}load",
        title="Load",
        about=(
            f"Load run {summary['run']}: real speech of “{summary['corpus']}”, sent when it was due, whatever the "
            f"server did (open loop), on {cpu['model']}, {cpu['cores']} cores, commit {code['commit'][:12]}. Latency "
            "runs from when the audio of a word had been spoken by the schedule; the naive number, from when it was "
            "sent, stands beside it and forgives a server that makes its clients wait."
        ),
        findings=(_finding(steps),),
        figures=(drawn,) if drawn else (),
        tables=(
            Table("Each step, from due time", HEADINGS, tuple(row(step) for step in steps)),
            Table(
                "Percentiles in ms, from due time and from send",
                ("Streams", "What", "n", "p50", "p90", "p99", "max", "p50 from send", "p99 from send"),
                tuple(_kind(step, kind) for step in steps for kind in KINDS),
                frozenset({1}),
            ),
        ),
        notes=tuple(summary["notes"]),
    )


def _kind(step: dict[str, Any], kind: str) -> tuple[str, ...]:
    due, sent = step["latency_ms"][kind], step["latency_ms"][f"{kind}_from_send"]
    values = (due["p50"], due["p90"], due["p99"], due["max"], sent["p50"], sent["p99"])
    return (str(step["streams"]), KINDS[kind], str(due["n"]), *map(number, values))


def _finding(steps: list[dict[str, Any]]) -> str:
    last = steps[-1]
    lost, errors = sum(step["lost_ms"] for step in steps), sum(step["errors"] for step in steps)
    partial = last["latency_ms"]["partial"]
    late = f"99 % of the partials came within {number(partial['p99'])} ms" if partial["n"] else "no partial came"
    kept = "no audio was lost" if not lost else f"{number(lost)} ms of audio were lost"
    broken = "no session failed" if not errors else f"{count(errors, 'session')} failed"
    return f"At {count(last['streams'], 'stream')} {late}; over all steps {kept} and {broken}."
