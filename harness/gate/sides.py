"""From stored runs to evidence: one run of two checkouts, or two runs that were made at different times."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from harness.gate.accuracy import accuracy_effects
from harness.gate.evidence import Evidence, busy, paired_effects, shares, unpaired_effects
from harness.measured import Measured, measured_cases
from harness.records import CaseEntry, Utterance
from harness.side import BASELINE, CANDIDATE
from harness.store import Run


def together(run: Run) -> list[Evidence]:
    """The evidence of a run of two checkouts, one for each case of its plan."""
    measured = measured_cases(run)
    sides: dict[str, dict[str, CaseEntry]] = {}
    for entry in run.manifest.cases:
        if entry.case.side is not None and entry.case.of is not None:
            sides.setdefault(entry.case.of, {})[entry.case.side] = entry
    found = []
    for name, entries in sides.items():
        title = entries[CANDIDATE].case.title
        cases = [measured.get(entries[side].case.id) for side in (BASELINE, CANDIDATE)]
        evidence = _lacking(name, title, (run, run), (entries[BASELINE], entries[CANDIDATE]), (cases[0], cases[1]))
        if evidence is None and cases[0] and cases[1]:
            effects = paired_effects(run, cases[0], cases[1])
            evidence = _evidence(name, title, run.utterances, (run, run), (cases[0], cases[1]), effects)
        if evidence is not None:
            found.append(evidence)
    return found


def apart(baseline: Run, candidate: Run, names: Mapping[str, str] | None = None) -> list[Evidence]:
    """The evidence of two runs of one plan: a row for each case that either has.

    Args:
        baseline: One run.
        candidate: The other.
        names: Case of the baseline to case of the candidate; by default those of the same id.
    """
    common, notes = _common_utterances(baseline, candidate)
    first, second = measured_cases(baseline), measured_cases(candidate)
    entries = (baseline.cases, candidate.cases)
    pairs = names if names is not None else {name: name for name in {**entries[1], **entries[0]}}
    found = []
    for before, after in pairs.items():
        both = (entries[0].get(before), entries[1].get(after))
        title = next(entry.case.title for entry in (both[1], both[0]) if entry)
        cases = (first.get(before), second.get(after))
        evidence = _lacking(after, title, (baseline, candidate), both, cases)
        if evidence is None and cases[0] and cases[1]:
            if common:
                effects = unpaired_effects((baseline, candidate), cases[0], cases[1], tuple(common))
                evidence = _evidence(after, title, common, (baseline, candidate), (cases[0], cases[1]), effects)
            else:
                problem = "the two runs have no utterance in common (same id and same audio)"
                evidence = Evidence(after, title, problem=problem)
        if evidence is not None:
            found.append(replace(evidence, notes=(*notes, *evidence.notes)))
    return found


def _evidence(
    name: str,
    title: str,
    utterances: Mapping[str, Utterance],
    runs: tuple[Run, Run],
    cases: tuple[Measured, Measured],
    effects: Mapping,  # type: ignore[type-arg]
) -> Evidence:
    stages = [{stage for row in case.steady.values() for stage in row.stages_ns} for case in cases]
    notes = [f"stage '{stage}' is only in the baseline" for stage in sorted(stages[0] - stages[1])]
    notes += [f"stage '{stage}' is only in the candidate" for stage in sorted(stages[1] - stages[0])]
    if not all(run.manifest.timed for run in runs):
        effects = {}
        notes.append("only words are judged: the plan measures accuracy")
    accuracy = accuracy_effects(utterances, cases[0].texts(), cases[1].texts())
    if not accuracy:
        notes.append("no accuracy: no utterance has a transcript")
    if not effects and not accuracy:
        return Evidence(name, title, problem="no repeat was measured on both sides to its end")
    return Evidence(name, title, effects, accuracy, shares(runs[0], cases[0]), busy(*cases), notes=tuple(notes))


def _lacking(
    name: str,
    title: str,
    runs: tuple[Run, Run],
    entries: tuple[CaseEntry | None, CaseEntry | None],
    cases: tuple[Measured | None, Measured | None],
) -> Evidence | None:
    """The evidence of a case that cannot be compared, with the reason; `None` where it can."""
    problems = [
        _problem(side, run, entry, case)
        for side, run, entry, case in zip((BASELINE, CANDIDATE), runs, entries, cases, strict=True)
    ]
    if problems == [None, None]:
        return None
    if _late(runs, entries, cases):
        return Evidence(name, title, problem="the time was up before it was measured", late=True)
    broken = problems[0] is None and problems[1] is not None
    return Evidence(name, title, problem="; ".join(filter(None, problems)), broken=broken)


def _late(
    runs: tuple[Run, Run], entries: tuple[CaseEntry | None, CaseEntry | None], cases: tuple[Measured | None, ...]
) -> bool:
    """Whether all that a case lacks is in a run that was cut off before it came to that."""
    return all(
        case is not None
        or (
            entry is not None
            and entry.unavailable_reason is None
            and run.manifest.status == "interrupted"
            and not any(row.case == entry.case.id for row in run.processes)
        )
        for run, entry, case in zip(runs, entries, cases, strict=True)
    )


def _problem(side: str, run: Run, entry: CaseEntry | None, case: Measured | None) -> str | None:
    if entry is None:
        return f"the {side} does not have this case"
    if case is not None:
        return None
    if entry.unavailable_reason is not None:
        return f"the {side} cannot run here: {entry.unavailable_reason}"
    failed = [row for row in run.processes if row.case == entry.case.id and row.status == "failed"]
    if failed:
        return f"the {side} failed: {failed[0].error or 'its process ended without saying why'}"
    return f"the {side} has no sample of this case (its run is {run.manifest.status})"


def _common_utterances(baseline: Run, candidate: Run) -> tuple[dict[str, Utterance], tuple[str, ...]]:
    """The utterances that both runs have with the same audio, and a note on the others."""
    first, second = baseline.utterances, candidate.utterances
    common = {name: row for name, row in second.items() if name in first and first[name].sha256 == row.sha256}
    others = len(first.keys() | second.keys()) - len(common)
    if not others:
        return common, ()
    return common, (f"{others} utterances are not in both runs with the same audio and are left out",)
