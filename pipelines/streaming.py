"""A streaming recogniser as a configuration: which variant finds speech, makes partials, settles finals."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, field_validator

from pipelines import registry
from pipelines.assemble import ON_DEMAND, ORDER, Pipeline, open_pipeline
from pipelines.audio.vad_stream import SpeechDetector
from pipelines.config import PipelineConfig, default_config
from pipelines.contracts import Connections
from pipelines.errors import AmiraError
from pipelines.first_pass import Partials
from pipelines.registry import Context, Unavailable
from pipelines.second_pass import SecondPass
from pipelines.wishes import Wishes


class StreamingConfig(BaseModel):
    """What the server runs.

    Attributes:
        vad: The variant that finds speech.
        partials: The variant that makes partials.
        finals: The variant that settles segments.
        options: Axis (`vad`, `partials`, `finals`) to the options of its variant.
        first: The pipeline of the partials: a streaming model and its decoder, or, for partials over the growing
            segment, any whole-utterance pipeline (that of the finals if not given).
        second: The pipeline of the finals.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    vad: str = "vad/silero"
    partials: str = "partials/growing"
    finals: str = "finals/speculative"
    options: dict[str, dict[str, Any]] = {}
    first: PipelineConfig | None = None
    second: PipelineConfig | None = None

    @field_validator("vad", "partials", "finals")
    @classmethod
    def _full_id(cls, value: str, info: Any) -> str:
        full = value if value.startswith(f"{info.field_name}/") else f"{info.field_name}/{value}"
        registry.get(full)
        return full

    @property
    def settled_by(self) -> PipelineConfig:
        """The pipeline of the finals."""
        return self.second or default_config()

    @property
    def name(self) -> str:
        """What recognises, in a few words for clients and metrics."""
        models = [config.model for config in (self.first, self.second) if config is not None]
        return "+".join(dict.fromkeys(models)) or self.finals.partition("/")[2]


NULL = StreamingConfig(vad="none", partials="null", finals="null")
"""Recognises nothing: what is left is the cost of the server itself."""


@dataclass(frozen=True, slots=True)
class StreamingRecognizer:
    """The opened parts.

    Attributes:
        detector: Finds speech.
        partials: Makes partials.
        finals: Settles segments.
        connections: To services, of those pipelines that have some.
    """

    detector: SpeechDetector
    partials: Partials
    finals: SecondPass
    connections: tuple[Connections, ...] = ()

    def personal(self, wishes: Wishes) -> StreamingRecognizer:
        """The same for one session; may take a second, for graphs are built.

        Raises:
            AmiraError: It cannot do what the session wishes.
        """
        return replace(self, partials=self.partials.personal(wishes), finals=self.finals.personal(wishes))


@dataclass(frozen=True, slots=True)
class Opener:
    """Opens a pipeline as the variant needs it."""

    config: PipelineConfig | None
    models_dir: Path
    connections: list[Connections] = field(default_factory=list)
    """Those of the pipelines that it has opened."""

    @contextmanager
    def pipeline(self) -> Iterator[Pipeline]:
        """As a whole-utterance pipeline."""
        parts: dict[str, Any] = {}
        with open_pipeline(self._given(), self.models_dir, parts) as pipeline, self._noted(parts):
            yield pipeline

    @contextmanager
    def parts(self) -> Iterator[dict[str, Any]]:
        """As opened parts by axis."""
        config = self._given()
        parts: dict[str, Any] = {}
        context = Context(self.models_dir, config.model, config.threads, parts)
        with ExitStack() as stack:
            wanted = {*ORDER, *(axis for name in config.variants.values() for axis in registry.get(name).needs)}
            if missing := wanted - set(config.variants):
                raise AmiraError(
                    f"the pipeline has no variant for: {', '.join(sorted(missing))}. List them: amira variants"
                )
            for axis in (*(axis for axis in ON_DEMAND if axis in wanted), *ORDER):
                variant = registry.get(config.variants[axis])
                parts[axis] = stack.enter_context(variant.open(context, **config.options.get(axis, {})))
            with self._noted(parts):
                yield parts

    @contextmanager
    def _noted(self, parts: dict[str, Any]) -> Iterator[None]:
        opened = [parts[axis] for axis in ON_DEMAND if axis in parts]
        self.connections.extend(opened)
        try:
            yield
        finally:
            for connection in opened:
                self.connections.remove(connection)

    def _given(self) -> PipelineConfig:
        if self.config is None:
            raise AmiraError("these partials need a pipeline of their own: give [recognizer.first] with its variants")
        return self.config


def unavailable(config: StreamingConfig) -> tuple[str, Unavailable] | None:
    """The first variant that cannot run here, with the reason and the remedy."""
    for variant_id in (config.vad, config.partials, config.finals):
        problem = registry.get(variant_id).available()
        if problem is not None:
            return variant_id, problem
    return None


@contextmanager
def open_streaming(config: StreamingConfig, models_dir: Path) -> Iterator[StreamingRecognizer]:
    """Open every part and warm it up; close them all when the block ends.

    Raises:
        AmiraError: A part cannot run here, or parts do not fit each other.
    """
    first, second = Opener(config.first, models_dir), Opener(config.settled_by, models_dir)
    parts: dict[str, Any] = {"first": first, "second": second.pipeline, "second_parts": second.parts}
    context = Context(models_dir, config.settled_by.model, config.settled_by.threads, parts)
    with ExitStack() as stack:

        def opened(axis: str, variant_id: str) -> Any:
            return stack.enter_context(registry.get(variant_id).open(context, **config.options.get(axis, {})))

        finals: SecondPass = opened("finals", config.finals)
        partials: Partials = opened("partials", config.partials)
        connections = (*first.connections, *second.connections)
        yield StreamingRecognizer(opened("vad", config.vad), partials, finals, connections)
