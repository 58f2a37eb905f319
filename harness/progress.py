"""Progress of a run on stderr: a live display in a terminal, lines everywhere else."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self, TextIO

from harness.records import ProcessRecord, Sample

if TYPE_CHECKING:
    from rich.console import Console

REFRESH_PER_S = 2
"""Slow: whatever this process does is noise for the one that is measured."""


class Reporter(Protocol):
    """Hears what a run does. The runner opens it in a `with` block."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def started(self, run: str, processes: Sequence[tuple[str, int]], calls: int) -> None:
        """A run begins: its name, the (case, repeat) of each process to come, and the calls that each makes."""
        ...

    def process_started(self, case: str, repeat: int) -> None:
        """A process begins."""
        ...

    def sample(self, sample: Sample) -> None:
        """An utterance was measured."""
        ...

    def process_done(self, record: ProcessRecord) -> None:
        """A process ended, well or not."""
        ...

    def dropped(self, case: str, repeat: int) -> None:
        """A process that was to come will not."""
        ...

    def message(self, text: str) -> None:
        """Something that the user should read."""
        ...


def reporter(stream: TextIO | None = None) -> Reporter:
    """The reporter for a stream, stderr unless told otherwise."""
    stream = sys.stderr if stream is None else stream
    if not stream.isatty():
        return PlainReporter(stream)
    from rich.console import Console

    return RichReporter(Console(file=stream))


class Estimate:
    """How long the rest of a run takes: what a case took before, and the mean of the others for a new one."""

    def __init__(self, processes: Sequence[tuple[str, int]]) -> None:
        """Start with the processes to come, as (case, repeat)."""
        self._left = list(processes)
        self._taken_s: dict[str, list[float]] = {}

    def done(self, case: str, repeat: int, took_s: float | None) -> None:
        """Note that a process is over; `took_s` is `None` for one that never ran."""
        self._left.remove((case, repeat))
        if took_s is not None:
            self._taken_s.setdefault(case, []).append(took_s)

    def left_s(self) -> float | None:
        """Seconds that the processes still to end take altogether; `None` before the first has ended."""
        means = {case: sum(taken) / len(taken) for case, taken in self._taken_s.items()}
        if not means:
            return None
        typical = sum(means.values()) / len(means)
        return sum(means.get(case, typical) for case, _ in self._left)


class PlainReporter:
    """One line for each process, for logs and pipes."""

    def __init__(self, stream: TextIO) -> None:
        """Write to `stream`."""
        self._stream = stream
        self._total = self._ended = 0
        self._estimate = Estimate(())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stream.flush()

    def started(self, run: str, processes: Sequence[tuple[str, int]], calls: int) -> None:
        """See `Reporter`."""
        self._total, self._ended = len(processes), 0
        self._estimate = Estimate(processes)
        self.message(f"run {run}: {len(processes)} processes of {calls} utterances")

    def process_started(self, case: str, repeat: int) -> None:
        """See `Reporter`."""

    def sample(self, sample: Sample) -> None:
        """See `Reporter`."""

    def process_done(self, record: ProcessRecord) -> None:
        """See `Reporter`."""
        self._ended += 1
        self._estimate.done(record.case, record.repeat, record.wall_s)
        left_s = self._estimate.left_s()
        self.message(", ".join(filter(None, [f"[{self._ended}/{self._total}] {_outcome(record)}", _time_left(left_s)])))

    def dropped(self, case: str, repeat: int) -> None:
        """See `Reporter`."""
        self._ended += 1
        self._estimate.done(case, repeat, None)

    def message(self, text: str) -> None:
        """See `Reporter`."""
        print(text, file=self._stream, flush=True)


class RichReporter:
    """A bar over the whole run, what is being measured now, and errors above it as they come."""

    def __init__(self, console: Console) -> None:
        """Draw on `console`."""
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        self._console = console
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=console,
            refresh_per_second=REFRESH_PER_S,
            transient=True,
        )
        self._task = self._bar.add_task("preparing", total=None, left="")
        self._estimate = Estimate(())
        self._calls = 0
        self._made: dict[tuple[str, int], int] = {}
        self._now = ""
        self._began_s = 0.0

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._bar.stop()

    def started(self, run: str, processes: Sequence[tuple[str, int]], calls: int) -> None:
        """See `Reporter`."""
        self._estimate = Estimate(processes)
        self._calls = calls
        self.message(f"run {run}: {len(processes)} processes of {calls} utterances")
        self._bar.update(self._task, total=len(processes) * calls, completed=0)

    def process_started(self, case: str, repeat: int) -> None:
        """See `Reporter`."""
        self._now = f"{case}, repeat {repeat + 1}"
        self._made[case, repeat] = 0
        self._began_s = time.monotonic()
        self._bar.update(self._task, description=f"{self._now}: loading")

    def sample(self, sample: Sample) -> None:
        """See `Reporter`."""
        pair = sample.case, sample.repeat
        self._made[pair] = self._made.get(pair, 0) + 1
        left_s = self._estimate.left_s()
        if left_s is not None:
            left_s = max(0.0, left_s - (time.monotonic() - self._began_s))
        self._bar.update(self._task, advance=1, description=f"{self._now}: {sample.utterance}", left=_time_left(left_s))

    def process_done(self, record: ProcessRecord) -> None:
        """See `Reporter`."""
        self._estimate.done(record.case, record.repeat, record.wall_s)
        self._bar.update(self._task, advance=self._calls - self._made.pop((record.case, record.repeat), 0))
        if record.status == "failed":
            self.message(_outcome(record))

    def dropped(self, case: str, repeat: int) -> None:
        """See `Reporter`."""
        self._estimate.done(case, repeat, None)
        self._bar.update(self._task, advance=self._calls)

    def message(self, text: str) -> None:
        """See `Reporter`."""
        self._console.print(text, markup=False, highlight=False)


def _outcome(record: ProcessRecord) -> str:
    name = f"{record.case}, repeat {record.repeat + 1}"
    if record.status == "failed":
        return f"{name}: FAILED: {record.error}"
    return f"{name}: done in {record.wall_s:.1f} s"


def _time_left(seconds: float | None) -> str:
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    return f"about {minutes}:{rest:02d} left"
