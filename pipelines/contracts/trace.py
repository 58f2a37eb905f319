"""What a request leaves behind: its text, and the spans of how it got there.

Time is `perf_counter_ns` integers with the unit in the name.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from time import perf_counter_ns

from pipelines.contracts.data import Hypotheses

STAGES = ("ingest", "features", "queue", "connection", "draft", "acoustic", "decode", "post")
"""The stages of a request, in order. `engine` stands for a peer's whole engine, which cannot be looked into."""
ENGINE_STAGE = "engine"


@dataclass(frozen=True, slots=True)
class Span:
    """A stage of a request: `perf_counter_ns` at its start, and how long it took."""

    stage: str
    start_ns: int
    duration_ns: int


@dataclass(frozen=True, slots=True)
class Transcript:
    """What a pipeline says about one clip, and the spans of how it got there."""

    hypotheses: Hypotheses
    spans: tuple[Span, ...]
    steps: int = 0
    """Sequential decoder passes that it took (0 where there are none)."""

    @property
    def text(self) -> str:
        """The best reading."""
        return self.hypotheses[0].text


@dataclass(slots=True)
class Trace:
    """Collects the spans of one request."""

    spans: list[Span] = field(default_factory=list)

    def span(self, stage: str) -> _OpenSpan:
        """`with trace.span("decode"):` times the block as that stage."""
        return _OpenSpan(self, stage)

    def __iter__(self) -> Iterator[Span]:
        return iter(self.spans)


class _OpenSpan:
    __slots__ = ("_stage", "_start_ns", "_trace")

    def __init__(self, trace: Trace, stage: str) -> None:
        self._trace = trace
        self._stage = stage

    def __enter__(self) -> None:
        self._start_ns = perf_counter_ns()

    def __exit__(self, *exc: object) -> None:
        self._trace.spans.append(Span(self._stage, self._start_ns, perf_counter_ns() - self._start_ns))
