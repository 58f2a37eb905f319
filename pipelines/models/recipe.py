"""Making a model folder: from a recipe to files and a card, all of it or nothing."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from pipelines.models import card

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a model is made.

    Attributes:
        name: Of the model and its folder.
        version: Counts up with every change of the recipe, so that older builds are made anew.
        precisions: Precisions that are asked for (`pipelines.models.forms.PRECISIONS`).
        sources: What it is made from: file name to sha256.
        build_into: Writes all files, the cards last, into an empty folder.
    """

    name: str
    version: int
    precisions: tuple[str, ...]
    sources: Callable[[], Mapping[str, str]]
    build_into: Callable[[Path, Progress], None]


def make(recipe: Recipe, models_dir: Path, progress: Progress, *, force: bool = False) -> Path:
    """Make a model, unless it is there and whole; returns its folder.

    The folder appears only when it is complete: a build that is cut short leaves nothing behind that is used.

    Raises:
        AmiraError: Files that it is made from are missing or have the wrong hash.
    """
    folder = models_dir / recipe.name
    if not force and is_current(recipe, folder):
        progress(f"{recipe.name}: up to date")
        return folder
    models_dir.mkdir(parents=True, exist_ok=True)
    work = Path(mkdtemp(prefix=f".{recipe.name}-", dir=models_dir))
    try:
        recipe.build_into(work, progress)
        if folder.exists():
            shutil.rmtree(folder)
        work.replace(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    progress(f"{recipe.name}: built")
    return folder


def is_current(recipe: Recipe, folder: Path) -> bool:
    """Whether the folder holds a whole build of this recipe; files are compared by size, not read."""
    made = card.read(folder)
    if made is None or made.get("recipe_version") != recipe.version or made.get("tools") != tools():
        return False
    if not set(recipe.precisions) <= set(made.get("precisions", ())):
        return False
    if made.get("sources") != dict(recipe.sources()):
        return False
    files: dict[str, dict[str, Any]] = made["files"]
    return all(
        (folder / name).is_file() and (folder / name).stat().st_size == entry["bytes"] for name, entry in files.items()
    )


def tools() -> dict[str, str]:
    """The libraries that write the files, with their versions."""
    return {name: version(name) for name in ("onnx", "onnxruntime", "numpy")}
