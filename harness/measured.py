"""The cases of a run that have numbers, and their samples as tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from harness import stats
from harness.records import CaseEntry, ProcessRecord, Sample
from harness.store import Run

QUEUE_STAGE = "queue"
SampleKey = tuple[int, str, int]
"""Repeat, utterance id and lap."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What a case that ran to its end left behind.

    Attributes:
        entry: The case.
        steady: Steady-state samples by (repeat, utterance id, lap).
        warm_up: Samples of the warm-up phase.
        processes: Its processes, all `ok`.
    """

    entry: CaseEntry
    steady: dict[SampleKey, Sample]
    warm_up: tuple[Sample, ...]
    processes: tuple[ProcessRecord, ...]

    def texts(self) -> dict[str, str]:
        """What it recognised, by utterance id, in the first repeat that has it."""
        found: dict[str, str] = {}
        for _, sample in sorted(self.steady.items()):
            found.setdefault(sample.utterance, sample.text)
        return found


def measured_cases(run: Run) -> dict[str, Measured]:
    """The cases that have steady samples and did not fail, by id, in the plan's order."""
    found: dict[str, Measured] = {}
    for entry in run.manifest.cases:
        name = entry.case.id
        rows = [row for row in run.samples if row.case == name]
        steady = {(row.repeat, row.utterance, row.lap): row for row in rows if row.phase == "steady"}
        processes = tuple(row for row in run.processes if row.case == name)
        if entry.unavailable_reason or not steady or any(row.status == "failed" for row in processes):
            continue
        warm_up = tuple(row for row in rows if row.phase == "warm-up")
        found[name] = Measured(entry, steady, warm_up, processes)
    return found


def lap_ns(run: Run, case: Measured) -> stats.Floats:
    """How long each lap took, float64 (repeats, laps), NaN for one that is not whole.

    One stream: the sum of its calls, for between them it may have waited for its turn. Else from the first arrival to
    the last answer. A wait is part of a latency, so a call arrived its `queue` stage before it began.
    """
    manifest = run.manifest
    spans: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for (repeat, _, lap), sample in case.steady.items():
        arrived = sample.started_ns - sample.stages_ns.get(QUEUE_STAGE, 0)
        spans.setdefault((repeat, lap), []).append((arrived, arrived + sample.latency_ns))
    found = np.full((manifest.repeats, manifest.laps), np.nan)
    ended = {row.repeat for row in case.processes}
    alone = manifest.scenario.kind == "single-stream"
    for place, calls in spans.items():
        if place[0] in ended and len(calls) == len(run.utterances):
            whole = max(end for _, end in calls) - min(start for start, _ in calls)
            found[place] = sum(end - start for start, end in calls) if alone else whole
    return found


def table(run: Run, samples: Mapping[SampleKey, Sample], value: Callable[[Sample], float]) -> stats.Floats:
    """The samples as float64 (repeats, utterances) in the run's order, NaN where nothing was measured.

    Laps of one process are averaged: they share its memory layout and its neighbours, so they are no repeats.
    """
    columns = {name: index for index, name in enumerate(run.utterances)}
    totals = np.zeros((run.manifest.repeats, len(columns)))
    counts = np.zeros_like(totals)
    for (repeat, utterance, _), sample in samples.items():
        totals[repeat, columns[utterance]] += value(sample)
        counts[repeat, columns[utterance]] += 1
    return np.divide(totals, counts, out=np.full_like(totals, np.nan), where=counts > 0)
