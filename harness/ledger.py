"""The attribution ledger: what each change is worth on its own, and together with each other.

A run of a full or half factorial plan (`[matrix]`) has every combination of some axes. On the logarithm of time, a
linear model with a term for each change and for each pair of changes separates them: a main effect is what a change
does on average over all settings of the others, an interaction how much more two changes do together than each alone.
Columns are centred, so in a balanced plan the terms do not disturb each other (Box, Hunter and Hunter, "Statistics for
Experimenters", chapters 5 and 6). The model is fitted to each interleaved repeat by itself, and the spread of its terms
over the repeats gives their intervals. A term that the plan cannot tell from others (half of a plan) is not estimated:
it is listed with the terms whose numbers hold it, too.

Two sums are checked. `amdahl`: a change makes each stage faster or slower; weighted by the stages' shares this promises
a gain end to end (Amdahl, AFIPS 1967), which is held against the measured one. `together`: all changes at once against
what the single changes promise.

Ratios are base over changed, as everywhere: above 1 is faster, below 1 is harmful, and "no effect" is a finding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import exp, isfinite
from typing import Any

import numpy as np

from harness import stats
from harness.ledger_text import findings
from harness.measured import Measured, measured_cases, table
from harness.prices import Prices
from harness.records import Sample
from harness.store import Run
from pipelines.errors import AmiraError

NS_PER_S = 1e9
ROUNDING = 1e-9
WHOLE = "latency"
CPU = "cpu"
OTHER = "other"
"""What no stage covers."""
MARGIN = stats.NO_EFFECT_MARGIN


@dataclass(frozen=True, slots=True)
class Term:
    """A change, or two changes together: (axis, variant) each."""

    parts: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        return " and ".join(variant for _, variant in self.parts)


@dataclass(frozen=True, slots=True)
class Design:
    """The axes that vary, each with its variants, the base first, and the cases that have each combination."""

    axes: dict[str, list[str]]
    cases: list[Measured]

    def terms(self) -> list[Term]:
        """Main effects, then two-way interactions."""
        main = [(axis, name) for axis, names in self.axes.items() for name in names[1:]]
        pairs = [pair for pair in combinations(main, 2) if pair[0][0] != pair[1][0]]
        return [*(Term((part,)) for part in main), *(Term(pair) for pair in pairs)]

    def columns(self, terms: Sequence[Term]) -> stats.Floats:
        """The model's columns: (cases, 1 + terms)."""
        found = [np.ones(len(self.cases))]
        for term in terms:
            column = np.ones(len(self.cases))
            for axis, name in term.parts:
                column = column * (self._has(axis, name) - 1 / len(self.axes[axis]))
            found.append(column)
        return np.stack(found, axis=1)

    def _has(self, axis: str, name: str) -> stats.Floats:
        return np.array([float(case.entry.case.pipeline.variants[axis] == name) for case in self.cases])


def ledger(run: Run, prices: Prices | None = None) -> dict[str, Any]:
    """The ledger of a factorial run.

    Args:
        run: The run.
        prices: What a core costs; without, there are CPU seconds and no money.

    Returns:
        A JSON-ready document: `axes`, `findings` (sentences), `effects` (of the whole, of CPU time and of each stage,
        with `amdahl` for the main effects), `together`, `costs`, `aliased`.

    Raises:
        AmiraError: The run's cases are no factorial plan, have too few measured cases, or were measured for accuracy.
    """
    design = _design(run)
    terms, aliased = _estimable(design)
    shared = _aliases(design, terms, aliased)
    stages = sorted({stage for case in design.cases for row in case.steady.values() for stage in row.stages_ns})
    values: dict[str, Callable[[Sample], float]] = {
        WHOLE: lambda row: float(row.latency_ns),
        CPU: lambda row: float(row.cpu_ns),
    }
    for stage in stages:
        values[stage] = lambda row, stage=stage: float(row.stages_ns.get(stage, 0))  # type: ignore[misc]
    values[OTHER] = lambda row: float(row.latency_ns - sum(row.stages_ns.values()))
    fits = {name: _fit(run, design, terms, value) for name, value in values.items()}
    known = [stage for stage in stages if np.isfinite(fits[stage]).all()]
    effects = [
        {
            "term": str(term),
            "kind": "main" if len(term.parts) == 1 else "interaction",
            **_said(fits[WHOLE][:, place]),
            "cpu": _said(fits[CPU][:, place]),
            "stages": {stage: _said(fits[stage][:, place]) for stage in known},
            "amdahl": _amdahl(design, term, place, fits, stages) if len(term.parts) == 1 else None,
            "or": [str(other) for other, holders in shared.items() if term in holders],
        }
        for place, term in enumerate(terms)
    ]
    together = _together(run, design, terms, fits[WHOLE])
    return {
        "run": run.manifest.run,
        "axes": design.axes,
        "cases": len(design.cases),
        "repeats": run.manifest.repeats,
        "findings": findings(effects, together),
        "effects": effects,
        "together": together,
        "costs": [_cost(run, case, prices) for case in design.cases],
        "currency": prices.currency if prices else None,
        "aliased": [
            {"term": str(term), "with": [str(holder) for holder in holders]} for term, holders in shared.items()
        ],
    }


