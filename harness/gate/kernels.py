"""Kernels by themselves, two checkouts beside each other: what is too small to be seen in a whole request.

Each repeat starts one process of either side. Both stay alive, and are asked in turn for one timing after the other, so
that whatever the machine does meanwhile hits both. Their instructions are counted besides: `harness.gate.instructions`.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from harness.gate import instructions
from harness.gate.config import Kernels
from harness.gate.evidence import Effect, Evidence, Exact, Metric, Paired
from harness.gate.instructions import Counted
from harness.side import BASELINE, CANDIDATE, Side
from pipelines.errors import AmiraError

CASE = "kernels"
TITLE = "Kernels by themselves"
COUNTS_CASE = "instructions"
COUNTS_TITLE = "Instructions of kernels"
WORKER = Path(__file__).with_name("kernel_worker.py")
END_S = 10.0

Times = dict[str, dict[str, list[float]]]
"""Side, then `operation implementation`: nanoseconds of one call, one for each repeat."""


class KernelProcess:
    """A process of one side that answers requests; ends with its `with` block."""

    def __init__(self, side: Side) -> None:
        self._process = subprocess.Popen(
            [side.python, "-P", str(WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, **side.environment},
        )

    def send(self, request: Sequence[Any]) -> None:
        """Make a request; a process that is dead says so in its answer."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        """The answer to the last request; it may be an `error`."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            return {"error": f"the process ended with code {self._process.wait(END_S)}"}
        answer: dict[str, Any] = json.loads(line)
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.stdin is not None:
            with suppress(BrokenPipeError):
                self._process.stdin.close()
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


def measure(
    sides: dict[str, Side],
    wanted: Kernels,
    repeats: int,
    say: Callable[[str], None] = lambda _: None,
    stopped: Callable[[], bool] = lambda: False,
) -> tuple[Times, dict[str, str]]:
    """Time every kernel on both sides.

    Args:
        sides: `baseline` and `candidate`.
        wanted: Which kernels.
        repeats: Pairs of processes.
        say: Hears how far it is.
        stopped: Whether the time is up; no further pair is begun then.

    Returns:
        The times, and for each kernel that a side could not run, why.
    """
    names = [f"{operation} {how}" for operation in wanted.operations for how in wanted.implementations]
    times: Times = {side: {name: [] for name in names} for side in sides}
    lacking: dict[str, str] = {}
    for repeat in range(repeats):
        if stopped():
            break
        say(f"kernels: pair {repeat + 1} of {repeats}")
        order = list(sides) if repeat % 2 == 0 else list(reversed(list(sides)))
        with ExitStack() as stack:
            running = {side: stack.enter_context(KernelProcess(sides[side])) for side in order}
            for side in order:
                running[side].send([[*name.split(" "), wanted.size] for name in names])
            for side in order:
                running[side].answer()
            for name in names:
                for side in order:
                    if name in lacking:
                        continue
                    running[side].send([*name.split(" "), wanted.size])
                    answer = running[side].answer()
                    if "error" in answer:
                        lacking[name] = f"the {side} cannot run it: {answer['error']}"
                    else:
                        times[side][name].append(float(answer["ns"]))
    return times, lacking


def evidence(
    times: Times, lacking: dict[str, str], wanted: Kernels, counted: dict[str, Counted] | None = None
) -> Evidence:
    """What the times and the counts say, as a case of its own."""
    effects: dict[Metric, Effect] = {}
    notes = [f"kernel {name}: {why}" for name, why in lacking.items()]
    for name, before in times[BASELINE].items():
        after = times[CANDIDATE][name]
        if name not in lacking and before:
            effects[Metric("kernel", _shown(name, wanted))] = Paired(np.log(np.array(after) / np.array(before)))
    if counted is not None:
        first, second = counted[BASELINE].counts, counted[CANDIDATE].counts
        for name in first.keys() & second.keys():
            logs = np.log(np.array(second[name]) / np.array(first[name]))
            effects[Metric("instructions", _shown(name, wanted))] = Exact(logs)
        for side, found in counted.items():
            notes += [
                f"instructions of {name}: none counted of the {side}: {why}" for name, why in found.lacking.items()
            ]
        if "avx512" in wanted.implementations:
            notes.append(f"instructions of avx512 kernels: {instructions.NO_AVX512}")
    if not effects and not lacking:
        return Evidence(CASE, TITLE, problem="the time was up before they were measured", late=True)
    if not effects:
        return Evidence(CASE, TITLE, problem="no kernel ran on both sides: " + "; ".join(notes))
    return Evidence(CASE, TITLE, dict(sorted(effects.items(), key=lambda item: item[0].name)), notes=tuple(notes))


