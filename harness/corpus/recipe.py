"""Reads the recipe of the starter corpus, `starter.toml`."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipelines.errors import AmiraError

RECIPE = Path(__file__).with_name("starter.toml")


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Source(_Strict):
    """A package that recordings come from.

    Attributes:
        id: What the files refer to it by.
        kind: `installed` lies in this environment, `wheel` and `deb` are fetched.
        package: Its name in its index.
        version: The pinned version.
        root: Folder of the recordings inside it.
        licence: Of the recordings.
        sha256: Of a `deb`; a wheel's is in `requirements/starter.txt`.
    """

    id: str
    kind: Literal["installed", "wheel", "deb"]
    package: str
    version: str
    root: str
    licence: str
    sha256: str | None = None


class Cut(_Strict):
    """One clip of a recording; without times it is the whole."""

    id: str
    text: str
    start_s: float = Field(default=0.0, ge=0)
    end_s: float | None = None
    checked: str | None = None


class Recording(_Strict):
    """One file of a source, who speaks in it, and how its transcripts were checked."""

    source: str
    path: str
    sha256: str
    speaker: str
    provenance: str
    checked: str
    clips: tuple[Cut, ...]


class Recipe(_Strict):
    """Everything that the starter corpus is made of."""

    schema_version: Literal[1]
    sources: tuple[Source, ...]
    files: tuple[Recording, ...]

    def of(self, source: Source) -> tuple[Recording, ...]:
        """The recordings of one source."""
        return tuple(file for file in self.files if file.source == source.id)


def load_recipe(path: Path = RECIPE) -> Recipe:
    """Read a recipe.

    Raises:
        AmiraError: It is not TOML, or a key is missing, unknown or wrong.
    """
    try:
        return Recipe.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, ValidationError) as error:
        raise AmiraError(f"recipe {path} is wrong: {error}. Restore it from the repository.") from error
