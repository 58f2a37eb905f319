"""Fetches the packages that hold the starter corpus' recordings and takes out the recordings alone."""

from __future__ import annotations

import hashlib
import sys
import zipfile
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from harness.corpus.recipe import Recording, Source
from pipelines import debian
from pipelines.debian import Progress
from pipelines.errors import AmiraError

REQUIREMENTS = Path(__file__).resolve().parents[2] / "requirements" / "starter.txt"
_SYSTEM_ROOT = Path("/")


class SourceMissingError(AmiraError):
    """A source that this machine cannot provide; the corpus can do without it."""


def fetch(source: Source, recordings: tuple[Recording, ...], folder: Path, progress: Progress) -> dict[str, Path]:
    """Bring the recordings of a source to this machine.

    Args:
        source: The package.
        recordings: What to take out of it.
        folder: An empty folder for what is downloaded and unpacked.
        progress: Is told what goes on.

    Returns:
        Where each recording lies, by its path in the source. Each has the recipe's sha256.

    Raises:
        SourceMissingError: The machine has no apt, or apt does not have the package.
        AmiraError: A download failed or a file is not the one that the recipe names.
    """
    root = {"installed": _installed, "wheel": _wheel, "deb": _deb}[source.kind](source, recordings, folder, progress)
    found = {recording.path: root / recording.path for recording in recordings}
    for recording in recordings:
        _check(found[recording.path], recording.sha256, source)
    return found


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check(path: Path, expected: str, source: Source) -> None:
    if not path.is_file():
        raise AmiraError(
            f"package {source.package} has no file {path.name}; the recipe wants version {source.version}."
        )
    if (got := sha256_of(path)) != expected:
        raise AmiraError(
            f"{path.name} of package {source.package} has sha256 {got}, but the recipe wants {expected} "
            f"(version {source.version}). Its cuts and transcripts would not fit; install that version."
        )


def _installed(source: Source, recordings: tuple[Recording, ...], folder: Path, progress: Progress) -> Path:
    try:
        package = distribution(source.package)
    except PackageNotFoundError as error:
        raise AmiraError(f"package '{source.package}' is not installed. Run: make setup") from error
    return Path(str(package.locate_file(source.root)))


def _wheel(source: Source, recordings: tuple[Recording, ...], folder: Path, progress: Progress) -> Path:
    progress(f"fetching {source.package} {source.version}")
    # The platform is named because only the audio is used: any machine may unpack it.
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    command += ["--requirement", str(REQUIREMENTS), "--only-binary=:all:", "--dest", str(folder)]
    command += ["--platform", "manylinux_2_34_x86_64", "--platform", "any", "--disable-pip-version-check"]
    done = debian.run(command, folder)
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode or not wheels:
        raise AmiraError(
            f"package {source.package} {source.version} could not be fetched: {debian.last_words(done)}. "
            "The starter corpus takes recordings out of it; check the network and the package index of pip."
        )
    with zipfile.ZipFile(wheels[0]) as archive:
        for recording in recordings:
            archive.extract(f"{source.root}/{recording.path}", folder)
    return folder / source.root


def _deb(source: Source, recordings: tuple[Recording, ...], folder: Path, progress: Progress) -> Path:
    installed = _SYSTEM_ROOT / source.root
    if installed.is_dir():
        return installed
    progress(f"fetching {source.package} {source.version}")
    try:
        archive = debian.download(source.package, folder, progress)
    except debian.UnobtainableError as error:
        raise SourceMissingError(str(error)) from error
    if sha256_of(archive) != source.sha256:
        progress(f"{archive.name} is another build than the pinned {source.version}: checking each file of it")
    debian.unpack(archive, folder)
    return folder / source.root
