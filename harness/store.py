"""Reading stored runs: finding them, opening them, refusing what cannot be trusted.

Only the run's raw files are read. Everything that a reader of the data should know about their state (a torn
last line, a repeated measurement) is a note on the `Run`, never a silent repair.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError, field_validator

from harness.records import SCHEMA_VERSION, CaseEntry, Manifest, ProcessRecord, Sample, Utterance
from pipelines.config import PipelineConfig
from pipelines.errors import AmiraError
from pipelines.paths import home, runs_dir

MANIFEST = "manifest.json"
SAMPLES = "samples.jsonl"
PROCESSES = "processes.jsonl"

Row = TypeVar("Row")


class _StoredPipeline(PipelineConfig):
    """A pipeline as a run stored it: its variants need not be installed where the run is read."""

    @field_validator("variants")
    @classmethod
    def _full_ids(cls, value: dict[str, str]) -> dict[str, str]:
        return value


@dataclass(frozen=True, slots=True)
class Run:
    """A stored run, as read.

    Attributes:
        path: Its folder.
        manifest: Plan, cases, utterances, fingerprint.
        samples: Every sample of every phase; where one was measured twice (a resumed run), the later one.
        processes: One record per case and repeat that ended; the later one where a case was run again.
        notes: What a reader must know about the state of the data, one sentence each.
    """

    path: Path
    manifest: Manifest
    samples: tuple[Sample, ...]
    processes: tuple[ProcessRecord, ...]
    notes: tuple[str, ...] = ()

    @property
    def cases(self) -> dict[str, CaseEntry]:
        """The cases by id, in the plan's order."""
        return {entry.case.id: entry for entry in self.manifest.cases}

    @property
    def utterances(self) -> dict[str, Utterance]:
        """The utterances by id, in the corpus's order."""
        return {utterance.id: utterance for utterance in self.manifest.utterances}


def find_run(name: str | Path = "latest") -> Path:
    """The folder of a run.

    Args:
        name: `latest`, the folder itself, or the name of a run under `reports/runs/` or `reports/`.

    Raises:
        AmiraError: There is no such run.
    """
    if str(name) == "latest":
        return _latest()
    for folder in (Path(name), runs_dir() / name, home() / "reports" / name):
        if (folder / MANIFEST).is_file():
            return folder
    have = sorted(folder.name for folder in _run_folders())
    shown = ", ".join(have[-5:]) or "none"
    more = f" and {len(have) - 5} older" if len(have) > 5 else ""
    raise AmiraError(
        f"run '{name}' does not exist: no {MANIFEST} in a folder of that name; have: {shown}{more}. "
        "Name a run folder or 'latest', or make a run with: amira bench PLAN"
    )


def open_run(path: str | Path) -> Run:
    """Read a run. An interrupted run, and one without a sample, open like any other.

    Args:
        path: The run's folder, as `find_run` gives it.

    Raises:
        AmiraError: The manifest is missing, broken or of another schema version, or a stored line is broken.
    """
    folder = Path(path)
    manifest = read_manifest(folder / MANIFEST)
    samples, sample_notes = read_lines(folder / SAMPLES, Sample)
    processes, process_notes = read_lines(folder / PROCESSES, ProcessRecord)
    _check_names(folder, manifest, samples, processes)
    sane = [row for row in samples if min(row.latency_ns, row.cpu_ns, *row.stages_ns.values()) >= 0]
    kept, repeated = _last_of_each(sane, _sample_key)
    ended, _ = _last_of_each(processes, lambda row: (row.case, row.repeat))
    notes = [*sample_notes, *process_notes]
    if len(sane) < len(samples):
        backwards = len(samples) - len(sane)
        notes.append(f"{backwards} of {len(samples)} samples took less than no time: a clock went backwards. Left out.")
    if repeated:
        notes.append(f"{repeated} samples were measured again after an interruption; the later ones count.")
    if not manifest.timed:
        notes.append("The plan measures accuracy: cases may have run beside each other, so no times are compared.")
    if manifest.status != "complete":
        notes.append(f"The run is {manifest.status}, not complete: what it has measured so far is shown.")
    return Run(folder, manifest, kept, ended, tuple(notes))


def _run_folders() -> list[Path]:
    return [path.parent for path in runs_dir().glob(f"*/{MANIFEST}")]


def _latest() -> Path:
    folders = _run_folders()
    if not folders:
        raise AmiraError("there is no run yet: 'latest' has nothing to name. Make one with: amira bench PLAN")
    return max(folders, key=_created)


