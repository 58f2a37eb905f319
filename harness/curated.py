"""Curated runs: those under `reports/` that documents cite."""

from __future__ import annotations

import shutil
from pathlib import Path

from harness.recorder import PARQUET
from harness.store import MANIFEST, PROCESSES, SAMPLES, Run, open_run
from pipelines.errors import AmiraError
from pipelines.paths import home

PICTURE = "ladder.svg"
"""The ladder as one picture, where the curated run had one before: a README shows it."""


def keep(run: Run, name: str) -> Path:
    """Store a run under `reports/NAME`, in the place of the run that is there, with a new report.

    Args:
        run: A complete run.
        name: Of the folder.

    Returns:
        The folder.

    Raises:
        AmiraError: The run is not complete, the name is no plain one or that of something else, or the folder cannot be
            written.
    """
    from harness.report import write_readme_picture, write_report

    if run.manifest.status != "complete":
        raise AmiraError(
            f"run '{run.manifest.run}' is {run.manifest.status}: documents cite complete runs. "
            f"Go on with it: amira bench PLAN --resume {run.manifest.run}"
        )
    folder = home() / "reports" / name
    if Path(name).name != name or name == "runs":
        raise AmiraError(f"'{name}' is no name for a curated run: it is the name of a folder under reports/.")
    if folder.exists() and not (folder / MANIFEST).is_file():
        raise AmiraError(f"'{folder}' is there and is no run of a plan. Choose another name.")
    pictured = (folder / PICTURE).is_file()
    files = {part: (run.path / part).read_bytes() for part in (MANIFEST, SAMPLES, PROCESSES, PARQUET)}
    try:
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        for part, content in files.items():
            (folder / part).write_bytes(content)
    except OSError as error:
        raise AmiraError(f"cannot write '{folder}': {error.strerror or error}.") from error
    kept = open_run(folder)
    write_report(kept)
    if pictured:
        write_readme_picture(kept, folder / PICTURE)
    return folder
