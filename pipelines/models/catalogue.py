"""The models that `amira models build` makes."""

from __future__ import annotations

from pathlib import Path

from pipelines.models import build, build_ctc
from pipelines.models.recipe import Progress, Recipe, make


def build_all(models_dir: Path, repo_dir: Path, progress: Progress, *, force: bool = False) -> list[Path]:
    """Make every default model that is not there and whole; returns their folders.

    A model that needs trained weights which the checkout does not have is left out, and `progress` says so.

    Args:
        models_dir: Gets a folder for each.
        repo_dir: Folder of trained weights, one sub-folder for each model.
        progress: Hears what happens.
        force: Make them anew even if they are there.

    Raises:
        AmiraError: Files of the package are missing or have the wrong hash, or weights are damaged.
    """
    recipes: list[Recipe] = [build.RECIPE]
    for name in build_ctc.MODELS:
        weights = repo_dir / name
        if (weights / build_ctc.WEIGHTS).is_file():
            recipes.append(build_ctc.recipe(weights))
        else:
            progress(f"{name}: not built, for its trained weights are not in {weights}")
    return [make(recipe, models_dir, progress, force=force) for recipe in recipes]
