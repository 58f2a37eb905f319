"""Another commit of this repository, ready to be measured beside the working tree.

The commit is checked out in a git worktree under `build/gate/`. Its processes import it by `PYTHONPATH`, which comes
before the installed package, and its entry points are laid out there as an installed package has them, so that the
registry of its processes knows its variants and not ours. It shares our interpreter and libraries where its lock file
is ours, and gets an environment of its own where not. It shares our built models where nothing that builds them
differs, and builds its own where it does.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from harness import fingerprint
from harness.side import BASELINE, Side
from pipelines.errors import AmiraError
from pipelines.paths import home, models_dir

MODEL_SOURCES = ("pipelines/models", "model-repo")
"""What decides what a built model is."""
KEPT = 4
"""Checkouts that stay for the next time, the most recently used ones."""

Say = Callable[[str], None]


def prepare(commit: str, models: Collection[str], say: Say, root: Path = fingerprint.ROOT) -> Side:
    """Check a commit out and make what it needs.

    Args:
        commit: Anything that git takes for one: a hash, a branch, `HEAD~1`.
        models: The models that will be measured.
        say: Hears what takes time.
        root: The repository.

    Raises:
        AmiraError: There is no such commit, or it cannot be made ready.
    """
    sha = resolve(root, commit)
    folder = home() / "build" / "gate" / sha[:12]
    check_out(root, sha, folder)
    entry_points = metadata(folder, folder.with_name(f"{folder.name}-metadata"))
    python = _python(root, folder, say)
    environment = {"PYTHONPATH": os.pathsep.join([str(entry_points), str(folder)]), "AMIRA_HOME": str(home())}
    built = _models(root, sha, folder, python, environment, models, say)
    forget_others(root, folder)
    return Side(BASELINE, python, environment, built, fingerprint.code(folder))


def resolve(root: Path, commit: str) -> str:
    """The hash of a commit.

    Raises:
        AmiraError: There is no such commit.
    """
    try:
        return git(root, "rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}")
    except subprocess.CalledProcessError as error:
        raise AmiraError(
            f"commit '{commit}' is not in this repository. List some with: git log --oneline. A shallow clone has "
            "only the newest: fetch the rest with: git fetch --unshallow"
        ) from error


def check_out(root: Path, sha: str, folder: Path) -> None:
    """Have a worktree of a commit in a folder, a clean one.

    Raises:
        AmiraError: It cannot be made.
    """
    git(root, "worktree", "prune")
    if (folder / ".git").exists():
        if git(folder, "rev-parse", "HEAD") == sha and not git(folder, "status", "--porcelain", "--untracked-files=no"):
            folder.touch()
            return
        git(root, "worktree", "remove", "--force", str(folder))
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        git(root, "worktree", "add", "--quiet", "--detach", str(folder), sha)
    except (OSError, subprocess.CalledProcessError) as error:
        reason = error.stderr.strip() if isinstance(error, subprocess.CalledProcessError) else str(error)
        raise AmiraError(
            f"commit {sha[:12]} cannot be checked out: {reason}. Free build/gate, or some space."
        ) from error


def metadata(folder: Path, place: Path) -> Path:
    """Lay out a checkout's entry points in a folder as an installed package has them."""
    project: dict[str, Any] = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    name = project["name"].replace("-", "_")
    version = project.get("version", "0")  # 0 where the build finds it out
    info = place / f"{name}-{version}.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    header = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {version}\n"
    (info / "METADATA").write_text(header, encoding="utf-8")
    lines = []
    for group, points in project.get("entry-points", {}).items():
        lines += [f"[{group}]", *(f"{point} = {target}" for point, target in points.items()), ""]
    (info / "entry_points.txt").write_text("\n".join(lines), encoding="utf-8")
    return place


def _python(root: Path, folder: Path, say: Say) -> str:
    """Our interpreter where the lock files agree, else one with the libraries of the checkout's."""
    ours, theirs = (path / fingerprint.LOCK for path in (root, folder))
    if not theirs.is_file():
        raise AmiraError(
            f"the commit has no {fingerprint.LOCK}, so its libraries are unknown. Compare with a newer one."
        )
    wanted = theirs.read_bytes()
    if ours.is_file() and ours.read_bytes() == wanted:
        return sys.executable
    place = folder.with_name(f"env-{hashlib.sha256(wanted).hexdigest()[:12]}")
    python = place / "bin" / "python"
    ready = place / ".ready"
    if not ready.exists():
        say("the commit locks other libraries: making an environment of its own (some minutes, once)")
        _run([sys.executable, "-m", "venv", "--clear", str(place)])
        _run([str(python), "-m", "pip", "install", "--quiet", "--no-input", "--require-hashes", "-r", str(theirs)])
        ready.touch()
    return str(python)


def _models(
    root: Path, sha: str, folder: Path, python: str, environment: dict[str, str], models: Collection[str], say: Say
) -> Path:
    shared = models_dir().absolute()
    if _same_model_sources(root, sha):
        return shared
    built = folder / "build" / "models"
    if not all((built / name).is_dir() for name in models):
        say("the commit builds its models in another way: building them with its own code")
        _run([python, "-P", "-m", "harness.cli", "models", "build"], {**environment, "AMIRA_HOME": str(folder)})
    missing = [name for name in models if not (built / name).is_dir()]
    if missing:
        raise AmiraError(
            f"the commit does not build the model {', '.join(missing)} that the plan measures. "
            "Compare with a commit that does, or with a plan of models that both have."
        )
    return built


def _same_model_sources(root: Path, sha: str) -> bool:
    command = ["git", "-C", str(root), "diff", "--quiet", sha, "--", *MODEL_SOURCES]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def forget_others(root: Path, folder: Path) -> None:
    """Remove the checkouts that were not used for longest; environments stay, for they are dear."""
    others = [path.parent for path in folder.parent.glob("*/.git") if path.parent != folder]
    for old in sorted(others, key=lambda path: path.stat().st_mtime, reverse=True)[KEPT - 1 :]:
        git(root, "worktree", "remove", "--force", str(old))


def _run(command: list[str], environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, **(environment or {})}
    )
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
        raise AmiraError(
            f"the commit cannot be made ready: `{' '.join(command[1:4])}` ended with code {done.returncode}: {last}. "
            "Mend that, or compare with a stored baseline: amira gate --baseline RUN"
        )


def git(root: Path, *arguments: str) -> str:
    """What git says, without the line's end."""
    variables = {**os.environ, "LC_ALL": "C"}
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, env=variables).stdout.strip()