def is_factorial(run: Run) -> bool:
    """Whether a run has what a ledger needs."""
    try:
        _design(run)
    except AmiraError:
        return False
    return True


def _design(run: Run) -> Design:
    if not run.manifest.timed:
        raise AmiraError(
            f"run '{run.manifest.run}' measured accuracy alone, and a ledger is about time. "
            'Set measures = "timing" in the plan and measure again.'
        )
    measured = measured_cases(run)
    cases = [measured[name] for name, entry in run.cases.items() if name in measured and not entry.case.side]
    cases = [case for case in cases if not case.entry.case.rung]
    kinds = {tuple(sorted(case.entry.case.pipeline.variants)) for case in cases}
    common = [case for case in cases if tuple(sorted(case.entry.case.pipeline.variants)) == max(kinds, key=len)]
    names: dict[str, list[str]] = {}
    for case in common:
        for axis, variant in case.entry.case.pipeline.variants.items():
            if variant not in names.setdefault(axis, []):
                names[axis].append(variant)
    axes = {axis: variants for axis, variants in names.items() if len(variants) > 1}
    combinations_seen = {tuple(case.entry.case.pipeline.variants[axis] for axis in axes) for case in common}
    columns = 1 + sum(len(variants) - 1 for variants in axes.values())
    crossed = any(_crossed(common, axes, pair) for pair in combinations(axes, 2))
    if not crossed or len(combinations_seen) < len(common) or len(common) < columns:
        raise AmiraError(
            f"run '{run.manifest.run}' is no factorial plan: {len(common)} measured cases vary "
            f"{len(axes)} axes ({', '.join(axes) or 'none'}). A ledger needs every combination of two axes or more: "
            "write a [matrix] into the plan."
        )
    return Design(axes, common)


def _crossed(cases: Sequence[Measured], axes: Mapping[str, Sequence[str]], pair: tuple[str, str]) -> bool:
    """Whether two axes meet in more combinations than changing one thing at a time would give."""
    seen = {tuple(case.entry.case.pipeline.variants[axis] for axis in pair) for case in cases}
    return len(seen) > len(axes[pair[0]]) + len(axes[pair[1]]) - 1


def _estimable(design: Design) -> tuple[list[Term], list[Term]]:
    """The terms that the cases can tell apart, main effects first, and those that they cannot."""
    kept: list[Term] = []
    aliased: list[Term] = []
    for term in design.terms():
        columns = design.columns([*kept, term])
        full = np.linalg.matrix_rank(columns) == columns.shape[1] and len(design.cases) >= columns.shape[1]
        (kept if full else aliased).append(term)
    return kept, aliased


def _aliases(design: Design, kept: Sequence[Term], aliased: Sequence[Term]) -> dict[Term, list[Term]]:
    """For each term that was left out, the kept ones whose columns it is a sum of: their numbers hold it, too."""
    columns = design.columns(kept)
    found = {}
    for term in aliased:
        weights = np.linalg.lstsq(columns, design.columns([term])[:, 1], rcond=None)[0][1:]
        found[term] = [holder for holder, weight in zip(kept, weights, strict=True) if abs(weight) > ROUNDING]
    return found


