"""The variant registry: one way to do one job on one axis, found through entry points.

A variant's id is `axis/name` or `axis/name@precision`. Built-ins and third parties register the same way:
an entry point of group `amira.variants` whose name is the id and whose value is `module:Class`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from pipelines.contracts import Buffers, Kernels
from pipelines.errors import AmiraError, unknown
from pipelines.models.locate import model_folder

GROUP = "amira.variants"


@dataclass(frozen=True, slots=True)
class Unavailable:
    """Why a variant cannot run here, and what would make it run."""

    reason: str
    remedy: str


class NoOptions(BaseModel):
    """The options of a variant that has none."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True, slots=True)
class Context:
    """What a variant gets to build itself from.

    Attributes:
        models_dir: Folder of built models.
        model: Name of the model in it, e.g. `moonshine-aed`, or the path of a folder of the user's own.
        threads: Threads that inference may use.
        parts: The already opened resources of other axes, by axis.
    """

    models_dir: Path
    model: str
    threads: int
    parts: dict[str, Any]

    @property
    def folder(self) -> Path:
        """The model's folder."""
        return model_folder(self.models_dir, self.model)

    @property
    def buffers(self) -> Buffers:
        """The `memory` axis of this pipeline."""
        return self.parts["memory"]  # type: ignore[no-any-return]

    @property
    def kernels(self) -> Kernels:
        """The `kernel` axis of this pipeline."""
        return self.parts["kernel"]  # type: ignore[no-any-return]


class Variant(ABC):
    """Base class of all variants. Subclasses do their heavy imports inside `_open_impl`, never at import time."""

    id: ClassVar[str]
    summary: ClassVar[str]
    """One line: what it does and how it differs from its siblings."""
    options: ClassVar[type[BaseModel]] = NoOptions
    families: ClassVar[tuple[str, ...]] = ()
    """For acoustic and decoder variants: the families of models that it runs or decodes, of `aed` and `ctc`."""

    needs: ClassVar[tuple[str, ...]] = ()
    """Axes that a pipeline must have because of it, beyond those that every pipeline has."""

    @classmethod
    def available(cls) -> Unavailable | None:
        """`None` where the variant can run on this machine, else the reason and the remedy. Cheap."""
        return None

    @classmethod
    def process_environment(cls, environment: Mapping[str, str]) -> dict[str, str]:
        """What must be set before a process starts in which this variant is opened, e.g. a library to preload.

        Args:
            environment: What the process would have otherwise.

        Returns:
            The variables to set or change; none as a rule. Opening such a variant must check that they were set.
        """
        return {}

    @classmethod
    def open(cls, context: Context, **options: Any) -> AbstractContextManager[Any]:
        """Check availability and options once, then open the variant's resource.

        Raises:
            AmiraError: The variant cannot run here, or an option is unknown or out of range.
        """
        problem = cls.available()
        if problem is not None:
            raise AmiraError(f"variant '{cls.id}' cannot run here: {problem.reason}. {problem.remedy}")
        try:
            parsed = cls.options(**options)
        except ValueError as error:
            raise AmiraError(f"options of variant '{cls.id}' are wrong: {error}") from error
        return cls._open_impl(context, parsed)

    @classmethod
    @abstractmethod
    def _open_impl(cls, context: Context, options: Any) -> AbstractContextManager[Any]:
        """Open the resource; inputs are already checked."""


@cache
def _entry_points() -> dict[str, EntryPoint]:
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=GROUP):
        if point.name in found and found[point.name].value != point.value:
            raise AmiraError(
                f"variant '{point.name}' is registered twice: {found[point.name].value} and {point.value}. "
                "Uninstall one of the packages or rename its entry point."
            )
        found[point.name] = point
    return found


def forget() -> None:
    """Look for entry points anew: a package has come to `sys.path`."""
    _entry_points.cache_clear()


def ids(axis: str | None = None) -> list[str]:
    """The ids of all registered variants, or those of one axis, sorted."""
    return sorted(name for name in _entry_points() if axis is None or name.startswith(f"{axis}/"))


def axes() -> list[str]:
    """The names of all axes, sorted."""
    return sorted({name.partition("/")[0] for name in _entry_points()})


def get(variant_id: str) -> type[Variant]:
    """The class registered under `variant_id`.

    Raises:
        AmiraError: No such variant, or its module does not hold what its entry point names.
    """
    axis = variant_id.partition("/")[0]
    if axis not in axes():
        raise unknown("axis", axis, axes(), "List all variants with: amira variants")
    if variant_id not in _entry_points():
        raise unknown("variant", variant_id, ids(axis), "List them with: amira variants")
    point = _entry_points()[variant_id]
    try:
        variant = point.load()
    except (ImportError, AttributeError) as error:
        raise AmiraError(
            f"variant '{variant_id}' is registered as {point.value}, which does not load: {error}. "
            "Reinstall the package that registers it (ours: make setup)"
        ) from error
    if not (isinstance(variant, type) and issubclass(variant, Variant) and variant.id == variant_id):
        raise AmiraError(
            f"entry point '{variant_id}' does not name a Variant class with that id. "
            "Mend the package that registers it."
        )
    return variant