def _created(folder: Path) -> tuple[str, str]:
    """When a run was made. A manifest that cannot be read sorts last, so that opening it says what is wrong."""
    try:
        created = json.loads((folder / MANIFEST).read_bytes())["created_utc"]
    except (ValueError, KeyError, TypeError):
        created = "~"
    return str(created), folder.name


def read_manifest(path: Path) -> Manifest:
    """A run's manifest.

    Raises:
        AmiraError: It is missing, broken, or of another schema version.
    """
    if not path.is_file():
        raise AmiraError(f"'{path.parent}' is not a run: it has no {MANIFEST}. Name a run folder or 'latest'.")
    try:
        data = json.loads(path.read_bytes())
        version = data["schema_version"]
    except (ValueError, KeyError, TypeError) as error:
        raise AmiraError(
            f"{path} is broken ({_first_line(error)}), so the run cannot be read. "
            "Restore the file from a copy of the run, or measure again with: amira bench PLAN"
        ) from error
    if version != SCHEMA_VERSION:
        raise AmiraError(
            f"{path} has schema_version {version!r}; this AMIRA reads {SCHEMA_VERSION}. "
            "Read it with the AMIRA that wrote it (its commit is in the manifest's fingerprint), or measure again."
        )
    try:
        for entry in data["cases"]:
            entry["case"]["pipeline"] = _StoredPipeline.model_validate(entry["case"]["pipeline"])
        return Manifest.model_validate(data)
    except (ValidationError, KeyError, TypeError) as error:
        raise AmiraError(
            f"{path} does not describe a run: {_problem(error)}. Restore the file from a copy of the run, "
            "or measure again with: amira bench PLAN"
        ) from error


def read_lines(path: Path, kind: type[Row]) -> tuple[list[Row], list[str]]:
    """The rows of a JSON Lines file; a torn last line is left out and noted.

    A process that dies while it appends leaves part of one line at the end. That is expected and harmless; a
    broken line anywhere else is damage.

    Args:
        path: The file; where there is none, there are no rows.
        kind: What each line is, for pydantic.

    Returns:
        The rows, and the notes.

    Raises:
        AmiraError: A line is broken.
    """
    if not path.is_file():
        return [], []
    lines = path.read_bytes().split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    adapter: TypeAdapter[Row] = TypeAdapter(kind)
    rows: list[Row] = []
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(adapter.validate_json(line, strict=True))
        except ValidationError as error:
            torn = any(detail["type"] == "json_invalid" for detail in error.errors())
            if torn and number == len(lines):
                note = (
                    f"The last line of {path.name} (line {number}) was torn off while it was written and is left out."
                )
                return rows, [note]
            raise AmiraError(
                f"{path}, line {number} is broken: {_problem(error)}. Lines before the last are never torn by an "
                "interruption, so the file was damaged: restore it from a copy, or delete that line to do without it."
            ) from error
    return rows, []


def _check_names(
    folder: Path, manifest: Manifest, samples: Iterable[Sample], processes: Iterable[ProcessRecord]
) -> None:
    """Refuse rows that speak of a case or an utterance that the manifest does not have."""
    cases = {entry.case.id for entry in manifest.cases}
    utterances = {utterance.id for utterance in manifest.utterances}
    for file, kind, names, known in (
        (SAMPLES, "case", {row.case for row in samples}, cases),
        (SAMPLES, "utterance", {row.utterance for row in samples}, utterances),
        (PROCESSES, "case", {row.case for row in processes}, cases),
    ):
        strange = sorted(names - known)
        if strange:
            raise AmiraError(
                f"{folder / file} has rows of {kind} '{strange[0]}', which {MANIFEST} does not list. "
                "The files are of different runs: restore the folder from a copy, or measure again."
            )


def _sample_key(row: Sample) -> Hashable:
    # A warm-up may take the same utterance several times on purpose, so it never counts as repeated.
    if row.phase == "warm-up":
        return (row.case, row.repeat, row.utterance, row.started_ns)
    return (row.case, row.repeat, row.utterance, row.lap)


def _last_of_each(rows: list[Row], key: Callable[[Row], Hashable]) -> tuple[tuple[Row, ...], int]:
    last = {key(row): row for row in rows}
    return tuple(last.values()), len(rows) - len(last)


def _problem(error: Exception) -> str:
    if isinstance(error, ValidationError):
        detail: Any = error.errors()[0]
        place = ".".join(str(part) for part in detail["loc"])
        return f"{place}: {detail['msg']}" if place else str(detail["msg"])
    return _first_line(error)


def _first_line(error: Exception) -> str:
    text = str(error).splitlines()
    return f"{type(error).__name__}: {text[0] if text else 'no detail'}"
