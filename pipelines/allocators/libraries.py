"""The allocator libraries: where they lie on this machine, and how to get them without root.

A library that the system has is used from there. Else it comes from `build/libraries/`, into which
`amira setup allocators` unpacks the Debian package.
"""

from __future__ import annotations

import platform
import shutil
import sysconfig
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pipelines import debian
from pipelines.paths import libraries_dir
from pipelines.registry import Unavailable

SETUP = "amira setup allocators"
_MULTIARCH = sysconfig.get_config_var("MULTIARCH") or "lib"
SYSTEM_FOLDERS = tuple(
    Path(folder)
    for folder in (f"/usr/lib/{_MULTIARCH}", f"/lib/{_MULTIARCH}", "/usr/local/lib", "/usr/lib64", "/usr/lib")
)
"""Where distributions put libraries."""
LIST_SEPARATORS = " :"
"""What separates the entries of `LD_PRELOAD`, so that no path in it can hold one."""


@dataclass(frozen=True, slots=True)
class Library:
    """A shared library that replaces `malloc` when it is preloaded.

    Attributes:
        name: As its authors call it.
        file: File name of the version that is used, its soname.
        package: Debian and Ubuntu package that holds it.
    """

    name: str
    file: str
    package: str


JEMALLOC = Library("jemalloc", "libjemalloc.so.2", "libjemalloc2")
MIMALLOC = Library("mimalloc", "libmimalloc.so.2", "libmimalloc2.0")
LIBRARIES = (JEMALLOC, MIMALLOC)


def find(library: Library) -> Path | None:
    """Where the library lies: on the system, else in the private folder; `None` for nowhere."""
    return next((folder / library.file for folder in _folders(library) if (folder / library.file).is_file()), None)


def problem(library: Library) -> Unavailable | None:
    """Why the library cannot be preloaded here, `None` if it can."""
    if platform.libc_ver()[0] != "glibc":
        return Unavailable("preloading is done for glibc, which this Python does not use", "Run it on a glibc Linux.")
    path = find(library)
    if path is None:
        return Unavailable(
            f"{library.file} of {library.name} is not on this machine",
            f"Install the package {library.package}, or without root: {SETUP}",
        )
    if any(char in str(path) for char in LIST_SEPARATORS):
        return Unavailable(
            f"{library.file} lies in '{path.parent}', and LD_PRELOAD cannot name a path with a space or a colon",
            f"Install the package {library.package}, or set AMIRA_HOME to another folder and run: {SETUP}",
        )
    return None


def fetch(progress: Callable[[str], None]) -> dict[str, Path]:
    """Get the libraries that the system does not have, as Debian packages unpacked into the private folder.

    Args:
        progress: Is told what goes on, a line each.

    Returns:
        Where each library lies, by its name.

    Raises:
        UnobtainableError: There is no apt here, or it does not have a package; the others were fetched all the same.
        AmiraError: A package is broken.
    """
    found, missing = {}, []
    for library in LIBRARIES:
        try:
            path = find(library) or _fetch(library, progress)
        except debian.UnobtainableError as error:
            missing.append(f"{library.name}: {error}")
        else:
            progress(f"{library.name}: {path}")
            found[library.name] = path
    if missing:
        raise debian.UnobtainableError(f"{'; '.join(missing)}. The variants that need them stay unavailable.")
    return found


def _fetch(library: Library, progress: Callable[[str], None]) -> Path:
    target = libraries_dir() / library.name
    target.parent.mkdir(parents=True, exist_ok=True)
    # Built beside and renamed when whole: an interruption leaves nothing that looks like a library.
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".fetch-") as scratch:
        progress(f"{library.name}: fetching the package {library.package}")
        archive = debian.download(library.package, Path(scratch), progress)
        root = Path(scratch) / "root"
        root.mkdir()
        debian.unpack(archive, root)
        inside = next((path for path in root.rglob(library.file) if path.is_file()), None)
        if inside is None:
            raise debian.UnobtainableError(
                f"{archive.name} holds no {library.file}: this system packages another version of {library.name}"
            )
        whole = Path(scratch) / "whole"
        whole.mkdir()
        shutil.copy2(inside, whole / library.file)
        for note in root.glob(f"usr/share/doc/{library.package}/copyright"):
            shutil.copy2(note, whole / "copyright")
        shutil.rmtree(target, ignore_errors=True)
        whole.rename(target)
    return target / library.file


def _folders(library: Library) -> tuple[Path, ...]:
    return (*SYSTEM_FOLDERS, libraries_dir() / library.name)
