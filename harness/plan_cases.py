"""The `ladder`, `matrix` and `case` sections of a plan: each case is a base pipeline with changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, Literal

from pydantic import Field, ValidationError

from harness.records import Case, Model
from pipelines import registry
from pipelines.config import PipelineConfig
from pipelines.errors import AmiraError, unknown

ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._@+-]*$"
EXCLUDE = "exclude"
HALF = "half"


class Pipeline(Model):
    """The base pipeline of a plan; its variants are checked in each case that has them."""

    model: str = "moonshine-aed"
    threads: int = Field(default=1, ge=1, le=256)
    variants: dict[str, str] = Field(default_factory=dict)
    options: dict[str, dict[str, Any]] = Field(default_factory=dict)


class _Change(Model):
    """A case's difference from the pipeline that it starts from."""

    id: str = Field(pattern=ID_PATTERN)
    title: str = Field(min_length=1)
    model: str | None = None
    threads: int | None = Field(default=None, ge=1, le=256)
    variants: dict[str, str] = Field(default_factory=dict)
    options: dict[str, dict[str, Any]] = Field(default_factory=dict)


class RungSpec(_Change):
    """A rung of the ladder: a change to the rung below."""


class CaseSpec(_Change):
    """An explicit case: a change to the plan's base, or with `base = "none"` a pipeline of its own."""

    base: Literal["plan", "none"] = "plan"
    compare_to: str | None = None


def ladder_cases(base: Pipeline, rungs: Sequence[RungSpec]) -> list[Case]:
    """Each rung adds its change to the rung below and is compared with it."""
    cases: list[Case] = []
    pipeline = base
    for rung in rungs:
        pipeline = _changed(pipeline, rung)
        config = _config(rung.id, pipeline)
        below = cases[-1].id if cases else None
        cases.append(Case(id=rung.id, title=rung.title, pipeline=config, compare_to=below, rung=True))
    return cases


def explicit_cases(base: Pipeline, specs: Sequence[CaseSpec]) -> list[Case]:
    """Cases that are written out one by one."""
    cases = []
    for spec in specs:
        # A pipeline of its own still runs the plan's model on the plan's threads unless it says otherwise.
        start = base if spec.base == "plan" else Pipeline(model=base.model, threads=base.threads)
        config = _config(spec.id, _changed(start, spec))
        cases.append(Case(id=spec.id, title=spec.title, pipeline=config, compare_to=spec.compare_to))
    return cases


def matrix_cases(base: Pipeline, matrix: Mapping[str, Any]) -> list[Case]:
    """The full product of some axes' variants, compared with its first combination.

    Args:
        base: What the combinations change.
        matrix: Axis to list of variant names, and under `exclude` a list of tables, axis to variant name: a
            combination that matches one of them in all its axes is left out. With `half = true`, only every other
            combination of axes with two variants each is kept, those that change an even number of axes: half the
            work, and pairs of changes that a ledger can tell apart from five axes on.

    Raises:
        AmiraError: An axis or variant does not exist, a list is empty, or an exclusion matches nothing.
    """
    axes = {axis: _names(axis, value) for axis, value in matrix.items() if axis not in (EXCLUDE, HALF)}
    if not axes:
        if EXCLUDE in matrix:
            raise AmiraError("the matrix has exclusions but no axes. Add one, e.g. kernel = ['numpy'].")
        return []
    combinations = [dict(zip(axes, names, strict=True)) for names in product(*axes.values())]
    if _halved(matrix.get(HALF, False), axes):
        combinations = [chosen for chosen in combinations if _changes(chosen, axes) % 2 == 0]
    kept = _without_excluded(combinations, _exclusions(matrix.get(EXCLUDE, []), axes))
    cases: list[Case] = []
    for combination in kept:
        change = _Change(
            id="+".join(combination.values()),
            title=", ".join(f"{axis} {name}" for axis, name in combination.items()),
            variants=combination,
        )
        config = _config(change.id, _changed(base, change))
        first = cases[0].id if cases else None
        cases.append(Case(id=change.id, title=change.title, pipeline=config, compare_to=first))
    return cases


