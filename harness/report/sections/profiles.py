"""Links to the profiles that `amira profile` attached to a run."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote

from harness.report.numbers import file_size
from harness.report.sections import Link, Section

FOLDER = "profiles"


def section(run_folder: Path, page_folder: Path, prefix: str = "") -> Section | None:
    """The section; `None` where there is no profile."""
    found = sorted((run_folder / FOLDER).glob("*.svg"))
    if not found:
        return None
    links = []
    for path in found:
        relative = Path(os.path.relpath(path, page_folder)).as_posix()
        links.append(Link(quote(relative), f"{path.stem} ({file_size(path.stat().st_size)})"))
    return Section(
        id=f"{prefix}profiles",
        title=f"Profiles of {run_folder.name}" if prefix else "Profiles",
        about=(
            "Flame graphs of where the processor's time went: width is share of samples, each box is called by the one "
            "it touches on the side of the root. They are files beside this page."
        ),
        links=tuple(links),
    )
