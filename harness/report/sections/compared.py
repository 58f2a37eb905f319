"""Two stored runs beside each other, case by case, as `amira compare` judges them."""

from __future__ import annotations

from dataclasses import replace

from harness.gate import baselines
from harness.gate.config import GateConfig
from harness.gate.judge import CaseVerdict, judge
from harness.gate.row import Row, said
from harness.gate.run import DRIFT
from harness.gate.sides import apart
from harness.report.figures import forest
from harness.report.pictures import picture
from harness.report.sections import Cell, Section, Table, Verdict
from harness.store import Run
from pipelines.errors import AmiraError

METRICS = ("latency", "cpu", "peak_memory")


def section(baseline: Run, candidate: Run, config: GateConfig, *, anyway: bool, prefix: str = "") -> Section | None:
    """The section; `None` where the runs have no case in common."""
    both = set(baseline.cases) & set(candidate.cases)
    if not both:
        return None
    names = (baseline.manifest.run, candidate.manifest.run)
    about = f"{names[1]} against {names[0]}, commit {_commit(candidate)} against {_commit(baseline)}."
    facts = (baseline.manifest.fingerprint, candidate.manifest.fingerprint)
    try:
        if not anyway:
            baselines.check_comparable(*facts)
    except AmiraError as error:
        note = f"Not compared: {error} To compare them all the same: amira report --anyway."
        return Section(f"{prefix}compared", _title(baseline), about, notes=(note,))
    cases = [judge(evidence, config) for evidence in apart(baseline, candidate) if evidence.case in both]
    differences = [f"The fingerprints differ: {line}" for line in baselines.differences(*facts)]
    return _made(Section(f"{prefix}compared", _title(baseline), about), cases, differences, config)


def _title(baseline: Run) -> str:
    return f"Against {baseline.manifest.run}"


def _made(empty: Section, cases: list[CaseVerdict], differences: list[str], config: GateConfig) -> Section:
    corpora = list(dict.fromkeys(row.metric for case in cases for row in case.rows if row.metric.startswith("wer ")))
    metrics = [metric for metric in (*METRICS, *corpora) if any(_row(case, metric) for case in cases)]
    shown = [case for case in cases if _row(case, "latency")]
    panel = forest.Panel("Speed against the baseline run", [_mark(_row(case, "latency")) for case in shown])
    drawn = picture(
        empty.id,
        lambda layout: forest.draw([case.title for case in shown], [panel], "times as fast, 95 % interval", layout),
        lambda: "; ".join(f"{case.title}: {case.reason}" for case in shown),
    )
    worse = [case for case in cases if case.verdict in ("worse", "broken")]
    findings = tuple(f"“{case.title}” is {case.verdict}: {_reason(case, metrics)}." for case in worse)
    return replace(
        empty,
        about=f"{empty.about} The runs share no hour, so this says less than one run with both cases.",
        findings=findings or ("No case is shown to be worse by its margin.",),
        figures=(drawn,) if drawn else (),
        tables=(
            Table(
                "Change with 95 % interval; above 0 is slower, more, or more wrong",
                ("Case", "Verdict", *(metric.replace("_", " ") for metric in metrics)),
                tuple(_cells(case, metrics) for case in cases),
                frozenset({1}),
            ),
        ),
        notes=(DRIFT.format(config.stored.drift), *differences),
    )


def _cells(case: CaseVerdict, metrics: list[str]) -> tuple[Cell, ...]:
    rows = [_row(case, metric) for metric in metrics]
    cells = [said(row).removeprefix(f"{row.metric} ") if row else "–" for row in rows]
    return case.title, Verdict(case.verdict), *cells


def _reason(case: CaseVerdict, metrics: list[str]) -> str:
    """The numbers of the table that are worse; stages and kernels stand in `amira compare`."""
    worse = [said(row) for row in case.rows if row.judged and row.verdict == "worse" and row.metric in metrics]
    return "; ".join(worse) or case.reason


def _row(case: CaseVerdict, metric: str) -> Row | None:
    return next((row for row in case.rows if row.metric == metric), None)


def _mark(row: Row | None) -> forest.Mark:
    """The change of a time as a ratio, baseline over candidate, as everywhere on the page."""
    if row is None or row.low is None or row.high is None:
        return forest.Mark(None if row is None else 1 / (1 + row.change))
    word = {"worse": "slower", "better": "faster"}.get(row.verdict, "unclear")
    return forest.Mark(1 / (1 + row.change), 1 / (1 + row.high), 1 / (1 + row.low), word)


def _commit(run: Run) -> str:
    return str(run.manifest.fingerprint.get("code", {}).get("commit", "unknown"))[:12]