def _shown(name: str, wanted: Kernels) -> str:
    return f"{name} (stage {wanted.operations[name.partition(' ')[0]]})"


Measure = Callable[[Collection[str] | None], dict[str, Evidence]]


class WithKernels:
    """Measures the kernels besides whatever `rest` measures.

    Args:
        rest: Measures the plan's cases.
        sides: Both checkouts.
        wanted: Which kernels; with none, nothing is added.
        repeats: Pairs of processes in a batch.
        keep: Gets the times of each batch and the counts, to be stored.
        say: Hears how far it is.
        stopped: Whether the time is up.
    """

    def __init__(
        self,
        rest: Measure,
        sides: dict[str, Side],
        wanted: Kernels,
        repeats: int,
        keep: Callable[[dict[str, Any]], None],
        say: Callable[[str], None],
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self._stopped = stopped
        self._rest, self._sides, self._wanted, self._repeats = rest, sides, wanted, repeats
        self._keep, self._say = keep, say
        self._counted: dict[str, Counted] | None = None

    def __call__(self, names: Collection[str] | None) -> dict[str, Evidence]:
        """Measure a batch of these cases, `None` for all."""
        cases = None if names is None else [name for name in names if name != CASE]
        found = {} if cases == [] else self._rest(cases)
        if not self._wanted.operations or (names is not None and CASE not in names):
            return found
        if self._wanted.count and (problem := instructions.unavailable()) is not None:
            found[COUNTS_CASE] = Evidence(COUNTS_CASE, COUNTS_TITLE, problem=problem, unavailable=True)
        elif self._wanted.count and self._counted is None and not self._stopped():
            self._say("kernels: counting instructions on both sides (half a minute on a quiet machine)")
            self._counted = instructions.count(self._sides, self._wanted)
            if changed := self._changed():
                self._say(f"kernels: counting again what changed: {', '.join(changed)}")
                self._counted = instructions.again(self._counted, self._sides, self._wanted, changed)
        times, lacking = measure(self._sides, self._wanted, self._repeats, self._say, self._stopped)
        counts = None if self._counted is None else {side: row.counts for side, row in self._counted.items()}
        self._keep({"ns": times, "instructions": counts})
        found[CASE] = evidence(times, lacking, self._wanted, self._counted)
        return found

    def _changed(self) -> list[str]:
        """The kernels of which the two counts differ, which a second count must confirm."""
        if self._counted is None:
            return []
        before, after = (self._counted[side].counts for side in (BASELINE, CANDIDATE))
        return [
            name
            for name in before
            if name in after and abs(np.median(after[name]) / np.median(before[name]) - 1) > instructions.SAME
        ]


def check(wanted: Kernels) -> None:
    """Refuse operations, implementations and sizes that do not exist.

    Raises:
        AmiraError: One does not.
    """
    from kernels.dispatch import IMPLEMENTATIONS, OPERATIONS
    from kernels.workloads import SIZES

    for kind, values, have in (
        ("operations", list(wanted.operations), list(OPERATIONS)),
        ("implementations", list(wanted.implementations), list(IMPLEMENTATIONS)),
        ("size", [wanted.size], list(SIZES)),
    ):
        for value in values:
            if value not in have:
                raise AmiraError(
                    f"kernels.{kind}: '{value}' does not exist; have: {', '.join(have)}. Mend ci/gate.toml."
                )
