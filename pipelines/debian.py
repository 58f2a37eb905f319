"""Debian packages without privileges: apt downloads them into a private folder, dpkg-deb unpacks them there."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from pipelines.errors import AmiraError

Progress = Callable[[str], None]

TOOLS = ("apt-get", "dpkg-deb")
_TIMEOUT_S = 300


class UnobtainableError(AmiraError):
    """A package that this machine cannot get: it has no apt, or apt does not have the package."""


def download(package: str, folder: Path, progress: Progress) -> Path:
    """Download a package: first by the system's package lists, then by fresh private ones.

    Args:
        package: Its name.
        folder: An empty folder for it; apt's own files go there, too.
        progress: Is told what goes on.

    Returns:
        The `.deb` file. Apt has checked it against the signed package list.

    Raises:
        UnobtainableError: There is no apt here, or it cannot fetch the package.
    """
    absent = [tool for tool in TOOLS if shutil.which(tool) is None]
    if absent:
        raise UnobtainableError(f"this machine has no {' and no '.join(absent)}")
    private = _private_apt(folder / "apt")
    done = run(["apt-get", "--quiet", *private[:2], "download", package], folder)
    if done.returncode:
        progress("the system's package lists do not have it: reading fresh ones")
        done = run(["apt-get", "--quiet", *private, "update"], folder)
        if not done.returncode:
            done = run(["apt-get", "--quiet", *private, "download", package], folder)
    archives = sorted(folder.glob("*.deb"))
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


def _private_apt(folder: Path) -> list[str]:
    """Options that keep apt out of the system's folders; the first two alone leave it the system's lists."""
    for name in ("cache/archives/partial", "state/lists/partial"):
        (folder / name).mkdir(parents=True)
    options = {
        "Dir::Cache": folder / "cache",
        "Acquire::http::Timeout": 20,
        "Acquire::Retries": 1,
        "Dir::State": folder / "state",
        "Dir::State::Lists": folder / "state" / "lists",
    }
    return [f"--option={key}={value}" for key, value in options.items()]
