"""From what a user calls a model to its folder."""

from __future__ import annotations

from pathlib import Path

from pipelines.models import card, model_card


def model_folder(models_dir: Path, model: str) -> Path:
    """The folder of a model: what has a slash in it is a path of the user's, anything else the name of a built one."""
    return Path(model).expanduser().absolute() if "/" in model else models_dir / model


def check_model(models_dir: Path, model: str) -> None:
    """Compare a built model with the hashes of its build; one of the user's own must have a readable card.

    Raises:
        AmiraError: The model is not there, or a file is not the one that was built.
    """
    folder = model_folder(models_dir, model)
    if "/" in model and not (folder / card.CARD).is_file():
        model_card.family(folder)
    else:
        card.check_built(folder)
