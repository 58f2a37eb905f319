"""What two sides measured of one case, reduced to numbers that can be pooled, resampled and judged.

Times enter as logarithms, so that a shift of 0.05 is 5 % whatever the length of an utterance.

*Measured together* (two checkouts in one run): the calls of both sides alternate, so each call has a partner that ran
right beside it. A repeat's effect is the median over laps, then the mean over utterances, of log(candidate /
baseline): what disturbs one call is outvoted, and what disturbs both cancels.

*Measured apart* (a stored baseline): nothing cancels. A repeat's level is the mean over utterances of the logarithm
of its fastest lap, the one that was disturbed least.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from harness import stats
from harness.measured import Measured, lap_ns
from harness.records import Sample
from harness.store import Run
from pipelines.contracts import ENGINE_STAGE, STAGES

Kind = Literal["latency", "throughput", "cpu", "stage", "stage_cpu", "peak_memory", "kernel", "instructions"]


@dataclass(frozen=True, slots=True, order=True)
class Metric:
    """What is judged: a kind, and for a stage or a kernel its name. More of it is worse, so of throughput the loss."""

    kind: Kind
    name: str = ""

    def __str__(self) -> str:
        words = "loss of throughput" if self.kind == "throughput" else self.kind.replace("_", " ")
        return f"{words} {self.name}" if self.name else words


@dataclass(frozen=True, slots=True)
class Paired:
    """log(candidate / baseline) of each pair of processes: (repeats,)."""

    effects: stats.Floats

    def shift(self) -> stats.Shift:
        """How far the candidate lies from the baseline."""
        return stats.paired_shift(self.effects)

    def joined(self, other: Paired) -> Paired:
        """With the repeats of another batch."""
        return Paired(np.concatenate([self.effects, other.effects]))


@dataclass(frozen=True, slots=True)
class Unpaired:
    """The logarithm of each repeat's level, of either side: (repeats,) each."""

    baseline: stats.Floats
    candidate: stats.Floats

    def shift(self) -> stats.Shift:
        """How far the candidate lies from the baseline."""
        return stats.unpaired_shift(self.baseline, self.candidate)

    def joined(self, other: Unpaired) -> Unpaired:
        """With the candidate's repeats of another batch; the baseline stays as it was stored."""
        return Unpaired(self.baseline, np.concatenate([self.candidate, other.candidate]))


@dataclass(frozen=True, slots=True)
class Exact:
    """log(candidate / baseline) of what is counted and not timed: (estimates,), all alike."""

    effects: stats.Floats

    def shift(self) -> stats.Shift:
        """Where the candidate lies: there is no noise, so the interval is what the estimates differ by."""
        values = self.effects
        return stats.Shift(float(np.median(values)), float(values.min()), float(values.max()), values.size)

    def joined(self, other: Exact) -> Exact:
        """With another count."""
        return Exact(np.concatenate([self.effects, other.effects]))


Effect: TypeAlias = Paired | Unpaired | Exact


