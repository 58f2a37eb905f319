"""Language models that AMIRA makes itself: the English trigram of CMU Sphinx, and models trained on text."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from tempfile import mkdtemp

from pipelines import debian
from pipelines.errors import AmiraError
from pipelines.graphs import ngram, sphinx
from pipelines.models.source import sha256

ENGLISH_PACKAGE = "pocketsphinx-en-us"
ENGLISH_FILE = Path("usr/share/pocketsphinx/model/en-us/en-us.lm.bin")
ENGLISH_WHEEL = ("pocketsphinx", "pocketsphinx/model/en-us/en-us.lm.bin")
ENGLISH_SHA256 = "db21d0642286677699e6dbc859d2e5395570222361999387ce60f6e1d01995d6"
ENGLISH_PRUNE = 3e-7
"""Leaves about a tenth of its 3.7 million n-grams, which compose in a minute; see `amira graph build --prune`."""
Progress = Callable[[str], None]


def english(folder: Path, progress: Progress, threshold: float = ENGLISH_PRUNE) -> Path:
    """The generic English trigram of CMU Sphinx (72,547 words; BSD licence) as a pruned ARPA file.

    It comes out of the Python package `pocketsphinx` where that is installed, else out of Debian's package; both
    carry the same file, which is checked by hash. The result is kept.

    Raises:
        AmiraError: Neither is to be had here, or the file is not the known one.
    """
    target = folder / f"english-{threshold:g}.arpa"
    if target.is_file():
        return target
    with _work(target) as work:
        binary = _english_binary(work, progress)
        progress(f"english: reading {binary.name}")
        full = work / "full.arpa"
        sphinx.read(binary).write_arpa(full)
        progress(f"english: pruning its n-grams by {threshold:g}; this takes two or three minutes, once")
        ngram.prune(full, work / target.name, threshold)
    return target


def trained(sentences: Iterable[str], folder: Path, order: int, threshold: float | None, progress: Progress) -> Path:
    """A model trained on sentences, as ARPA; kept by the hash of what it was trained on.

    Args:
        sentences: Normalised: words between spaces.
        folder: Where models are kept.
        order: Words of an n-gram at most.
        threshold: Prune as `pipelines.graphs.ngram.prune`; `None` not to.
        progress: Is told what goes on.

    Raises:
        AmiraError: There is too little text.
    """
    listed = list(sentences)
    content = "\n".join([f"order {order} prune {threshold}", *listed])
    target = folder / f"trained-{hashlib.sha256(content.encode()).hexdigest()[:16]}.arpa"
    if target.is_file():
        return target
    with _work(target) as work:
        full = work / ("full.arpa" if threshold else target.name)
        progress(f"training a {order}-gram on {len(listed):,} sentences")
        ngram.train(listed, full, order=order)
        if threshold:
            progress(f"pruning its n-grams by {threshold:g}")
            ngram.prune(full, work / target.name, threshold)
    return target


@contextmanager
def _work(target: Path) -> Iterator[Path]:
    """A folder to make `target` in; it appears in its place when the block ends well."""
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(mkdtemp(prefix=".work-", dir=target.parent))
    try:
        yield work
        (work / target.name).replace(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _english_binary(work: Path, progress: Progress) -> Path:
    found = _installed() or _from_debian(work, progress)
    digest = sha256(found)
    if digest != ENGLISH_SHA256:
        raise AmiraError(
            f"the English model {found} has sha256 {digest[:16]}..., expected {ENGLISH_SHA256[:16]}...: it is damaged "
            "or of another version. Name an ARPA file of your own with --arpa"
        )
    return found


def _installed() -> Path | None:
    package, file = ENGLISH_WHEEL
    try:
        path = Path(str(distribution(package).locate_file(file)))
    except PackageNotFoundError:
        return None
    return path if path.is_file() else None


def _from_debian(work: Path, progress: Progress) -> Path:
    progress(f"english: fetching Debian's {ENGLISH_PACKAGE} (13 MB)")
    folder = work / "deb"
    folder.mkdir()
    try:
        debian.unpack(debian.download(ENGLISH_PACKAGE, folder, progress), folder)
    except debian.UnobtainableError as error:
        raise AmiraError(
            f"the English model cannot be had here: {error}. Install the Python package '{ENGLISH_WHEEL[0]}', which "
            "carries it too, name an ARPA file with --arpa, or train on text with --text"
        ) from error
    return folder / ENGLISH_FILE
