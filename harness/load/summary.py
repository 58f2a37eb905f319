"""The numbers of a load run, from its raw samples.

A latency runs from the moment at which the audio that an answer needs had been spoken, by the schedule, to the
moment at which the answer was read. Beside it stands the naive number, from the moment at which that audio was sent:
it forgives a server that makes its clients wait.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from harness.load.run import samples_to_ms, steps_of
from harness.load.scrape import share_within
from harness.load.spec import LoadSpec
from harness.load.worker import FINAL, PARTIAL
from harness.metrics.wer import WordErrors, corpus_wer, count_errors
from harness.store import read_lines
from pipelines.errors import AmiraError, NothingMeasuredError

Milliseconds = npt.NDArray[np.float64]
PERCENTILES = (50, 90, 99)


def summarise(folder: Path) -> dict[str, Any]:
    """The run as JSON: for each step streams, lost audio, errors, latencies, WER, and what the server spent."""
    record, steps = steps_of(folder)
    notes: list[str] = []
    rows = [
        _step(folder / stored["folder"], step, stored, record, notes)
        for stored, step in zip(record["steps"], steps, strict=True)
    ]
    return {
        "run": record["run"],
        "schema_version": record["schema_version"],
        "created_utc": record["created_utc"],
        "fingerprint": record["fingerprint"],
        "corpus": record["corpus"],
        "notes": notes,
        "steps": rows,
    }


def latencies_ms(folder: Path, step: int) -> dict[str, pd.Series[float]]:
    """The latencies of a step of a run, in ms: `partial`, `first_partial`, `stable`, `final`, and each `_from_send`."""
    record, steps = steps_of(folder)
    place = folder / record["steps"][step]["folder"]
    sessions = _sessions(place, [])
    well = sessions[~sessions.vanishes & ~sessions.slow]
    return _latencies(_table(place, "events"), _table(place, "sends"), well, steps[step])


def _sessions(folder: Path, notes: list[str]) -> pd.DataFrame:
    sessions = pd.DataFrame(_lines(folder, "sessions", notes))
    if sessions.empty:
        raise NothingMeasuredError(f"'{folder}' has no session. Measure again: amira load URL")
    return sessions


def _step(
    folder: Path, spec: LoadSpec, stored: dict[str, Any], record: dict[str, Any], notes: list[str]
) -> dict[str, Any]:
    events, sends = (_table(folder, name) for name in ("events", "sends"))
    sessions = _sessions(folder, notes)
    finals = _lines(folder, "finals", notes)
    well = sessions[~sessions.vanishes & ~sessions.slow]
    latencies = _latencies(events, sends, well, spec)
    before, after = stored["before"], stored["after"]
    seconds = (stored["end_ns"] - stored["start_ns"]) / 1e9
    return {
        "spec": spec.model_dump(),
        "loop": "open",
        "streams": spec.streams,
        "sessions": len(sessions),
        "outcomes": {str(key): int(value) for key, value in sessions.outcome.value_counts().items()},
        "errors": int((well.outcome != "finished").sum()),
        "lost_ms": int(well.lost_ms.fillna(0).sum()),
        "disordered": int(sessions.disordered.sum()),
        "latency_ms": {name: _described(values) for name, values in latencies.items()},
        "wer": _wer(finals, well, record),
        "server": {
            "cpu_cores": _delta(before, after, "process_cpu_seconds_total") / seconds,
            "cpu_s_per_audio_s": _per_audio(before, after),
            "rss_mib": after.get("process_resident_memory_bytes", 0.0) / 2**20,
            "memory": _memory(stored.get("memory", [])),
            "partials_within_1_ms": share_within(before, after, "partial", "0.001"),
            "partials_within_10_ms": share_within(before, after, "partial", "0.01"),
            "batch": _ratio(before, after, "batch_size", "first-pass"),
        },
    }


def _latencies(
    events: pd.DataFrame, sends: pd.DataFrame, sessions: pd.DataFrame, spec: LoadSpec
) -> dict[str, pd.Series[float]]:
    chunk_ns = spec.chunk_ms * 1_000_000
    keys = ["stream", "session"]
    joined = events.merge(sessions[[*keys, "first_due_ns", "chunks"]], on=keys)
    # The chunk with the last sample that the answer needs; a message is sent when its chunk has been spoken.
    joined["chunk"] = np.clip((joined.audio_ms - 1) // spec.chunk_ms, 0, joined.chunks - 1)
    joined["due_ns"] = joined.first_due_ns + joined.chunk * chunk_ns
    sent = sends.merge(sessions[[*keys, "first_due_ns"]], on=keys)
    joined = joined.merge(sends, on=[*keys, "chunk"], how="left")
    partials = joined[joined.kind == PARTIAL].sort_values("received_ns")
    finals = joined[joined.kind == FINAL]
    spoken = finals[finals.audio_ms > finals.start_ms]
    first = partials.drop_duplicates([*keys, "segment"])
    grew = partials[partials.stable_chars > partials.groupby([*keys, "segment"]).stable_chars.shift(fill_value=0)]
    started = first.first_due_ns + ((first.start_ms - 1).clip(lower=0) // spec.chunk_ms) * chunk_ns
    lag = (sent.sent_ns - sent.first_due_ns - sent.chunk * chunk_ns) / 1e6
    return {
        "partial": (partials.received_ns - partials.due_ns) / 1e6,
        "first_partial": (first.received_ns - first.due_ns) / 1e6,
        "first_partial_from_speech": (first.received_ns - started) / 1e6,
        "stable": (grew.received_ns - grew.due_ns) / 1e6,
        "final": (spoken.received_ns - spoken.due_ns) / 1e6,
        "partial_from_send": (partials.received_ns - partials.sent_ns) / 1e6,
        "first_partial_from_send": (first.received_ns - first.sent_ns) / 1e6,
        "stable_from_send": (grew.received_ns - grew.sent_ns) / 1e6,
        "final_from_send": (spoken.received_ns - spoken.sent_ns) / 1e6,
        "send_lag": lag,
    }


def _described(values: pd.Series[float]) -> dict[str, float | int | None]:
    array = values.dropna().to_numpy()
    if not len(array):
        return {"n": 0, **{f"p{q}": None for q in PERCENTILES}, "max": None}
    points = np.percentile(array, PERCENTILES)
    return {
        "n": len(array),
        **{f"p{q}": round(float(point), 3) for q, point in zip(PERCENTILES, points, strict=True)},
        "max": round(float(array.max()), 3),
    }


def _wer(finals: list[dict[str, Any]], sessions: pd.DataFrame, record: dict[str, Any]) -> dict[str, Any] | None:
    """Word errors over the utterances that lie whole within a session."""
    counts: list[WordErrors] = []
    speakers: list[str | None] = []
    for each, text in utterances(finals, sessions, record):
        counts.append(count_errors(each["text"], text))
        speakers.append(each["speaker"])
    try:
        rate = corpus_wer(counts, speakers)
    except NothingMeasuredError:
        return None
    return {"value": rate.value, "low": _finite(rate.low), "high": _finite(rate.high), "utterances": rate.utterances}


def utterances(
    finals: list[dict[str, Any]], sessions: pd.DataFrame, record: dict[str, Any]
) -> Iterator[tuple[dict[str, Any], str]]:
    """Each utterance that lies whole within a finished session, and the text of the finals that overlap it most."""
    spoken, total = record["spoken"], record["audio_samples"]
    texts: dict[tuple[int, int], list[dict[str, Any]]] = {}
    for final in finals:
        texts.setdefault((final["stream"], final["session"]), []).append(final)
    for session in sessions.to_dict("records"):
        if session["outcome"] != "finished":
            continue
        chunk = record["steps"][0]["spec"]["chunk_ms"] * 16
        start = (session["offset"] + session["first_chunk"] * chunk) % total
        length = session["sent"] * chunk
        placed = [
            (each, (each["start"] - start) % total, (each["start"] - start) % total + each["stop"] - each["start"])
            for each in spoken
        ]
        heard: dict[str, list[str]] = {each["id"]: [] for each, _, last in placed if last <= length and each["text"]}
        for final in texts.get((session["stream"], session["session"]), []):
            overlaps = [
                (min(final["end_ms"], samples_to_ms(last)) - max(final["start_ms"], samples_to_ms(first)), each["id"])
                for each, first, last in placed
            ]
            most, owner = max(overlaps)
            if most > 0 and owner in heard:
                heard[owner].append(final["text"])
        for each, _, _ in placed:
            if each["id"] in heard:
                yield each, " ".join(heard[each["id"]])


def heard_in(folder: Path) -> list[tuple[dict[str, Any], str]]:
    """The utterances of a stored run's first step and what was made of them."""
    record, _ = steps_of(folder)
    step = folder / record["steps"][0]["folder"]
    sessions = pd.DataFrame(_lines(step, "sessions", []))
    return list(utterances(_lines(step, "finals", []), sessions[~sessions.vanishes & ~sessions.slow], record))


