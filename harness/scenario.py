"""In which way requests reach a pipeline: MLPerf's four scenarios.

- `single-stream`: one request after the other, each as soon as the last is answered. What one user waits.
- `multi-stream`: so many requests at once, the next ones when all of them are answered. What a device with several
  sensors waits.
- `server`: requests arrive by a Poisson process, whether those before are answered or not. What users of a busy service
  wait: latency counts from the scheduled arrival, so that a queue shows.
- `offline`: all requests are there at once. What a night's work takes: the throughput is the number to look at.

The rules are those of MLPerf Inference (Reddi et al., "MLPerf Inference Benchmark", ISCA 2020), on whole utterances.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Kind = Literal["single-stream", "multi-stream", "server", "offline"]
NS_PER_S = 1e9


class Scenario(BaseModel):
    """How requests arrive.

    Attributes:
        kind: Which of the four.
        streams: Requests at once, of `multi-stream` alone.
        arrivals_per_s: Mean rate of the Poisson process, of `server` alone.
        workers: Pipelines in the process, each with a thread of its own, that take requests from one queue.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind = "single-stream"
    streams: int | None = Field(default=None, ge=1, le=1000)
    arrivals_per_s: float | None = Field(default=None, gt=0, le=100_000)
    workers: int = Field(default=1, ge=1, le=256)

    @model_validator(mode="after")
    def _complete(self) -> Self:
        for name, kind in (("streams", "multi-stream"), ("arrivals_per_s", "server")):
            given = getattr(self, name) is not None
            if given and self.kind != kind:
                raise ValueError(f"'{name}' belongs to scenario '{kind}', this one is '{self.kind}'")
            if not given and self.kind == kind:
                raise ValueError(f"scenario '{kind}' needs '{name}'")
        if self.kind == "single-stream" and self.workers > 1:
            raise ValueError("a single stream has one request at a time, so it needs one worker")
        return self

    def described(self) -> str:
        """In words, for a report."""
        words = {
            "single-stream": "single stream: one request after the other",
            "multi-stream": f"multi stream: {self.streams} requests at once, the next when all are answered",
            "server": f"server: Poisson arrivals, {self.arrivals_per_s:g} a second on average"
            if self.arrivals_per_s
            else "",
            "offline": "offline: all requests at once",
        }
        return words[self.kind] + (f"; {self.workers} pipelines share the work" if self.workers > 1 else "")


def schedule(scenario: Scenario, count: int, seed: int) -> list[list[tuple[int, int]]]:
    """When the requests of a lap arrive.

    Args:
        scenario: How they do.
        count: How many.
        seed: Of the Poisson process.

    Returns:
        Groups of (place, nanoseconds after the group's start). A group starts when the one before is answered.
    """
    places = range(count)
    if scenario.kind == "offline":
        return [[(place, 0) for place in places]]
    if scenario.kind == "server":
        rng, now, arrivals = random.Random(seed), 0.0, []
        for place in places:
            now += rng.expovariate(scenario.arrivals_per_s or 1.0)
            arrivals.append((place, int(now * NS_PER_S)))
        return [arrivals]
    size = scenario.streams or 1
    return [[(place, 0) for place in group] for group in _groups(places, size)]


def _groups(places: Sequence[int], size: int) -> list[Sequence[int]]:
    return [places[start : start + size] for start in range(0, len(places), size)]
