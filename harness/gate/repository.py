"""A repository of somebody else's variants, ready to be gated: its working tree against one of its commits.

AMIRA itself, its libraries and its models are those that run here, on both sides; what differs is the package. Each
side imports it from its own checkout, by `PYTHONPATH`, with the entry points that its `pyproject.toml` declares,
whether the package is installed besides or not. Nothing is built, so the package must be one that runs from its
sources.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness import fingerprint
from harness.gate.checkout import check_out, forget_others, git, metadata, resolve
from harness.side import BASELINE, CANDIDATE, Side
from pipelines import registry
from pipelines.errors import AmiraError
from pipelines.paths import home, models_dir

PROJECT = "pyproject.toml"


def prepare_repository(path: Path, commit: str) -> tuple[Side, Side]:
    """The baseline, a commit of a repository, and the candidate, its working tree, from which this process imports.

    Args:
        path: A folder with a `pyproject.toml` that declares variants, in a git checkout.
        commit: Anything that git takes for a commit there.

    Raises:
        AmiraError: It is no such folder, there is no such commit, or the commit declares no variants.
    """
    root, inside = _root(path)
    if root == fingerprint.ROOT:
        raise AmiraError(f"'{path}' is this checkout of AMIRA itself. Leave --repository out.")
    sha = resolve(root, commit)
    folder = home() / "build" / "gate" / hashlib.sha256(str(root).encode()).hexdigest()[:8] / sha[:12]
    check_out(root, sha, folder)
    forget_others(root, folder)
    candidate = _side(CANDIDATE, root / inside, folder.with_name("candidate-metadata"))
    baseline = _side(BASELINE, folder / inside, folder.with_name(f"{folder.name}-metadata"))
    sys.path[:0] = candidate.environment["PYTHONPATH"].split(os.pathsep)
    registry.forget()
    return baseline, candidate


def _root(path: Path) -> tuple[Path, Path]:
    """The checkout that a package's folder is in, and where in it."""
    if not (path / PROJECT).is_file():
        raise AmiraError(f"'{path}' has no {PROJECT}. Name the folder of a package that registers variants.")
    try:
        root = Path(git(path, "rev-parse", "--show-toplevel"))
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        raise AmiraError(f"'{path}' is not in a git checkout, so it has no commit to compare with.") from error
    return root, path.resolve().relative_to(root.resolve())


def _side(name: str, folder: Path, place: Path) -> Side:
    try:
        project = tomllib.loads((folder / PROJECT).read_text(encoding="utf-8")).get("project", {})
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise AmiraError(f"the {name} has no {PROJECT} that can be read: {error}.") from error
    if not project.get("entry-points", {}).get(registry.GROUP):
        raise AmiraError(
            f"the {name} registers no variant: its {PROJECT} has nothing under "
            f'[project.entry-points."{registry.GROUP}"]. CONTRIBUTING.md says how.'
        )
    sources = folder / "src" if (folder / "src").is_dir() else folder
    outer = [os.environ["PYTHONPATH"]] if os.environ.get("PYTHONPATH") else []
    python_path = os.pathsep.join([str(metadata(folder, place)), str(sources), *outer])
    return Side(name, sys.executable, {"PYTHONPATH": python_path}, models_dir().absolute(), _code(folder))


def _code(folder: Path) -> Mapping[str, Any]:
    """What a run says about a side: its commit, and a hash of all Python that git knows or would take."""
    known = git(folder, "ls-files", "--cached", "--others", "--exclude-standard", "--", "*.py", PROJECT)
    digest = hashlib.sha256()
    for name in sorted(set(known.splitlines())):
        if (folder / name).is_file():
            digest.update(f"{name}\0{hashlib.sha256((folder / name).read_bytes()).hexdigest()}\n".encode())
    dirty = bool(git(folder, "status", "--porcelain"))
    return {"commit": git(folder, "rev-parse", "HEAD"), "dirty": dirty, "sources": digest.hexdigest()}