WARM_UP = 0.2
"""Share of a step in which memory may still grow: models, arenas and caches reach their size."""


def _memory(points: list[list[float]]) -> dict[str, float] | None:
    """Resident memory after the warm-up and at the end, medians over a tenth of the step each."""
    rss = [value for _, value in points]
    tenth = len(rss) // 10
    if tenth < 3:
        return None
    first = round(WARM_UP * len(rss))
    start, end = (float(np.median(part)) for part in (rss[first : first + tenth], rss[-tenth:]))
    return {"start_mib": start / 2**20, "end_mib": end / 2**20, "growth": end / start - 1}


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _table(folder: Path, name: str) -> pd.DataFrame:
    paths = sorted(folder.glob(f"{name}-*.parquet"))
    if not paths:
        raise AmiraError(f"'{folder}' has no {name}-*.parquet: the run is not whole. Restore it from a copy.")
    try:
        return pd.concat([pd.read_parquet(path) for path in paths], ignore_index=True)
    except (OSError, ValueError) as error:  # pyarrow's errors are among these
        raise AmiraError(f"a table of '{folder}' is broken: {error}. Restore it from a copy.") from error


def _lines(folder: Path, name: str, notes: list[str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for path in sorted(folder.glob(f"{name}-*.jsonl")):
        rows, torn = read_lines(path, dict[str, Any])
        found += rows
        notes += [f"{folder.name}: {note}" for note in torn]
    return found


def _delta(before: dict[str, float], after: dict[str, float], name: str) -> float:
    return after.get(name, 0.0) - before.get(name, 0.0)


def _per_audio(before: dict[str, float], after: dict[str, float]) -> float | None:
    """CPU time that a second of audio costs, which hardly depends on who else wants the machine."""
    audio_s = _delta(before, after, "audio_seconds_total")
    return _delta(before, after, "process_cpu_seconds_total") / audio_s if audio_s else None


def _ratio(before: dict[str, float], after: dict[str, float], name: str, stage: str) -> float | None:
    label = f'{{stage="{stage}"}}'
    count = _delta(before, after, f"{name}_count{label}")
    return _delta(before, after, f"{name}_sum{label}") / count if count else None
