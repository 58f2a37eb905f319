"""Plans: a TOML file that says what to measure becomes a frozen list of cases.

A plan names a corpus, a base pipeline, and one or more of `ladder`, `matrix` and `case`.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError

from harness.corpus.condition import Condition
from harness.plan_cases import CaseSpec, Pipeline, RungSpec, explicit_cases, ladder_cases, matrix_cases
from harness.records import Case, Measures, Model
from harness.scenario import Scenario
from pipelines.config import ENGINE_AXIS
from pipelines.errors import AmiraError, unknown
from pipelines.paths import home

PLAN_FILE = "plan.toml"
NAME_PATTERN = r"^[a-z0-9][a-z0-9._-]*$"


class CorpusLimit(Model):
    """How much of the corpus is measured; what is left out is chosen by the corpus, with the plan's seed."""

    max_clips: int | None = Field(default=None, ge=1)
    max_seconds: float | None = Field(default=None, gt=0)


class _Settings(Model):
    """What a plan file says about the measurement itself."""

    name: str = Field(pattern=NAME_PATTERN)
    title: str = Field(min_length=1)
    description: str = ""
    corpus: str = Field(min_length=1)
    corpus_limit: CorpusLimit = CorpusLimit()
    condition: tuple[Condition, ...] = ()
    repeats: int = Field(default=3, ge=1, le=1000)
    warm_up: int = Field(default=1, ge=0, le=1000)
    laps: int = Field(default=1, ge=1, le=10_000)
    timeout_s: float = Field(default=300, gt=0)
    memory_limit_mib: int | None = Field(default=None, ge=64)
    expected_text: Literal["none", "reference"] = "none"
    scenario: Scenario = Scenario()
    measures: Measures = "timing"
    seed: int = 0


class _PlanFile(_Settings):
    """A plan as its file has it."""

    base: Pipeline = Pipeline()
    ladder: tuple[RungSpec, ...] = ()
    matrix: dict[str, Any] = Field(default_factory=dict)
    case: tuple[CaseSpec, ...] = ()


class Plan(_Settings):
    """What to measure.

    Attributes:
        name: Short name, part of the run's id.
        title: Heading of the report.
        description: What the plan wants to find out.
        corpus: The corpus as the plan names it; `corpus_location` is where to load it from.
        corpus_limit: How much of the corpus is measured.
        condition: What is done to its audio; every clip is measured under each. Without any, as it is.
        repeats: Fresh processes for each case.
        warm_up: Utterances that each process runs before the ones that count.
        laps: How often each process goes through the corpus; more than once shows what a long run does to memory.
        timeout_s: Seconds that loading, warming up or one utterance may take before the case counts as hung.
        memory_limit_mib: Private writable memory that a process may have; `None` for no limit.
        expected_text: With `reference`, pipelines that follow an expected text are given each clip's own transcript.
        scenario: How requests reach the pipelines.
        measures: `timing`, or `accuracy` where only texts count: times are then no finding, and on a Ray cluster cases
            run beside each other.
        seed: Of the order of cases and utterances and the choice of clips.
        cases: The pipelines, in the order of the report.
        source: The file's text.
        folder: Folder of the file.
    """

    cases: tuple[Case, ...]
    source: str
    folder: Path

    @property
    def corpus_location(self) -> str:
        """The corpus to load: as the plan names it, but `./` and `../` start at the plan's own folder."""
        return str(self.folder / self.corpus) if self.corpus.startswith(("./", "../")) else self.corpus

    @property
    def models(self) -> list[str]:
        """The models that must be there: a whole engine of another project brings its own."""
        pipelines = [case.pipeline for case in self.cases]
        return sorted({pipeline.model for pipeline in pipelines if ENGINE_AXIS not in pipeline.variants})


def find_plan(name: str) -> Path:
    """The plan file that `name` means.

    Args:
        name: A TOML file, a folder with a `plan.toml`, or the name of such a folder under `experiments/`.

    Raises:
        AmiraError: There is no such plan.
    """
    experiments = home() / "experiments"
    for path in (Path(name), Path(name) / PLAN_FILE, experiments / name / PLAN_FILE):
        if path.is_file():
            return path
    if Path(name).is_dir():
        raise AmiraError(f"folder '{name}' has no {PLAN_FILE}. Name a plan file, or put one into the folder.")
    have = [path.parent.name for path in experiments.glob(f"*/{PLAN_FILE}")]
    raise unknown("plan", name, have, f"Name one of them, a TOML file, or a folder with a {PLAN_FILE}.")


