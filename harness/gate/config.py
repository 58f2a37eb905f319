"""What the gate is asked to guard: `ci/gate.toml` becomes a frozen object."""

from __future__ import annotations

import tomllib
from pathlib import Path

from pydantic import Field, ValidationError

from harness.records import Model
from pipelines.errors import AmiraError, unknown

DEFAULT = "ci/gate.toml"


class Repeats(Model):
    """How long the gate measures.

    Attributes:
        batch: Pairs of fresh processes of each case at once; so many again confirm a regression.
        most: Pairs after which a case that is still unclear stays so.
        budget_s: Seconds that measuring may take. No batch is begun that would end later, and one that does is cut off.
    """

    batch: int = Field(default=6, ge=2, le=1000)
    most: int = Field(default=60, ge=2, le=10_000)
    budget_s: float = Field(default=480, gt=0)


class Margins(Model):
    """How much worse counts, as a fraction of the baseline; what lies within is no regression.

    Attributes:
        latency: Of a request.
        throughput: Seconds of audio that are recognised in a second.
        cpu: CPU time of a request.
        stage: Of one stage of a request.
        peak_memory: Peak resident memory of a process.
        kernel: Of one call of a kernel.
        instructions: That one call of a kernel executes; they are counted, so that noise wants no room here.
    """

    latency: float = Field(default=0.03, gt=0, lt=1)
    throughput: float = Field(default=0.03, gt=0, lt=1)
    cpu: float = Field(default=0.03, gt=0, lt=1)
    stage: float = Field(default=0.03, gt=0, lt=1)
    peak_memory: float = Field(default=0.05, gt=0, lt=1)
    kernel: float = Field(default=0.05, gt=0, lt=1)
    instructions: float = Field(default=0.01, gt=0, lt=1)


class Accuracy(Model):
    """How many points of word error rate (absolute, 0.5 is half a per cent of the words) may be lost."""

    points: float = Field(default=0.5, gt=0, le=100)


class Stages(Model):
    """Which stages are judged: those with at least this share of the baseline's requests."""

    least_share: float = Field(default=0.02, ge=0, le=1)


class Stored(Model):
    """Against a stored baseline: how far two sittings of one machine may lie apart, added to every margin of time."""

    drift: float = Field(default=0.10, ge=0, lt=1)


class Kernels(Model):
    """Which kernels are timed, and their instructions counted, by themselves against another commit; none by default.

    Attributes:
        operations: Operation to the stage of a pipeline that it serves.
        implementations: Which of their implementations, of those that run here.
        size: Working set, as `kernels.workloads` names it.
        count: Whether instructions are counted.
    """

    operations: dict[str, str] = Field(default_factory=dict)
    implementations: tuple[str, ...] = ("scalar", "avx2", "avx512")
    size: str = "L2"
    count: bool = True


class GateConfig(Model):
    """The whole file.

    Attributes:
        plan: The plan that is measured where the command line names none.
        against: The commit that is the baseline where the command line names none.
        repeats: How long.
        margin: How much slower or larger counts.
        accuracy: How much less accurate counts.
        stages: Which stages are judged.
        stored: What is different against a stored baseline.
        kernels: What is timed besides the plan.
    """

    plan: str = "gate"
    against: str = "main"
    repeats: Repeats = Repeats()
    margin: Margins = Margins()
    accuracy: Accuracy = Accuracy()
    stages: Stages = Stages()
    stored: Stored = Stored()
    kernels: Kernels = Kernels()


def load_gate(path: Path) -> GateConfig:
    """Read a gate's configuration.

    Raises:
        AmiraError: The file cannot be read, is not TOML, or has an unknown key or a value out of range.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise AmiraError(f"gate configuration '{path}' cannot be read: {reason}. Name one with --config.") from error
    except tomllib.TOMLDecodeError as error:
        raise AmiraError(f"gate configuration '{path}' is not TOML: {error}. Mend that line.") from error
    try:
        return GateConfig.model_validate(data)
    except ValidationError as error:
        raise _explained(path, error) from error


def _explained(path: Path, error: ValidationError) -> AmiraError:
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    where = f"gate configuration '{path}'"
    if first["type"] == "extra_forbidden":
        known = list(GateConfig.model_fields)
        if len(first["loc"]) > 1:
            known = list(type(getattr(GateConfig(), str(first["loc"][0]))).model_fields)
        message = unknown("key", str(first["loc"][-1]), known, f"It stands at '{place}'; rename or remove it.")
        return AmiraError(f"{where}: {message}")
    return AmiraError(f"{where}: {place} = {first['input']!r}: {first['msg']}. Mend that value.")
