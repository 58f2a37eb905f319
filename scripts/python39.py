"""Unpack Debian bullseye's Python 3.9 and its shared library into a folder, without installing anything.

usage: python39.py FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from pipelines import debian
from pipelines.errors import AmiraError

PACKAGES = (
    "python3.9-minimal",
    "libpython3.9",
    "libpython3.9-minimal",
    "libpython3.9-stdlib",
    "libffi7",
    "libmpdec3",
    "libssl1.1",
)


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="amira-debian-") as scratch:
        for package in PACKAGES:
            print(package, file=sys.stderr)
            archive = debian.download(package, Path(scratch), lambda line: None, release="bullseye")
            debian.unpack(archive, folder.resolve())


if __name__ == "__main__":
    try:
        main()
    except AmiraError as error:
        sys.exit(f"error: {error}. Name a Python 3.9 with a shared libpython: make k2 PYTHON39=/path/to/python3.9")