def load_plan(path: str | Path) -> Plan:
    """Read a plan file.

    Raises:
        AmiraError: The file is missing or not TOML, or something in it is unknown, twice there or out of
            range.
    """
    file = Path(path)
    try:
        source = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise AmiraError(f"plan file '{file}' cannot be read: {reason}. Name a TOML file that can be.") from error
    return parse_plan(source, file)


def parse_plan(source: str, file: Path) -> Plan:
    """A plan from its text; `file` is where it came from, for messages and relative paths.

    Raises:
        AmiraError: As `load_plan`.
    """
    where = f"plan '{file}'"
    try:
        data = tomllib.loads(source)
    except tomllib.TOMLDecodeError as error:
        raise AmiraError(f"{where} is not TOML: {error}. Mend that line.") from error
    try:
        raw = _PlanFile.model_validate(data)
        cases = _cases(raw)
    except ValidationError as error:
        raise _explained(where, error) from error
    except AmiraError as error:
        raise AmiraError(f"{where}: {error}") from error
    settings = {name: getattr(raw, name) for name in _Settings.model_fields}
    return Plan(**settings, cases=cases, source=source, folder=file.absolute().parent)


def _cases(raw: _PlanFile) -> tuple[Case, ...]:
    cases = (
        *ladder_cases(raw.base, raw.ladder),
        *matrix_cases(raw.base, raw.matrix),
        *explicit_cases(raw.base, raw.case),
    )
    if not cases:
        raise AmiraError("it has no cases: there is nothing to measure. Add a [[ladder]], [matrix] or [[case]].")
    names = [condition.name for condition in raw.condition]
    if len(set(names)) < len(names):
        raise AmiraError(f"two conditions have the same name: {', '.join(names)}. Rename one.")
    if raw.expected_text != "none" and raw.scenario.kind != "single-stream":
        raise AmiraError(
            "readers of an expected text are measured one after the other. Use the single-stream scenario."
        )
    if raw.measures == "accuracy" and raw.scenario.kind != "single-stream":
        raise AmiraError(
            f"scenario '{raw.scenario.kind}' is about time, and this plan measures accuracy alone. "
            'Leave the scenario out, or set measures = "timing".'
        )
    ids = [case.id for case in cases]
    for case in cases:
        if ids.count(case.id) > 1:
            raise AmiraError(f"case id '{case.id}' is there {ids.count(case.id)} times. Rename all but one.")
        if case.compare_to == case.id:
            raise AmiraError(f"case '{case.id}' is compared with itself. Let compare_to name another.")
        if case.compare_to is not None and case.compare_to not in ids:
            remedy = f"Mend compare_to of case '{case.id}'."
            raise unknown("case", case.compare_to, [name for name in ids if name != case.id], remedy)
    return cases


def _explained(where: str, error: ValidationError) -> AmiraError:
    """The first problem of a plan file in one message, and how many more there are."""
    problems = error.errors()
    first = problems[0]
    place = ".".join(str(part) for part in first["loc"])
    more = f" ({len(problems) - 1} more after it.)" if len(problems) > 1 else ""
    if first["type"] == "extra_forbidden":
        section = tuple(part for part in first["loc"][:-1] if isinstance(part, str))
        key = str(first["loc"][-1])
        message = unknown("key", key, _keys(section), f"It stands at '{place}'; rename or remove it.")
        return AmiraError(f"{where}: {message}{more}")
    value = "" if first["type"] == "missing" else f" = {first['input']!r}"
    return AmiraError(f"{where}: {place}{value}: {first['msg']}. Mend that value.{more}")


def _keys(section: tuple[str, ...]) -> list[str]:
    """The keys that a section of a plan file may have."""
    sections: dict[tuple[str, ...], type[BaseModel]] = {
        (): _PlanFile,
        ("corpus_limit",): CorpusLimit,
        ("condition",): Condition,
        ("scenario",): Scenario,
        ("base",): Pipeline,
        ("ladder",): RungSpec,
        ("case",): CaseSpec,
    }
    return list(sections[section].model_fields)