def _fit(run: Run, design: Design, terms: Sequence[Term], value: Callable[[Sample], float]) -> stats.Floats:
    """Each term on the log scale, for each repeat: (repeats, terms); NaN where a case has none of it."""
    logs = []
    for case in design.cases:
        times = table(run, case.steady, value)
        with np.errstate(all="ignore"):
            logs.append(np.where(times > 0, np.log(times), np.nan).mean(axis=1))
    y = np.stack(logs)  # (cases, repeats)
    y = y[:, np.isfinite(y).all(axis=0)]
    if not y.shape[1]:
        return np.full((1, len(terms)), np.nan)
    solution = np.linalg.lstsq(design.columns(terms), y, rcond=None)[0]
    return np.asarray(solution[1:].T, np.float64)


def _said(logs: stats.Floats) -> dict[str, Any]:
    """A term as a ratio with its interval and the word for it."""
    shift = stats.paired_shift(logs)
    low, high = (exp(-end) if isfinite(end) else None for end in (shift.high, shift.low))
    word = "unclear" if low is None or high is None else _word(low, high)
    return {"ratio": exp(-shift.value), "low": low, "high": high, "verdict": word, "note": shift.note}


def _word(low: float, high: float) -> str:
    word = stats.verdict(low, high)
    return "harmful" if word == "slower" else word


def _amdahl(
    design: Design, term: Term, place: int, fits: Mapping[str, stats.Floats], stages: Sequence[str]
) -> dict[str, Any]:
    """What the stages' own changes promise end to end, by their shares before the change, and how far that is met.

    A stage that not every case has, and what no stage covers where it is next to nothing, are taken as unchanged.
    """
    (axis, _) = term.parts[0]
    base = [case for case in design.cases if case.entry.case.pipeline.variants[axis] == design.axes[axis][0]]
    rows = [row for case in base for row in case.steady.values()]
    shares = {stage: float(np.mean([row.stages_ns.get(stage, 0) / row.latency_ns for row in rows])) for stage in stages}
    shares[OTHER] = 1 - sum(shares.values())
    whole = fits[WHOLE][:, place]
    after = np.zeros_like(whole)
    for stage, share in shares.items():
        own = fits[stage][:, place] if len(fits[stage]) == len(whole) else np.full_like(whole, np.nan)
        after += share * np.exp(np.where(np.isfinite(own), own, 0.0))
    promised = np.log(after)
    gap = _said(whole - promised)
    return {
        "shares": shares,
        "promised": _said(promised),
        "measured_over_promised": gap,
        "holds": gap["low"] is not None and gap["low"] <= 1 + MARGIN and gap["high"] >= 1 - MARGIN,
    }


def _together(run: Run, design: Design, terms: Sequence[Term], fits: stats.Floats) -> dict[str, Any] | None:
    """All changes at once: what was measured, and what the main effects alone promise."""
    last = {axis: names[-1] for axis, names in design.axes.items()}
    first = {axis: names[0] for axis, names in design.axes.items()}
    corners = [
        next((case for case in design.cases if wanted.items() <= case.entry.case.pipeline.variants.items()), None)
        for wanted in (first, last)
    ]
    if corners[0] is None or corners[1] is None:
        return None
    latency = [table(run, case.steady, lambda row: float(row.latency_ns)) for case in corners if case]
    measured = stats.paired_ratio(*latency)
    promised = fits[:, [term.parts in {((axis, name),) for axis, name in last.items()} for term in terms]].sum(axis=1)
    return {
        "changes": list(last.values()),
        "measured": {"ratio": measured.value, "low": measured.low, "high": measured.high},
        "promised": _said(promised),
    }


def _cost(run: Run, case: Measured, prices: Prices | None) -> dict[str, Any]:
    durations = [utterance.duration_s for utterance in run.utterances.values()]
    rate = stats.rate_interval(table(run, case.steady, lambda row: row.cpu_ns / NS_PER_S), durations)
    per_hour = {"value": rate.value * 3600, "low": rate.low * 3600, "high": rate.high * 3600}
    money = None if prices is None else {end: prices.of_cpu_s(seconds) for end, seconds in per_hour.items()}
    return {
        "case": case.entry.case.id,
        "title": case.entry.case.title,
        "cpu_s_per_audio_hour": per_hour,
        "money_per_audio_hour": money,
    }