@dataclass(frozen=True, slots=True)
class AccuracyEffect:
    """Word error rate of the candidate less that of the baseline, on the same utterances.

    Attributes:
        value: The difference, a fraction.
        low: Lower end of its interval over speakers, as sure as `harness.gate.accuracy.CONFIDENCE`; `None` where one
            utterance allows none.
        high: Upper end.
        utterances: How many have a reference on both sides.
        changed: How many texts differ between the sides.
        p_value: Of the matched-pair test over segments; `None` where no segment differs.
    """

    value: float
    low: float | None
    high: float | None
    utterances: int
    changed: int
    p_value: float | None


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything about one case.

    Attributes:
        case: Id of the plan's case.
        title: Its title.
        effects: What was measured on both sides.
        accuracy: By corpus.
        shares: Stage to its share of the baseline's latency.
        busy: Stage, and "" for the whole request, to how much of its time was CPU time in the calls that were disturbed
            least, on the side where that is less: 1 where nothing waits.
        problem: Why there is nothing to judge; `None` where there is.
        broken: Whether the candidate fails where the baseline does not.
        unavailable: Whether the problem is that this machine cannot measure it.
        late: Whether the problem is that the time was up before it was measured.
        notes: What a reader must know, one sentence each.
    """

    case: str
    title: str
    effects: Mapping[Metric, Effect] = field(default_factory=dict)
    accuracy: Mapping[str, AccuracyEffect] = field(default_factory=dict)
    shares: Mapping[str, float] = field(default_factory=dict)
    busy: Mapping[str, float] = field(default_factory=dict)
    problem: str | None = None
    broken: bool = False
    unavailable: bool = False
    late: bool = False
    notes: tuple[str, ...] = ()

    def joined(self, other: Evidence) -> Evidence:
        """With another batch of the same case."""
        if self.problem or other.problem:
            return other if other.problem else self
        effects = {
            metric: effect.joined(other.effects[metric])  # type: ignore[arg-type]
            for metric, effect in self.effects.items()
            if metric in other.effects
        }
        notes = tuple(dict.fromkeys((*self.notes, *other.notes)))
        busy = {stage: min(part, other.busy.get(stage, 0.0)) for stage, part in self.busy.items()}
        return Evidence(self.case, self.title, effects, self.accuracy, self.shares, busy, notes=notes)


Value = Callable[[Sample], float]
UNDISTURBED = 0.9


def paired_effects(run: Run, baseline: Measured, candidate: Measured) -> dict[Metric, Effect]:
    """The effects of two cases of one run that were measured together."""
    found: dict[Metric, Effect] = {}
    first, second = (_Samples(run, case) for case in (baseline, candidate))
    for metric, value in _values(first, second).items():
        a, b = first.table(value), second.table(value)
        with np.errstate(all="ignore"):
            logs = np.where((a > 0) & (b > 0), np.log(b / a), np.nan)
        per_repeat = _mean(_median_over_laps(logs))
        if np.isfinite(per_repeat).any():
            found[metric] = Paired(per_repeat[np.isfinite(per_repeat)])
    laps = [lap_ns(run, case) for case in (baseline, candidate)]
    losses = _median_over_laps(np.log(np.expand_dims(laps[1] / laps[0], 1)))[:, 0]
    if np.isfinite(losses).any():
        found[Metric("throughput")] = Paired(losses[np.isfinite(losses)])
    peaks = [case.peaks() for case in (first, second)]
    both = sorted(peaks[0].keys() & peaks[1].keys())
    if both:
        ratios = [np.log(peaks[1][repeat] / peaks[0][repeat]) for repeat in both]
        found[Metric("peak_memory")] = Paired(np.array(ratios))
    return found


def unpaired_effects(
    runs: tuple[Run, Run], baseline: Measured, candidate: Measured, utterances: tuple[str, ...]
) -> dict[Metric, Effect]:
    """The effects of two cases that were measured apart, over the utterances that both runs have."""
    found: dict[Metric, Effect] = {}
    first, second = _Samples(runs[0], baseline, utterances), _Samples(runs[1], candidate, utterances)
    for metric, value in _values(first, second).items():
        levels = [case.levels(value) for case in (first, second)]
        if all(level.size for level in levels):
            found[metric] = Unpaired(*levels)
    laps = [first.lap_levels(), second.lap_levels()]
    if all(level.size for level in laps):
        found[Metric("throughput")] = Unpaired(*laps)
    peaks = [np.log(np.array(list(case.peaks().values()))) for case in (first, second)]
    if all(peak.size for peak in peaks):
        found[Metric("peak_memory")] = Unpaired(*peaks)
    return found


def shares(run: Run, case: Measured) -> dict[str, float]:
    """Stage to its share of the case's latency, all samples together."""
    whole = sum(row.latency_ns for row in case.steady.values())
    stages: dict[str, int] = {}
    for row in case.steady.values():
        for stage, spent in row.stages_ns.items():
            stages[stage] = stages.get(stage, 0) + spent
    return {stage: stages[stage] / whole for stage in _ordered(stages)} if whole else {}


def busy(*cases: Measured) -> dict[str, float]:
    """See `Evidence.busy`; the calls that were disturbed least are the tenth with the most CPU time for their time."""
    found: dict[str, float] = {}
    for case in cases:
        parts: dict[str, list[float]] = {}
        for row in case.steady.values():
            if row.latency_ns > 0 and row.stages_cpu_ns:
                parts.setdefault("", []).append(row.cpu_ns / row.latency_ns)
            for stage, cpu_ns in row.stages_cpu_ns.items():
                if row.stages_ns.get(stage, 0) > 0:
                    parts.setdefault(stage, []).append(cpu_ns / row.stages_ns[stage])
        for stage, values in parts.items():
            found[stage] = min(found.get(stage, 1.0), float(np.quantile(values, UNDISTURBED)))
    return found


