"""The models that `amira models build` makes."""

from __future__ import annotations

from pathlib import Path

from pipelines.errors import AmiraError, unknown
from pipelines.models import build, build_ctc, calibration
from pipelines.models.forms import DEFAULT, Forms, ctc_forms, encoder_forms
from pipelines.models.recipe import Progress, Recipe, make


def build_all(
    models_dir: Path, repo_dir: Path, progress: Progress, *, force: bool = False, precisions: tuple[str, ...] = DEFAULT
) -> list[Path]:
    """Make every default model that is not there and whole; returns their folders.

    A model that needs trained weights which the checkout does not have is left out, and `progress` says so.

    Args:
        models_dir: Gets a folder for each.
        repo_dir: Folder of trained weights, one sub-folder for each model.
        progress: Hears what happens.
        force: Make them anew even if they are there.
        precisions: Which of the ladder (`pipelines.models.forms.PRECISIONS`).

    Raises:
        AmiraError: Files of the package are missing or have the wrong hash, or weights are damaged.
    """
    recipes: list[Recipe] = [build.recipe(repo_dir, precisions)]
    for name in build_ctc.MODELS:
        weights = repo_dir / name
        if (weights / build_ctc.WEIGHTS).is_file():
            recipes.append(build_ctc.recipe(weights, precisions))
        else:
            progress(f"{name}: not built, for its trained weights are not in {weights}")
    return [make(recipe, models_dir, progress, force=force) for recipe in recipes]


def forms_of(name: str, repo_dir: Path) -> tuple[Forms, Path]:
    """How one of the models is written, and where its calibration is kept.

    Raises:
        AmiraError: There is no such model, or its weights are not here.
    """
    if name == build.NAME:
        return encoder_forms(), repo_dir / name / calibration.FILE
    if name not in build_ctc.MODELS:
        raise unknown(
            "model", name, (build.NAME, *build_ctc.MODELS), "Calibration is for the models that are built here"
        )
    weights = repo_dir / name
    if not (weights / build_ctc.WEIGHTS).is_file():
        raise AmiraError(f"model '{name}' has no weights in {weights}. Train it, or name another: {build.NAME}")
    return ctc_forms(weights), weights / calibration.FILE
