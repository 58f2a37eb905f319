"""The write side of the run store: what is measured is on disk, in whole lines, the moment it is measured."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from harness.records import Execution, Manifest, ProcessRecord, RunStatus, Sample
from harness.store import MANIFEST, PROCESSES, SAMPLES, open_run
from pipelines.errors import AmiraError

PARQUET = "samples.parquet"
NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


def utc_now() -> str:
    """The time as manifests keep it: ISO 8601 in UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def new_run_folder(runs_dir: Path, plan_name: str) -> Path:
    """Make the folder of a new run: `<UTC time>-<plan name>`, with a number behind it where that is taken.

    Raises:
        AmiraError: The folder cannot be made.
    """
    stem = f"{datetime.now(UTC).strftime('%Y%m%dT%H%M%SZ')}-{plan_name}"
    number = 1
    with _clear_errors(runs_dir):
        runs_dir.mkdir(parents=True, exist_ok=True)
        while True:
            path = runs_dir / (stem if number == 1 else f"{stem}-{number}")
            try:
                path.mkdir()
            except FileExistsError:
                number += 1
            else:
                return path


class Recorder:
    """Writes one run. Close it, or use it in a `with` block; it holds a lock on the folder until then.

    A full disk or a folder that cannot be written raises one `AmiraError`; lines written before stay whole.
    """

    def __init__(self, path: Path, manifest: Manifest, lock: int) -> None:
        """Use `create` or `resume`; `lock` is a locked descriptor of the folder, now the recorder's own."""
        self.path = path
        self.manifest = manifest
        self._files = ExitStack()
        self._files.callback(os.close, lock)
        try:
            write_atomically(path / MANIFEST, _manifest_bytes(manifest))
            self._samples = self._files.enter_context(_LineFile(path / SAMPLES))
            self._processes = self._files.enter_context(_LineFile(path / PROCESSES))
        except AmiraError:
            self._files.close()
            raise

    @classmethod
    def create(cls, path: Path, manifest: Manifest) -> Recorder:
        """Begin a run in the folder `path`, which is there and empty.

        Raises:
            AmiraError: Another process is writing this run, or the disk refuses.
        """
        return cls(path, manifest, _locked(path))

    @classmethod
    def resume(cls, path: Path, execution: Execution | None = None) -> Recorder:
        """Continue a stored run: drop what a cut-off process left half-way, and append behind the rest.

        Args:
            path: The run's folder.
            execution: Where this sitting's processes run.

        Raises:
            AmiraError: The run cannot be read, another process is writing it, or the disk refuses.
        """
        lock = _locked(path)
        try:
            run = open_run(path)
            finished = {(record.case, record.repeat) for record in run.processes}
            whole = (sample for sample in run.samples if (sample.case, sample.repeat) in finished)
            write_atomically(path / PROCESSES, _lines(record.to_json() for record in run.processes))
            write_atomically(path / SAMPLES, _lines(sample.to_json() for sample in whole))
        except AmiraError:
            os.close(lock)
            raise
        where = run.manifest.executor.joined(execution or Execution())
        update = {"status": "running", "finished_utc": None, "executor": where}
        return cls(path, run.manifest.model_copy(update=update), lock)

    def sample(self, sample: Sample) -> None:
        """Append a sample."""
        self._samples.append(sample.to_json())

    def process(self, record: ProcessRecord) -> None:
        """Append a process record: from now on its case and repeat count as done."""
        self._processes.append(record.to_json())

    def ran(self, case: str, workers: Sequence[str]) -> None:
        """Note in the manifest which workers measured a case."""
        where = self.manifest.executor.with_case(case, workers)
        if where != self.manifest.executor:
            self.manifest = self.manifest.model_copy(update={"executor": where})
            write_atomically(self.path / MANIFEST, _manifest_bytes(self.manifest))

    def finish(self, status: RunStatus) -> None:
        """Write the table of all samples and the manifest with its final status."""
        write_parquet(self.path / SAMPLES, self.path / PARQUET)
        self.mark(status)

    def mark(self, status: RunStatus) -> None:
        """Write the manifest with another status."""
        self.manifest = self.manifest.model_copy(update={"status": status, "finished_utc": utc_now()})
        write_atomically(self.path / MANIFEST, _manifest_bytes(self.manifest))

    def close(self) -> None:
        """Close the files and give the folder free."""
        self._files.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class _LineFile:
    """Appends JSON lines past any buffer. A line that cannot be written whole is taken back."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with _clear_errors(path):
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)

    def append(self, row: dict[str, Any]) -> None:
        data = _line(row)
        with _clear_errors(self._path):
            size = os.fstat(self._fd).st_size
            try:
                written = 0
                while written < len(data):
                    written += os.write(self._fd, data[written:])
            except OSError:
                if os.fstat(self._fd).st_size > size:
                    os.ftruncate(self._fd, size)
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        os.close(self._fd)


def write_atomically(path: Path, data: bytes) -> None:
    """Replace a file so that a reader sees the old content or the new one, whatever happens in between.

    Raises:
        AmiraError: The disk refuses; the old content stays.
    """
    with _written_beside(path) as partial, partial.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def write_parquet(samples: Path, table: Path) -> None:
    """Write `samples.jsonl` as a table, one column a field.

    `stages_ns` becomes a column `stage_<name>_ns` for each stage, `stages_cpu_ns` one `cpu_<name>_ns`.

    Raises:
        AmiraError: The disk refuses.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from harness.records import SCHEMA_VERSION
    from pipelines.contracts import ENGINE_STAGE, STAGES

    rows = [json.loads(line) for line in samples.read_bytes().splitlines()]
    known = [*STAGES, ENGINE_STAGE]
    seen = {stage for row in rows for stage in row["stages_ns"]}
    stages = [stage for stage in known if stage in seen] + sorted(seen.difference(known))
    types = {
        **dict.fromkeys(("case", "utterance", "phase", "text"), pa.string()),
        **dict.fromkeys(("repeat", "steps"), pa.int32()),
        **dict.fromkeys(("started_ns", "latency_ns", "cpu_ns"), pa.int64()),
    }
    columns = {name: pa.array([row[name] for row in rows], kind) for name, kind in types.items()}
    later = {"lap": pa.int32(), "rss_bytes": pa.int64()}  # a resumed run may hold rows from before there were these
    columns |= {name: pa.array([row.get(name) for row in rows], kind) for name, kind in later.items()}
    for stage in stages:
        columns[f"stage_{stage}_ns"] = pa.array([row["stages_ns"].get(stage) for row in rows], pa.int64())
    for stage in stages:
        cpu = [row.get("stages_cpu_ns", {}).get(stage) for row in rows]
        columns[f"cpu_{stage}_ns"] = pa.array(cpu, pa.int64())
    content = pa.table(columns).replace_schema_metadata({"schema_version": str(SCHEMA_VERSION)})
    with _written_beside(table) as partial:
        pq.write_table(content, partial)


