"""A Debian package and an apt repository in a temporary folder, made by Debian's own tools."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

needs_apt = pytest.mark.skipif(
    shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None, reason="this machine has no apt"
)


def make_repository(folder: Path, packages: dict[str, dict[str, bytes]]) -> Path:
    """An apt repository of packages, each with its files by path.

    Returns:
        A configuration for the variable `APT_CONFIG`, by which apt knows no other repository.
    """
    repository = folder / "repository"
    repository.mkdir(parents=True)
    entries = []
    for package, files in packages.items():
        control = (
            f"Package: {package}\nVersion: 1.0\nArchitecture: all\nMaintainer: Nobody <nobody@example.org>\n"
            "Description: made for a test\n"
        )
        tree = folder / "trees" / package
        for path, content in {"DEBIAN/control": control.encode(), **files}.items():
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            (tree / path).write_bytes(content)
        deb = repository / f"{package}_1.0_all.deb"
        command = ["dpkg-deb", "--root-owner-group", "--build", str(tree), str(deb)]
        subprocess.run(command, check=True, capture_output=True)
        digest = hashlib.sha256(deb.read_bytes()).hexdigest()
        entries.append(f"{control}Filename: ./{deb.name}\nSize: {deb.stat().st_size}\nSHA256: {digest}\n")
    (repository / "Packages").write_text("\n".join(entries))
    (folder / "sources.list").write_text(f"deb [trusted=yes] file:{repository} ./\n")
    config = folder / "apt.conf"
    config.write_text(f'Dir::Etc::SourceList "{folder}/sources.list";\nDir::Etc::SourceParts "-";\n')
    return config
