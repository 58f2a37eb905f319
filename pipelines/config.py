"""Pipeline configuration: TOML or a mapping becomes a frozen, validated object."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from pipelines import registry
from pipelines.errors import AmiraError

ENGINE_AXIS = "peer"
"""The axis of whole engines of other projects, which stand alone and bring models of their own."""


class PipelineConfig(BaseModel):
    """Which model runs, on which variants.

    Attributes:
        model: Name of a built model, e.g. `moonshine-aed`, or the path of a model folder, which has a slash in it.
        threads: Threads that inference may use.
        variants: Axis to variant id; `ort@fp32` under `acoustic` is short for `acoustic/ort@fp32`.
        options: Axis to the options of its variant.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = "moonshine-aed"
    threads: int = Field(default=1, ge=1, le=256)
    variants: dict[str, str]
    options: dict[str, dict[str, Any]] = {}

    @field_validator("variants")
    @classmethod
    def _full_ids(cls, value: dict[str, str]) -> dict[str, str]:
        full = {axis: name if name.startswith(f"{axis}/") else f"{axis}/{name}" for axis, name in value.items()}
        for variant_id in full.values():
            registry.get(variant_id)
        return full

    def with_changes(
        self, variants: dict[str, str], options: dict[str, dict[str, Any]] | None = None
    ) -> PipelineConfig:
        """A copy in which some axes have other variants (and options)."""
        return PipelineConfig(
            model=self.model,
            threads=self.threads,
            variants={**self.variants, **variants},
            options={**self.options, **(options or {})},
        )


def load_config(path: Path) -> PipelineConfig:
    """Read a pipeline configuration from TOML.

    Raises:
        AmiraError: The file cannot be read, is not TOML, or says something that does not exist.
    """
    try:
        return PipelineConfig(**tomllib.loads(path.read_text("utf-8")))
    except (OSError, ValueError) as error:
        raise AmiraError(f"pipeline configuration {path} is wrong: {error}") from error


def default_config(family: str = "aed") -> PipelineConfig:
    """The pipeline that runs models of a family where nobody asked for another: `pipelines/default.toml` and others."""
    return load_config(Path(__file__).parent / ("default.toml" if family == "aed" else f"default-{family}.toml"))
