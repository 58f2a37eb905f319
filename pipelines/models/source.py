"""The files that the default models are made from: what the pinned package ships, checked by hash."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from pipelines.errors import AmiraError

PACKAGE = "moonshine-cpp"
VERSION = "0.1.4"


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file inside the package: its path from the site folder, and the sha256 that it must have."""

    path: str
    sha256: str


ENCODER = SourceFile(
    "moonshine_cpp/models/base-en/encoder_model.ort",
    "9d1a19e044cbf89a207723d1adb667de89a5671a1e3e611b8ebe721b2c31219c",
)
DECODER = SourceFile(
    "moonshine_cpp/models/base-en/decoder_model_merged.ort",
    "370e0c1f161d68dc1c2264c1a82024fb123380da3b73f47f05531d1e8d3308c3",
)
TOKENIZER = SourceFile(
    "moonshine_cpp/models/base-en/tokenizer.bin",
    "04670d78994d030185c3dd843c60591788fed0a56cc6750747bd326825f13ca9",
)


def sha256(path: Path) -> str:
    """Hex sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def package_file(relative: str) -> Path:
    """Where a file of the package is installed; the package is not imported.

    Raises:
        AmiraError: The package is not installed, or has no such file.
    """
    try:
        path = Path(str(distribution(PACKAGE).locate_file(relative)))
    except PackageNotFoundError as error:
        raise AmiraError(
            f"package '{PACKAGE}' is not installed. Install the locked dependencies: make setup"
        ) from error
    if not path.is_file():
        raise AmiraError(
            f"package '{PACKAGE}' has no file {relative}; it must be version {VERSION}. Reinstall it: make setup"
        )
    return path


def verified(source: SourceFile) -> Path:
    """The path of a source file, after checking its hash.

    Raises:
        AmiraError: It is missing or is not the pinned file.
    """
    path = package_file(source.path)
    found = sha256(path)
    if found != source.sha256:
        raise AmiraError(
            f"{path.name} of package '{PACKAGE}' has sha256 {found[:16]}..., expected {source.sha256[:16]}... "
            f"(version {VERSION}): it is damaged or of another version. Reinstall it: make setup"
        )
    return path
