"""Debian packages without privileges: apt downloads them into a private folder, dpkg-deb unpacks them there."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from pipelines.errors import AmiraError

Progress = Callable[[str], None]

TOOLS = ("apt-get", "dpkg-deb")
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
"""Debian's keys, from its package `debian-archive-keyring`."""
_TIMEOUT_S = 300


class UnobtainableError(AmiraError):
    """A package that this machine cannot get: it has no apt, or apt does not have the package."""


def download(package: str, folder: Path, progress: Progress, release: str | None = None) -> Path:
    """Download a package: first by the system's package lists, then by fresh private ones.

    Args:
        package: Its name.
        folder: A folder for it and for apt's own files; a release's package lists in it are read once.
        progress: Is told what goes on.
        release: Take it from this release of Debian, e.g. `bullseye`, instead of the system's own.

    Returns:
        The `.deb` file. Apt has checked it against the signed package list.

    Raises:
        UnobtainableError: There is no apt here, or it cannot fetch the package.
    """
    absent = [tool for tool in TOOLS if shutil.which(tool) is None]
    if absent:
        raise UnobtainableError(f"this machine has no {' and no '.join(absent)}")
    private = _private_apt(folder / "apt")
    if release is None:
        done = run(["apt-get", "--quiet", *private[:2], "download", package], folder)
    else:
        private += _sources(folder, release)
    if release is not None or done.returncode:
        why = f"{package} comes from {release}" if release else "the system's package lists do not have it"
        progress(f"{why}: reading package lists" if release else f"{why}: reading fresh ones")
        fresh = release is not None and any((folder / "apt/state/lists").glob("*_Packages*"))  # by an earlier call
        if not fresh:
            done = run(["apt-get", "--quiet", *private, "update"], folder)
        if fresh or not done.returncode:
            done = run(["apt-get", "--quiet", *private, "download", package], folder)
    archives = sorted(folder.glob(f"{package}_*.deb"))
    if done.returncode or not archives:
        raise UnobtainableError(f"apt could not fetch {package}: {last_words(done)}")
    return archives[0]


def unpack(archive: Path, folder: Path) -> None:
    """Unpack the files of a package under `folder`, as if that were `/`.

    Raises:
        AmiraError: The archive is broken.
    """
    unpacked = run(["dpkg-deb", "--extract", str(archive), str(folder)], folder)
    if unpacked.returncode:
        raise AmiraError(f"{archive.name} could not be unpacked: {last_words(unpacked)}. Fetch it again.")


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder, five minutes at most; code 124 stands for more."""
    try:
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 124, "", f"{command[0]} took longer than {_TIMEOUT_S} s")


def last_words(done: subprocess.CompletedProcess[str]) -> str:
    """The line in which a command said what went wrong."""
    lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
    errors = [line for line in lines if line.upper().startswith(("E:", "ERROR"))]
    return (errors or lines or [f"exit status {done.returncode}"])[-1].rstrip(".")


def _sources(folder: Path, release: str) -> list[str]:
    """Options that make apt read another release of Debian from the mirror that the system uses."""
    if not KEYRING.is_file():
        raise UnobtainableError(f"there is no {KEYRING} to check the packages of {release} with")
    listed = run(["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"], folder)
    mirrors = [line for line in listed.stdout.splitlines() if line.rstrip("/").endswith("/debian")]
    if not mirrors:
        raise UnobtainableError("apt knows no mirror of Debian here")
    sources = folder / "sources.list"
    sources.write_text(f"deb [signed-by={KEYRING}] {mirrors[0]} {release} main\n", "utf-8")
    return [f"--option=Dir::Etc::SourceList={sources}", "--option=Dir::Etc::SourceParts=/dev/null"]


def _private_apt(folder: Path) -> list[str]:
    """Options that keep apt out of the system's folders; the first two alone leave it the system's lists."""
    for name in ("cache/archives/partial", "state/lists/partial"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    options = {
        "Dir::Cache": folder / "cache",
        "Acquire::http::Timeout": 20,
        "Acquire::Retries": 1,
        "Dir::State": folder / "state",
        "Dir::State::Lists": folder / "state" / "lists",
    }
    return [f"--option={key}={value}" for key, value in options.items()]