class _Samples:
    """The steady samples of a case in repeats that ran to their end."""

    def __init__(self, run: Run, case: Measured, utterances: tuple[str, ...] | None = None) -> None:
        self._run, self._case = run, case
        self._columns = {name: place for place, name in enumerate(utterances or tuple(run.utterances))}
        self._ended = {row.repeat for row in case.processes}
        self.stages = {stage for row in case.steady.values() for stage in row.stages_ns}
        self.cpu_stages = {stage for row in case.steady.values() for stage in row.stages_cpu_ns}

    def table(self, value: Value) -> stats.Floats:
        """(repeats, utterances, laps), NaN where nothing was measured."""
        manifest = self._run.manifest
        found = np.full((manifest.repeats, len(self._columns), manifest.laps), np.nan)
        for (repeat, utterance, lap), sample in self._case.steady.items():
            if repeat in self._ended and utterance in self._columns:
                found[repeat, self._columns[utterance], lap] = value(sample)
        return found

    def levels(self, value: Value) -> stats.Floats:
        """The level of each repeat that has all utterances."""
        table = self.table(value)
        with np.errstate(all="ignore"):
            logs = np.where(table > 0, np.log(table), np.inf)
        levels = np.nanmin(logs, axis=2).mean(axis=1)
        return np.asarray(levels[np.isfinite(levels)], np.float64)

    def lap_levels(self) -> stats.Floats:
        """The logarithm of each repeat's fastest lap, as nanoseconds for a second of audio."""
        if len(self._columns) < len(self._run.utterances):
            return np.zeros(0)
        laps = lap_ns(self._run, self._case)
        audio_s = sum(row.duration_s for row in self._run.utterances.values())
        whole = np.log(np.fmin.reduce(laps, axis=1) / audio_s)
        return np.asarray(whole[np.isfinite(whole)], np.float64)

    def peaks(self) -> dict[int, float]:
        """Peak resident memory of each repeat's process."""
        return {row.repeat: float(row.peak_rss_bytes) for row in self._case.processes if row.peak_rss_bytes > 0}


def _values(first: _Samples, second: _Samples) -> dict[Metric, Value]:
    stages = _ordered(first.stages & second.stages)
    return {
        Metric("latency"): lambda row: float(row.latency_ns),
        Metric("cpu"): lambda row: float(row.cpu_ns),
        **{Metric("stage", stage): _stage(stage) for stage in stages},
        **{Metric("stage_cpu", stage): _stage_cpu(stage) for stage in _ordered(first.cpu_stages & second.cpu_stages)},
    }


def _stage(stage: str) -> Value:
    return lambda row: float(row.stages_ns.get(stage, 0))


def _stage_cpu(stage: str) -> Value:
    return lambda row: float(row.stages_cpu_ns.get(stage, 0))


def _ordered(stages: set[str] | Mapping[str, int]) -> list[str]:
    known = [stage for stage in (*STAGES, ENGINE_STAGE) if stage in stages]
    return [*known, *sorted(set(stages) - set(known))]


def _median_over_laps(logs: stats.Floats) -> stats.Floats:
    empty = np.asarray(np.isnan(logs).all(axis=2), np.bool_)
    medians = np.nanmedian(np.where(np.expand_dims(empty, 2), 0.0, logs), axis=2)
    return np.asarray(np.where(empty, np.nan, medians), np.float64)


def _mean(per_utterance: stats.Floats) -> stats.Floats:
    """Mean over the utterances that every repeat has that has any; NaN for a repeat without."""
    missing: npt.NDArray[np.bool_] = np.asarray(np.isnan(per_utterance), np.bool_)
    repeats = np.flatnonzero(~missing.all(axis=1))
    kept = np.flatnonzero(~missing[repeats].any(axis=0))
    if not repeats.size or not kept.size:
        return np.full(len(per_utterance), np.nan)
    return np.asarray(per_utterance[:, kept].mean(axis=1), np.float64)
