"""What a user sees of a run while it goes on."""

from __future__ import annotations

import io

from rich.console import Console

from harness.progress import Estimate, PlainReporter, RichReporter, reporter
from tests.fakes.world import Bench, plan_of


def test_without_a_terminal_each_process_is_a_line(bench: Bench) -> None:
    stream = io.StringIO()

    bench.run(plan_of("raises", "sound", repeats=2), reporter=reporter(stream))

    first, *lines = stream.getvalue().splitlines()
    assert first.endswith(": 4 processes of 5 utterances")
    assert len(lines) == 3
    assert any("raises, repeat 1: FAILED: failed on utterance" in line for line in lines)
    assert "sound, repeat 2: done in" in stream.getvalue()
    assert lines[-1].startswith(("[3/4]", "[4/4]")), "a process that was dropped is counted"


def test_in_a_terminal_a_bar_reaches_its_end_and_errors_stay(bench: Bench) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    rich = RichReporter(console)

    bench.run(plan_of("raises", "sound", repeats=2), reporter=rich)

    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "raises, repeat 1: FAILED: failed on utterance" in shown
    assert "sound, repeat 2" in shown
    (task,) = rich._bar.tasks
    assert task.finished, "failed and dropped processes count as done"


def test_stderr_that_is_a_file_gets_lines() -> None:
    assert isinstance(reporter(io.StringIO()), PlainReporter)


def test_the_estimate_uses_what_a_case_took_and_the_mean_for_new_ones() -> None:
    estimate = Estimate([("fast", 0), ("slow", 0), ("new", 0), ("fast", 1), ("slow", 1)])
    assert estimate.left_s() is None

    estimate.done("fast", 0, 2.0)
    estimate.done("slow", 0, 10.0)
    assert estimate.left_s() == 6.0 + 2.0 + 10.0

    estimate.done("slow", 1, None)
    estimate.done("new", 0, 4.0)
    estimate.done("fast", 1, 2.0)
    assert estimate.left_s() == 0
