"""A corpus in pieces: where only texts count, a case's clips are split over processes and its samples put together.

The pieces depend on the corpus alone, not on how many workers there are: what an interrupted run has finished is kept
in its folder, piece by piece, and found again when it goes on. When a case has all its pieces, they become what one
process would have left: the same samples in the same order, and one record.
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from harness.plan import Plan
from harness.recorder import write_atomically
from harness.records import ProcessRecord, Sample
from harness.scratch import Scratch

FOLDER = "shards"
SHARD_S = 600.0
"""Seconds of audio in a shard: a model is loaded once for so much."""


@dataclass(frozen=True, slots=True)
class Shard:
    """A piece of a corpus: utterances `start` to `stop` in its order, of `count` pieces the one at `index`."""

    index: int
    count: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one process left.

    Attributes:
        records: Of each case of a block; `None` where the user stopped it.
        samples: In the order in which they were measured.
        notes: What is odd about it.
        worker: Where it ran.
    """

    records: tuple[ProcessRecord | None, ...]
    samples: tuple[Sample, ...]
    notes: tuple[str, ...]
    worker: str


_STORED: TypeAdapter[Outcome] = TypeAdapter(Outcome)


def split(scratch: Scratch, seconds: float = SHARD_S) -> list[Shard]:
    """Cut a corpus into pieces of at least so many seconds of audio, the last one excepted."""
    cuts, heard = [0], 0.0
    for place, utterance in enumerate(scratch.utterances, start=1):
        heard += utterance.duration_s
        if heard >= seconds or place == len(scratch.utterances):
            cuts.append(place)
            heard = 0.0
    count = len(cuts) - 1
    return [Shard(index, count, *ends) for index, ends in enumerate(pairwise(cuts))]


def plan_of(plan: Plan, shard: Shard) -> Plan:
    """What a shard's process measures: of the warm-up calls that a case makes, the first shard makes them all."""
    return plan if shard.index == 0 else plan.model_copy(update={"warm_up": 0})


def merge(plan: Plan, scratch: Scratch, outcomes: Sequence[Outcome]) -> tuple[ProcessRecord, list[Sample]]:
    """What one process would have left of a case and repeat.

    Args:
        plan: The plan.
        scratch: The whole corpus.
        outcomes: Of the shards, in their order; of a case that failed, those that ended.

    Returns:
        A record: seconds are summed, of peaks the largest is taken, what is known at the start is the first shard's,
        what is known at the end the last one's. And the samples: warm-up, then lap by lap in the order of a process
        that measures the whole corpus.
    """
    records = [record for outcome in outcomes for record in outcome.records if record is not None]
    samples = [sample for outcome in outcomes for sample in outcome.samples]
    first, last = records[0], records[-1]
    failed = next((record for record in records if record.status == "failed"), None)
    record = replace(
        first,
        status="failed" if failed else "ok",
        error=failed.error if failed else None,
        peak_rss_bytes=max(record.peak_rss_bytes for record in records),
        threads=max(record.threads for record in records),
        cpu_s=sum(record.cpu_s for record in records),
        wall_s=sum(record.wall_s for record in records),
        end_rss_bytes=last.end_rss_bytes,
        end_anonymous_bytes=last.end_anonymous_bytes,
        live_bytes=last.live_bytes,
    )
    order = _order(plan, scratch, first.repeat)
    warm_up = [sample for sample in samples if sample.phase == "warm-up"]
    steady = [sample for sample in samples if sample.phase == "steady"]
    return record, [*warm_up, *sorted(steady, key=lambda sample: order[sample.lap, sample.utterance])]


def _order(plan: Plan, scratch: Scratch, repeat: int) -> dict[tuple[int, str], int]:
    """Where each call stands in a process that measures the whole corpus (`harness.worker.Job.order`)."""
    ids = [name for name, _ in scratch.sizes]
    rng = random.Random(plan.seed + repeat)
    rng.shuffle(ids)
    order: dict[tuple[int, str], int] = {}
    for lap in range(plan.laps):
        for name in ids:
            order[lap, name] = len(order)
        rng.shuffle(ids)
    return order


class ShardStore:
    """Finished shards of cases that are not yet whole, in the run's folder."""

    def __init__(self, run: Path, scratch: Scratch) -> None:
        """Of the run in that folder, which measures that corpus."""
        self._folder = run / FOLDER
        self._scratch = scratch

    def load(self, case: str, repeat: int, shard: Shard) -> Outcome | None:
        """What an earlier sitting found; `None` where it did not get so far. A file that was torn is no finding."""
        try:
            stored = json.loads(self._path(case, repeat, shard).read_bytes())
            return _STORED.validate_python(stored) if stored["key"] == self._key(case, repeat, shard) else None
        except (FileNotFoundError, ValueError, KeyError, ValidationError):
            return None

    def save(self, case: str, repeat: int, shard: Shard, outcome: Outcome) -> None:
        """Keep what was found.

        Raises:
            AmiraError: The disk refuses.
        """
        self._folder.mkdir(exist_ok=True)
        content = {"key": self._key(case, repeat, shard), **_STORED.dump_python(outcome, mode="json")}
        write_atomically(self._path(case, repeat, shard), json.dumps(content, ensure_ascii=False).encode())

    def forget(self, case: str, repeat: int, shards: Sequence[Shard]) -> None:
        """Remove the shards of a case that is whole now."""
        for shard in shards:
            self._path(case, repeat, shard).unlink(missing_ok=True)

    def clear(self) -> None:
        """Remove what is left: the run is complete."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _path(self, case: str, repeat: int, shard: Shard) -> Path:
        digest = hashlib.sha256(json.dumps(self._key(case, repeat, shard)).encode()).hexdigest()
        return self._folder / f"{digest[:24]}.json"

    def _key(self, case: str, repeat: int, shard: Shard) -> list[Any]:
        """What a shard's samples depend on besides what a run must have in common to be resumed at all."""
        return [case, repeat, shard.index, shard.count, shard.start, shard.stop]