def _halved(value: object, axes: Mapping[str, list[str]]) -> bool:
    if not isinstance(value, bool):
        raise AmiraError(f"matrix.half is {value!r}. Set it to true or false.")
    wrong = [axis for axis, names in axes.items() if len(names) != 2]
    if value and (wrong or len(axes) < 3):
        raise AmiraError(
            "matrix.half needs at least three axes with two variants each; "
            f"this matrix has {len(axes)} axes, without two variants: {', '.join(wrong) or 'none'}."
        )
    return value


def _changes(combination: Mapping[str, str], axes: Mapping[str, list[str]]) -> int:
    """How many axes have not their first variant."""
    return sum(combination[axis] != names[0] for axis, names in axes.items())


def _names(axis: str, value: object) -> list[str]:
    """The variant names of one axis of a matrix, without the axis in front."""
    if axis not in registry.axes():
        raise unknown("axis", axis, [*registry.axes(), EXCLUDE, HALF], "List all variants with: amira variants")
    if not isinstance(value, list) or not value or not all(isinstance(name, str) for name in value):
        raise AmiraError(f"matrix axis '{axis}' is {value!r}. Give it a list of variants, e.g. ['numpy'].")
    return [_short(axis, name) for name in value]


def _short(axis: str, name: str) -> str:
    return name.removeprefix(f"{axis}/")


def _exclusions(value: object, axes: Mapping[str, list[str]]) -> list[dict[str, str]]:
    if not isinstance(value, list) or not all(isinstance(entry, dict) and entry for entry in value):
        raise AmiraError(f"matrix.exclude is {value!r}. Give it a list of tables: [{{ axis = 'variant' }}].")
    exclusions = []
    for entry in value:
        for axis, name in entry.items():
            if axis not in axes:
                raise unknown("axis", axis, axes, "matrix.exclude may only name axes of the matrix.")
            if _short(axis, str(name)) not in axes[axis]:
                raise unknown("variant", str(name), axes[axis], f"matrix.exclude names it on axis '{axis}'.")
        exclusions.append({axis: _short(axis, str(name)) for axis, name in entry.items()})
    return exclusions


def _without_excluded(
    combinations: Sequence[dict[str, str]], exclusions: Sequence[dict[str, str]]
) -> list[dict[str, str]]:
    kept = [
        combination for combination in combinations if not any(e.items() <= combination.items() for e in exclusions)
    ]
    if not kept:
        raise AmiraError("matrix.exclude leaves no combination of the matrix. Exclude less.")
    return kept


def _changed(pipeline: Pipeline, change: _Change) -> Pipeline:
    """`pipeline` with a change. When an axis gets another variant, the options of the old one go with it."""
    replaced = {
        axis
        for axis, name in change.variants.items()
        if _short(axis, pipeline.variants.get(axis, "")) != _short(axis, name)
    }
    options = {axis: values for axis, values in pipeline.options.items() if axis not in replaced}
    return Pipeline(
        model=pipeline.model if change.model is None else change.model,
        threads=pipeline.threads if change.threads is None else change.threads,
        variants={**pipeline.variants, **change.variants},
        options={**options, **change.options},
    )


def _config(case_id: str, pipeline: Pipeline) -> PipelineConfig:
    """The checked pipeline of a case: every variant exists and takes its options."""
    if not pipeline.variants:
        raise AmiraError(f"case '{case_id}' has no variants. Name some in [base.variants] or in the case.")
    try:
        config = PipelineConfig(**pipeline.model_dump())
        for axis, options in config.options.items():
            _check_options(config, axis, options)
    except AmiraError as error:
        raise AmiraError(f"case '{case_id}': {error}") from error
    return config


def _check_options(config: PipelineConfig, axis: str, options: Mapping[str, Any]) -> None:
    if axis not in config.variants:
        raise unknown("axis", axis, config.variants, "Options need a variant on their axis.")
    variant = registry.get(config.variants[axis])
    try:
        variant.options(**options)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            remedy = f"It is an option of variant '{variant.id}'; mend or remove it."
            raise unknown("option", name, variant.options.model_fields, remedy) from error
        value = f"{first['input']!r}: {first['msg']}"
        raise AmiraError(f"option '{name}' of variant '{variant.id}' is {value}. Mend that value.") from error
