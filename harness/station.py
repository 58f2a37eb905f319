"""Measuring a block on this machine: its processes are started, followed to their ends, and reported on."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import perf_counter_ns

from harness.metrics.normalise import normalise
from harness.plan import Plan
from harness.records import Case, ProcessRecord, Sample
from harness.scenario import schedule
from harness.scratch import Scratch
from harness.side import Side
from harness.watch import Watched, watch
from harness.worker import Job
from pipelines.assemble import process_environment
from pipelines.errors import AmiraError

Pair = tuple[str, int]
"""A case id and a repeat: what one process measures."""
Block = tuple[tuple[Case, int], ...]
"""Cases of one repeat that are measured at the same time, taking turns call by call; mostly one."""


@dataclass(frozen=True, slots=True)
class Heard:
    """Who is told about the processes of a block.

    Attributes:
        started: A process begins: its case and repeat.
        sample: An utterance was measured; several processes may tell at the same time.
        note: Something odd that is no failure.
        stopped: Whether the user wants to stop.
    """

    started: Callable[[str, int], None]
    sample: Callable[[Sample], None]
    note: Callable[[str], None]
    stopped: Callable[[], bool]


@dataclass(frozen=True, slots=True)
class Station:
    """What processes of a plan need on this machine.

    Attributes:
        plan: What is measured.
        scratch: The audio that they get.
        here: This checkout.
        sides: The checkouts that cases name.
    """

    plan: Plan
    scratch: Scratch
    here: Side
    sides: Mapping[str, Side]

    def measure(self, block: Sequence[tuple[Case, int]], heard: Heard) -> list[ProcessRecord | None]:
        """Run the processes of a block to their ends; `None` for one that the user stopped."""
        if len(block) < 2:
            return [self._measure(case, repeat, heard, 0, None) for case, repeat in block]
        pipes = [os.pipe() for _ in block]
        os.write(pipes[0][1], b".")
        turns = [(pipes[place][0], pipes[(place + 1) % len(block)][1]) for place in range(len(block))]
        with ThreadPoolExecutor(len(block)) as pool:
            return list(
                pool.map(
                    self._measure,
                    (case for case, _ in block),
                    (repeat for _, repeat in block),
                    (heard for _ in block),
                    range(len(block)),
                    turns,
                )
            )

    def _measure(
        self, case: Case, repeat: int, heard: Heard, place: int, turn: tuple[int, int] | None
    ) -> ProcessRecord | None:
        """Run one process to its end; `None` if the user stopped it.

        Args:
            case: What it measures.
            repeat: In which repeat.
            heard: Who is told.
            place: Its place in its block.
            turn: Its ends of the block's ring (`harness.worker`).
        """
        plan = self.plan
        side = self.sides[case.side] if case.side else self.here
        heard.started(case.id, repeat)
        job = Job(
            pipeline=case.pipeline.model_dump(mode="json"),
            models_dir=str(side.models_dir),
            audio=str(self.scratch.audio),
            utterances=self.scratch.sizes,
            warm_up=plan.warm_up,
            laps=plan.laps,
            order_seed=plan.seed + repeat,
            memory_limit_mib=plan.memory_limit_mib,
            spawned_ns=perf_counter_ns(),
            parent=os.getpid(),
            turn=turn,
            expected=self._expected(),
            slowdown=dict(side.slowdown),
            workers=plan.scenario.workers,
            arrivals=self._arrivals(repeat),
        )
        watched = Watched(
            case=case.id,
            repeat=repeat,
            timeout_s=plan.timeout_s,
            on_sample=heard.sample,
            on_note=heard.note,
            stopped=heard.stopped,
            environment={**side.environment, **process_environment(case.pipeline, {**os.environ, **side.environment})},
            python=side.python,
            fds=turn or (),
        )
        try:
            job_file = self.scratch.job_file(job, place)
        except AmiraError:
            for fd in watched.fds:  # or the others would wait for this one's turn for ever
                os.close(fd)
            raise
        return watch(job, job_file, watched)

    def _expected(self) -> dict[str, str] | None:
        """What each utterance's reader was to read, where the plan tells pipelines so.

        Raises:
            AmiraError: An utterance has no transcript.
        """
        if self.plan.expected_text == "none":
            return None
        texts = {utterance.id: normalise(utterance.text or "") for utterance in self.scratch.utterances}
        if lacking := [name for name, text in texts.items() if not text]:
            raise AmiraError(
                f"the plan's expected_text is the reference, but '{lacking[0]}' has no transcript. Use a corpus with "
                "transcripts, or leave expected_text out"
            )
        return texts

    def _arrivals(self, repeat: int) -> list[list[list[tuple[int, int]]]] | None:
        """When the requests of each lap arrive, the same for all cases of a repeat."""
        scenario, count = self.plan.scenario, len(self.scratch.utterances)
        if scenario.kind == "single-stream":
            return None
        seeds = random.Random(f"{self.plan.seed}/{repeat}/arrivals")
        return [schedule(scenario, count, seeds.getrandbits(32)) for _ in range(self.plan.laps)]