@contextmanager
def _written_beside(path: Path) -> Iterator[Path]:
    """A path to write to, which becomes `path` if the block ends well and is removed if it does not."""
    partial = path.with_name(f"{path.name}.partial")
    with _clear_errors(path):
        try:
            yield partial
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


@contextmanager
def _clear_errors(path: Path) -> Iterator[None]:
    """Turn an `OSError` of writing `path` into a message that says what is kept and what to do."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        remedy = "Free some space" if error.errno in NO_SPACE else "Make the folder writable or choose another"
        raise AmiraError(
            f"cannot write '{path}': {reason} ({_free(path)}). "
            f"What was measured before is kept, in whole lines. {remedy}, then resume the run."
        ) from error


def _free(path: Path) -> str:
    """How much space there is for `path`, from the nearest folder above it that exists."""
    folder = next(parent for parent in (path, *path.absolute().parents) if parent.is_dir())
    return f"{shutil.disk_usage(folder).free / 2**20:.1f} MiB free there"


def _locked(path: Path) -> int:
    """An exclusive lock on a run's folder, as a file descriptor to close."""
    with _clear_errors(path):
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(fd)
        raise AmiraError(f"run '{path}' is being written by another process. Wait for it, or end it first.") from error
    return fd


def _line(row: dict[str, Any]) -> bytes:
    return json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _lines(rows: Iterable[dict[str, Any]]) -> bytes:
    return b"".join(map(_line, rows))


def _manifest_bytes(manifest: Manifest) -> bytes:
    return manifest.model_dump_json(indent=2).encode() + b"\n"
