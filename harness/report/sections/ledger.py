"""The ledger of a factorial run."""

from __future__ import annotations

from typing import Any

from harness.ledger import ledger
from harness.ledger_text import cell
from harness.prices import Prices
from harness.report.figures import forest
from harness.report.numbers import number, percent, span
from harness.report.pictures import Picture, picture
from harness.report.sections import Cell, Section, Table, Verdict
from harness.stats import NO_EFFECT_MARGIN
from harness.store import Run

NOTE = f"times as fast, 95 % interval; band: ±{percent(NO_EFFECT_MARGIN, 0)} %"


def section(run: Run, prices: Prices | None, prefix: str = "") -> Section:
    """Effects, pairs, the check of sums, and costs."""
    found = ledger(run, prices)
    stages = list(found["effects"][0]["stages"])
    drawn = _figure(found, prefix)
    return Section(
        id=f"{prefix}ledger",
        title="Ledger",
        about=(
            "Every combination of the changes was measured, so that each can be told from the others: what it does on "
            "average over the settings of the rest, and how much more two do together than apart. Above 1 is faster."
        ),
        findings=tuple(found["findings"]),
        figures=(drawn,) if drawn else (),
        tables=(
            Table(
                "Times as fast, with 95 % intervals",
                ("Change", "End to end", "Verdict", "CPU time", "Verdict", *stages),
                tuple(_effect(row, stages) for row in found["effects"]),
                frozenset({2, 4}),
            ),
            Table(
                "Do the stages add up? What their own changes promise by Amdahl's law, and what was measured",
                ("Change", "Promised", "Measured", "Measured over promised", "Sum"),
                tuple(_sum(row) for row in found["effects"] if row["amdahl"]),
                frozenset({4}),
            ),
            _costs(found),
        ),
        notes=tuple(
            f"Not to be told apart in this plan: {row['term']} and {', '.join(row['with']) or 'the mean'}."
            for row in found["aliased"]
        ),
    )


def _effect(row: dict[str, Any], stages: list[str]) -> tuple[Cell, ...]:
    name = " or ".join([row["term"], *row["or"]])
    name = name if row["kind"] == "main" else f"{name}, more than apart"
    return (
        name,
        cell(row, word=False),
        Verdict(row["verdict"]),
        cell(row["cpu"], word=False),
        Verdict(row["cpu"]["verdict"]),
        *(cell(row["stages"][stage], word=False) for stage in stages),
    )


def _sum(row: dict[str, Any]) -> tuple[Cell, ...]:
    sums = row["amdahl"]
    return (
        row["term"],
        cell(sums["promised"], word=False),
        cell(row, word=False),
        cell(sums["measured_over_promised"], word=False),
        "adds up" if sums["holds"] else "does not add up",
    )


def _costs(found: dict[str, Any]) -> Table:
    rows = []
    for row in found["costs"]:
        cpu, money = row["cpu_s_per_audio_hour"], row["money_per_audio_hour"]
        priced = (f"{money['value']:.5f} ({money['low']:.5f} to {money['high']:.5f})",) if money else ()
        rows.append((row["title"], number(cpu["value"]), span(cpu["low"], cpu["high"], number), *priced))
    unit = (f"{found['currency']} an hour of audio (95 %)",) if found["currency"] else ()
    headings = ("Case", "CPU seconds an hour of audio", "95 % interval", *unit)
    return Table("What an hour of audio costs", headings, tuple(rows))


def _figure(found: dict[str, Any], prefix: str) -> Picture | None:
    panels = [
        forest.Panel("End to end", [forest.Mark.of(row) for row in found["effects"]]),
        forest.Panel("CPU time", [forest.Mark.of(row["cpu"]) for row in found["effects"]]),
    ]
    titles = [row["term"] if row["kind"] == "main" else f"{row['term']}, together" for row in found["effects"]]
    return picture(
        f"{prefix}ledger",
        lambda layout: forest.draw(titles, panels, NOTE, layout),
        lambda: f"Effects of the changes, with intervals. {' '.join(found['findings'])}",
    )
