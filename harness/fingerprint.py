"""What a measurement depends on besides the plan: code, machine, libraries, models.

Two runs may be compared only where their fingerprints agree. Nothing in it names a host, a user or a place in
the file system, so that it can be published with the run.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import subprocess
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from harness.machine import cpu, memory_gib, virtualisation
from pipelines.models.card import read as read_card
from pipelines.models.locate import model_folder

ROOT = Path(__file__).resolve().parent.parent
MEASURED = ("kernels/**/*.py", "pipelines/**/*.py", "harness/worker.py")
"""The code that runs inside a measured process. The rest, such as the report, may change and samples stay good."""
LOCK = "requirements/lock.txt"
LIBRARIES = (
    "llvmlite",
    "moonshine-cpp",
    "numba",
    "numpy",
    "onnxruntime",
    "pydantic",
    "scipy",
    "soundfile",
    "soxr",
)
VARIABLES = re.compile(
    r"(OMP|GOMP|KMP|MKL|OPENBLAS|BLIS|ORT|ONEDNN|NUMBA|MALLOC|MIMALLOC|AMIRA)_\w+"
    r"|LD_PRELOAD|GLIBC_TUNABLES|PYTHONMALLOC|PYTHONOPTIMIZE"
)
PRIVATE = re.compile(r"TOKEN|SECRET|PASSWORD|KEY|HOME", re.IGNORECASE)
NOT_COMPARED = ("code.dirty", "memory_gib")
"""Keys that inform and do not judge: `code.sources` already tells whether dirty code is the same code."""


def fingerprint(models_dir: Path, model_names: Iterable[str]) -> dict[str, Any]:
    """Everything that a measurement on this machine depends on, as JSON-ready values.

    Args:
        models_dir: Folder of built models.
        model_names: The models that are measured.
    """
    return {
        "code": code(ROOT),
        "cpu": cpu(),
        "memory_gib": memory_gib(),
        "virtualisation": virtualisation(),
        "os": {
            "kernel": platform.release(),
            "libc": " ".join(platform.libc_ver()),
            "machine": platform.machine(),
        },
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "libraries": {name: _version(name) for name in LIBRARIES},
        "environment": environment(os.environ),
        "models": {
            name.rpartition("/")[2]: model_hashes(model_folder(models_dir, name)) for name in sorted(set(model_names))
        },
    }


def differences(a: Mapping[str, Any], b: Mapping[str, Any], *, same_code: bool = True) -> list[str]:
    """What makes runs with fingerprints `a` and `b` incomparable, one readable line each; empty if nothing.

    Args:
        a: Fingerprint of one run.
        b: Fingerprint of the other.
        same_code: Whether other code is such a thing; it is not where two commits are compared.
    """
    flat_a, flat_b = dict(_flat(a)), dict(_flat(b))
    keys = [key for key in {**flat_a, **flat_b} if key not in NOT_COMPARED]
    return [
        f"{key}: {_shown(flat_a.get(key))} against {_shown(flat_b.get(key))}"
        for key in keys
        if flat_a.get(key) != flat_b.get(key) and (same_code or not key.startswith("code."))
    ]


def code(root: Path) -> dict[str, Any]:
    """The code under `root`: its commit, whether it was changed since, hashes of sources and lock file."""
    lock = root / LOCK
    return {
        **_git(root),
        "sources": _sources_hash(root),
        "lock": _sha256(lock) if lock.is_file() else f"no {LOCK}",
    }


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """The environment variables that change speed; paths in their values are cut to the file's name."""
    return {
        name: " ".join(part.rpartition("/")[2] for part in re.split(r"[\s:]+", value))
        for name, value in sorted(variables.items())
        if VARIABLES.fullmatch(name) and not PRIVATE.search(name)
    }


def model_hashes(folder: Path) -> dict[str, str] | str:
    """File name to sha256 of each file of a model: from its card if it has one, else from the files.

    A model that is not there is no error here: the case that needs it fails, and says so itself.

    Raises:
        AmiraError: The card is broken.
    """
    if not folder.is_dir():
        return "not built"
    card = read_card(folder)
    if card is not None:
        return {name: entry["sha256"] for name, entry in sorted(card["files"].items())}
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): _sha256(path) for path in files}


def _git(root: Path) -> dict[str, Any]:
    """Commit and dirty flag; a folder inside someone else's checkout is not ours."""
    try:
        prefix = _git_says(root, "rev-parse", "--show-prefix")
        if prefix:
            return {"commit": "not a git checkout", "dirty": None}
        status = _git_says(root, "status", "--porcelain")
        return {"commit": _git_says(root, "rev-parse", "HEAD"), "dirty": bool(status)}
    except FileNotFoundError:
        return {"commit": "unknown: git is not installed", "dirty": None}
    except subprocess.CalledProcessError as error:
        return {"commit": _why_no_commit(error.stderr), "dirty": None}


def _why_no_commit(complaint: str) -> str:
    """Git's complaint in words of our own, for it names folders."""
    if "not a git repository" in complaint:
        return "not a git checkout"
    return "no commit yet" if "HEAD" in complaint else "unknown: git cannot read the checkout"


def _git_says(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    variables = {**os.environ, "LC_ALL": "C"}
    return subprocess.run(command, capture_output=True, text=True, check=True, env=variables).stdout.strip()


def _sources_hash(root: Path) -> str:
    """One hash of all measured code, for code that no commit describes."""
    digest = hashlib.sha256()
    for pattern in MEASURED:
        for path in sorted(root.glob(pattern)):
            digest.update(f"{path.relative_to(root).as_posix()}\0{_sha256(path)}\n".encode())
    return digest.hexdigest()


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "not installed"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for key, item in value.items():
        if isinstance(item, Mapping):
            yield from _flat(item, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", item


def _shown(value: object) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, list | tuple):
        return " ".join(map(str, value)) or "nothing"
    text = str(value)
    return text[:12] if re.fullmatch(r"[0-9a-f]{40,64}", text) else text
