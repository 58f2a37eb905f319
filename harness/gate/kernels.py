"""Kernels by themselves, two checkouts beside each other: what is too small to be seen in a whole request.

Each repeat starts one process of either side. Both stay alive, and are asked in turn for one timing after the other, so
that whatever the machine does meanwhile hits both.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Collection
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from harness.gate.config import Kernels
from harness.gate.evidence import Effect, Evidence, Metric, Paired
from harness.side import BASELINE, CANDIDATE, Side
from pipelines.errors import AmiraError

CASE = "kernels"
TITLE = "Kernels by themselves"
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

    def ask(self, **request: str) -> dict[str, Any]:
        """One request, one answer; an answer may be an `error`.

        Raises:
            AmiraError: The process died.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
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
            self._process.stdin.close()
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


def measure(sides: dict[str, Side], wanted: Kernels, repeats: int) -> tuple[Times, dict[str, str]]:
    """Time every kernel on both sides.

    Args:
        sides: `baseline` and `candidate`.
        wanted: Which kernels.
        repeats: Pairs of processes.

    Returns:
        The times, and for each kernel that a side could not run, why.
    """
    names = [f"{operation} {how}" for operation in wanted.operations for how in wanted.implementations]
    times: Times = {side: {name: [] for name in names} for side in sides}
    lacking: dict[str, str] = {}
    for repeat in range(repeats):
        order = list(sides) if repeat % 2 == 0 else list(reversed(list(sides)))
        with ExitStack() as stack:
            running = {side: stack.enter_context(KernelProcess(sides[side])) for side in order}
            for name in names:
                operation, _, how = name.partition(" ")
                for side in order:
                    if name in lacking:
                        continue
                    answer = running[side].ask(operation=operation, implementation=how, size=wanted.size)
                    if "error" in answer:
                        lacking[name] = f"the {side} cannot run it: {answer['error']}"
                    else:
                        times[side][name].append(float(answer["ns"]))
    return times, lacking


def evidence(times: Times, lacking: dict[str, str], wanted: Kernels) -> Evidence:
    """What the times say, as a case of its own."""
    effects: dict[Metric, Effect] = {}
    for name, before in times[BASELINE].items():
        after = times[CANDIDATE][name]
        if name not in lacking and before:
            stage = wanted.operations[name.partition(" ")[0]]
            effects[Metric("kernel", f"{name} (stage {stage})")] = Paired(np.log(np.array(after) / np.array(before)))
    notes = tuple(f"kernel {name}: {why}" for name, why in lacking.items())
    if not effects:
        return Evidence(CASE, TITLE, problem="no kernel ran on both sides: " + "; ".join(notes))
    return Evidence(CASE, TITLE, effects, notes=notes)


Measure = Callable[[Collection[str] | None], dict[str, Evidence]]


def with_kernels(
    rest: Measure, sides: dict[str, Side], wanted: Kernels, repeats: int, keep: Callable[[Times], None]
) -> Measure:
    """Measures the kernels besides whatever `rest` measures.

    Args:
        rest: Measures the plan's cases.
        sides: Both checkouts.
        wanted: Which kernels; with none, nothing is added.
        repeats: Pairs of processes in a batch.
        keep: Gets the times of each batch, to be stored.
    """
    if not wanted.operations:
        return rest

    def measured(names: Collection[str] | None) -> dict[str, Evidence]:
        cases = None if names is None else [name for name in names if name != CASE]
        found = {} if cases == [] else rest(cases)
        if names is None or CASE in names:
            times, lacking = measure(sides, wanted, repeats)
            keep(times)
            found[CASE] = evidence(times, lacking, wanted)
        return found

    return measured


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
