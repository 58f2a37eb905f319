"""What a run says: every number of the report, derived from the raw samples, as one JSON-ready document.

Its shape is fixed by `harness/report/summary.schema.json`. A ratio is baseline over candidate: above 1, the
candidate is faster or uses less. A case that failed in any repeat is `failed` and has no numbers: what survived of
it would be a biased choice (the utterances before the crash).
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

import numpy as np

from harness import stats
from harness.attribution import attribute
from harness.measured import Measured, lap_ns, measured_cases, table
from harness.memory import MIB, memory
from harness.records import CaseEntry, Sample, Utterance
from harness.scores import Scores
from harness.store import Run

NS_PER_S = 1e9
NS_PER_MS = 1e6
DECODE_STAGE = "decode"

METRICS: dict[str, tuple[stats.Verdict, stats.Verdict]] = {
    "latency": ("faster", "slower"),
    "cpu": ("less", "more"),
    "peak_memory": ("less", "more"),
    "end_memory": ("less", "more"),
}
"""The compared metrics, with the words for a ratio above and below 1."""


def summarise(run: Run) -> dict[str, Any]:
    """The run's summary.

    Returns:
        A document of plain dicts, lists, strings, finite numbers and `None`, as `summary.schema.json` says.
    """
    measured = measured_cases(run)
    scores = Scores(run.utterances, {name: case.texts() for name, case in measured.items()})
    comparisons = [row for entry in run.manifest.cases for row in _comparisons(run, entry, measured)]
    return {
        "run": run.manifest.run,
        "schema_version": run.manifest.schema_version,
        "status": run.manifest.status,
        "title": run.manifest.plan_title,
        "description": run.manifest.plan_description.strip(),
        "plan": run.manifest.plan_name,
        "created_utc": run.manifest.created_utc,
        "finished_utc": run.manifest.finished_utc,
        "notes": list(run.notes),
        "confidence": stats.CONFIDENCE,
        "no_effect_margin": stats.NO_EFFECT_MARGIN,
        "data": _data(run),
        "fingerprint": run.manifest.fingerprint,
        "cases": [_case(run, entry, measured, scores) for entry in run.manifest.cases],
        "comparisons": comparisons,
        "rungs": _rungs(run, measured),
    }


def _data(run: Run) -> dict[str, Any]:
    utterances = run.manifest.utterances
    by_corpus: dict[str, list[Utterance]] = {}
    for utterance in utterances:
        by_corpus.setdefault(utterance.corpus, []).append(utterance)
    return {
        **_extent(utterances),
        "corpus": run.manifest.corpus,
        "corpora": {name: _extent(rows) for name, rows in by_corpus.items()},
        "repeats": run.manifest.repeats,
        "warm_up": run.manifest.warm_up,
        "laps": run.manifest.laps,
        "scenario": {"kind": run.manifest.scenario.kind, "text": run.manifest.scenario.described()},
        "samples": sum(row.phase == "steady" for row in run.samples),
        "warm_up_samples": sum(row.phase == "warm-up" for row in run.samples),
        "processes": len(run.processes),
        "files": {
            path.name: path.stat().st_size
            for path in sorted(run.path.iterdir())
            if path.suffix in (".json", ".jsonl", ".parquet")
        },
    }


def _extent(utterances: Sequence[Utterance]) -> dict[str, Any]:
    known = all(row.speaker is not None for row in utterances)
    return {
        "utterances": len(utterances),
        "audio_s": round(sum(row.duration_s for row in utterances), 3),
        "speakers": len({(row.corpus, row.speaker) for row in utterances}) if known else None,
        "references": sum(row.text is not None for row in utterances),
    }


def _case(run: Run, entry: CaseEntry, measured: dict[str, Measured], scores: Scores) -> dict[str, Any]:
    case, found = entry.case, measured.get(entry.case.id)
    baseline = _baseline(run, entry, measured)
    return {
        "id": case.id,
        "title": case.title,
        "rung": case.rung,
        "compare_to": case.compare_to,
        **_status(run, entry, found),
        "model": case.pipeline.model,
        "threads": case.pipeline.threads,
        "variants": dict(case.pipeline.variants),
        "options": {axis: dict(own) for axis, own in case.pipeline.options.items()},
        **(_numbers(run, found) if found else dict.fromkeys(NUMBERS)),
        "wer": scores.wer(case.id),
        "cer": scores.cer(case.id),
        "wer_by_age": scores.wer_by_age(case.id),
        "confusions": scores.confusions(case.id) if found else None,
        "wer_difference": scores.difference(case.id, baseline.entry.case.id) if baseline else {},
    }


def _status(run: Run, entry: CaseEntry, measured: Measured | None) -> dict[str, Any]:
    if entry.unavailable_reason is not None:
        return {
            "status": "unavailable",
            "reason": entry.unavailable_reason,
            "remedy": entry.unavailable_remedy,
        }
    if measured is not None:
        return {"status": "ok", "reason": None, "remedy": None}
    failed = [row for row in run.processes if row.case == entry.case.id and row.status == "failed"]
    if failed:
        where = f"in repeat {failed[0].repeat + 1} of {run.manifest.repeats}"
        return {
            "status": "failed",
            "reason": f"{failed[0].error or 'the process ended without saying why'} ({where})",
            "remedy": "Mend the cause and measure again; the samples before the failure are stored and not used.",
        }
    return {
        "status": "failed",
        "reason": f"not measured: the run is {run.manifest.status} and holds no sample of this case",
        "remedy": "Resume the run with: amira bench PLAN --resume RUN",
    }


NUMBERS = (
    "latency_ms",
    "rtf",
    "rtf_interval",
    "throughput",
    "cpu_s_per_audio_s",
    "peak_rss_mib",
    "baseline_rss_mib",
    "memory",
    "import_ms",
    "load_ms",
    "warm_up_ms",
    "first_request_ms",
    "stages_ms",
    "other_ms",
    "steps_per_s",
    "unstable_texts",
)
"""The keys of a case that are `None` where it was not measured."""


def _numbers(run: Run, measured: Measured) -> dict[str, Any]:
    samples = list(measured.steady.values())
    latency = stats.quantiles([row.latency_ns / NS_PER_MS for row in samples])
    audio_s = sum(run.utterances[row.utterance].duration_s for row in samples)
    durations = [utterance.duration_s for utterance in run.utterances.values()]
    rtf = stats.rate_interval(table(run, measured.steady, lambda row: row.latency_ns / NS_PER_S), durations)
    return {
        "latency_ms": {
            "p50": latency.p50,
            "p90": latency.p90,
            "p99": latency.p99,
            "n": latency.n,
            "p99_bounded": latency.p99_bounded,
        },
        "rtf": rtf.value,
        "rtf_interval": {"low": rtf.low, "high": rtf.high},
        "throughput": _throughput(run, measured),
        "cpu_s_per_audio_s": sum(row.cpu_ns for row in samples) / NS_PER_S / audio_s,
        "peak_rss_mib": _median([row.peak_rss_bytes / MIB for row in measured.processes]),
        "baseline_rss_mib": _median([row.baseline_rss_bytes / MIB for row in measured.processes]),
        "memory": memory(measured),
        "import_ms": _median([row.import_ns / NS_PER_MS for row in measured.processes]),
        "load_ms": _median([row.load_ns / NS_PER_MS for row in measured.processes]),
        "warm_up_ms": _median([row.warm_up_ns / NS_PER_MS for row in measured.processes]),
        "first_request_ms": _median([row.latency_ns / NS_PER_MS for row in measured.warm_up]),
        "stages_ms": _stages_ms(samples),
        "other_ms": median(max(row.latency_ns - sum(row.stages_ns.values()), 0) for row in samples) / NS_PER_MS,
        "steps_per_s": _steps_per_s(samples),
        "unstable_texts": len({(row.utterance, row.text) for row in samples}) - len({row.utterance for row in samples}),
    }


def _throughput(run: Run, measured: Measured) -> dict[str, float] | None:
    """Seconds of audio, and requests, for a second of a lap (`harness.measured.lap_ns`); `None` without a whole lap.

    Of a run that measures accuracy, a lap may be spread over processes and so have no length.
    """
    if not run.manifest.timed:
        return None
    laps = lap_ns(run, measured) / NS_PER_S
    whole = np.isfinite(laps).any(axis=1)
    if not whole.any():
        return None
    audio_s = sum(utterance.duration_s for utterance in run.utterances.values())
    spent = stats.rate_interval(np.nanmean(laps[whole], axis=1, keepdims=True), [audio_s])
    return {
        "audio_s_per_s": 1 / spent.value,
        "low": 1 / spent.high,
        "high": 1 / spent.low,
        "requests_per_s": len(run.utterances) / audio_s / spent.value,
    }


def _median(values: Sequence[float]) -> float | None:
    """The median of what is known; a 0 stands for unknown in a process record."""
    known = [value for value in values if value > 0]
    return median(known) if known else None


def _stages_ms(samples: Sequence[Sample]) -> dict[str, float]:
    """Median of each stage over all samples; a sample without the stage spent 0 in it."""
    stages = dict.fromkeys(stage for row in samples for stage in row.stages_ns)
    return {stage: median(row.stages_ns.get(stage, 0) for row in samples) / NS_PER_MS for stage in stages}


def _steps_per_s(samples: Sequence[Sample]) -> float | None:
    steps = sum(row.steps for row in samples)
    decode_ns = sum(row.stages_ns.get(DECODE_STAGE, 0) for row in samples)
    return steps / (decode_ns / NS_PER_S) if steps and decode_ns else None


def _comparisons(run: Run, entry: CaseEntry, measured: dict[str, Measured]) -> list[dict[str, Any]]:
    baseline, candidate = _baseline(run, entry, measured), measured.get(entry.case.id)
    if baseline is None or candidate is None:
        return []
    return [row for metric in METRICS if (row := _compare(run, baseline, candidate, metric)) is not None]


def _baseline(run: Run, entry: CaseEntry, measured: dict[str, Measured]) -> Measured | None:
    """What a case is compared with: what the plan says, or for a rung the nearest measured one below that."""
    named = measured.get(entry.case.compare_to or "")
    if named is not None or not entry.case.rung or entry.case.compare_to is None:
        return named
    ids = [other.case.id for other in run.manifest.cases if other.case.rung]
    below = [measured[name] for name in ids[: ids.index(entry.case.id)] if name in measured]
    return below[-1] if below else None


def _compare(run: Run, baseline: Measured, candidate: Measured, metric: str) -> dict[str, Any] | None:
    """One comparison; `None` where the two have no measured pair of that metric, or the plan measures accuracy."""
    if not run.manifest.timed:
        return None
    tables = [_metric_table(run, case, metric) for case in (baseline, candidate)]
    if not ((tables[0] > 0) & (tables[1] > 0)).any():
        return None
    ratio = stats.paired_ratio(*tables)
    better, worse = METRICS[metric]
    return {
        "baseline": baseline.entry.case.id,
        "candidate": candidate.entry.case.id,
        "metric": metric,
        "ratio": ratio.value,
        "low": ratio.low,
        "high": ratio.high,
        "verdict": stats.verdict(ratio.low, ratio.high, better=better, worse=worse),
        "repeats": ratio.repeats,
        "utterances": ratio.utterances,
        "note": ratio.note,
    }


def _metric_table(run: Run, case: Measured, metric: str) -> stats.Floats:
    """The metric as float64 (repeats, utterances), or (repeats, 1) for what a process has once."""
    if metric == "latency":
        return table(run, case.steady, lambda row: float(row.latency_ns))
    if metric == "cpu":
        return table(run, case.steady, lambda row: float(row.cpu_ns))
    values = np.full((run.manifest.repeats, 1), np.nan)
    for row in case.processes:
        values[row.repeat, 0] = row.peak_rss_bytes if metric == "peak_memory" else row.end_rss_bytes
    return values


def _rungs(run: Run, measured: dict[str, Measured]) -> list[dict[str, Any]]:
    """Each rung against the nearest rung below it that was measured, and against the lowest one that was."""
    rungs = [entry for entry in run.manifest.cases if entry.case.rung]
    rows = []
    below: list[Measured] = []
    for entry in rungs:
        current = measured.get(entry.case.id)
        if entry is not rungs[0]:
            rows.append(_rung(run, entry, current, below))
        if current is not None:
            below.append(current)
    return rows


def _rung(run: Run, entry: CaseEntry, current: Measured | None, below: list[Measured]) -> dict[str, Any]:
    row: dict[str, Any] = {"title": entry.case.title, **_status(run, entry, current)}
    step = _compare(run, below[-1], current, "latency") if current and below else None
    whole = _compare(run, below[0], current, "latency") if current and below else None
    if step is None or whole is None:
        empty = {
            "baseline": None,
            "candidate": entry.case.id,
            "metric": "latency",
            "ratio": None,
            "low": None,
        }
        return row | empty | dict.fromkeys(("high", "verdict", "note", "cumulative", "attribution"))
    cumulative = {key: whole[key] for key in ("baseline", "ratio", "low", "high", "verdict")}
    attribution = attribute(run, below[-1], current) if current else None
    return row | {key: step[key] for key in RUNG_KEYS} | {"cumulative": cumulative, "attribution": attribution}


RUNG_KEYS = ("baseline", "candidate", "metric", "ratio", "low", "high", "verdict", "note")
