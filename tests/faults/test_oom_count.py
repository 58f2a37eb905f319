"""How many processes the kernel has killed for want of memory, as its control groups tell."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import process
from tests.fakes.world import Bench, plan_of

V1 = "oom_kill_disable 0\nunder_oom 0\noom_kill {}\n"
V2 = "low 0\nhigh 0\nmax 12\noom 3\noom_kill {}\n"


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(process, "CGROUPS", tmp_path / "cgroup")
    (tmp_path / "cgroup" / "memory").mkdir(parents=True)
    return tmp_path / "cgroup"


@pytest.mark.parametrize(("file", "content"), [("memory.events", V2), ("memory/memory.oom_control", V1)])
def test_the_count_is_read_where_this_kernel_keeps_it(groups: Path, file: str, content: str) -> None:
    versions = Path("/proc/self/cgroup").read_text(encoding="utf-8")
    if "memory" in file.split("/") and ":memory:" not in versions:
        pytest.skip("this kernel has no control groups of version 1")
    if "/" not in file and "0::" not in versions:
        pytest.skip("this kernel has no control groups of version 2")
    (groups / file).write_text(content.format(7), encoding="ascii")

    assert process.oom_kills() == 7


def test_a_kernel_that_does_not_say_is_no_error(groups: Path) -> None:
    assert process.oom_kills() is None


def test_a_kill_that_the_kernel_counted_is_told_as_its_own(
    bench: Bench, groups: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The count is a file of ours, which the engine raises before it dies: no test should exhaust the memory.
    versions = Path("/proc/self/cgroup").read_text(encoding="utf-8")
    name, content = ("memory/memory.oom_control", V1) if ":memory:" in versions else ("memory.events", V2)
    (groups / name).write_text(content.format(1), encoding="ascii")
    monkeypatch.setenv("COUNT_FILE", str(groups / name))
    monkeypatch.setenv("COUNT_TEXT", content.format(2))

    outcome = bench.run(plan_of("killed", "sound"))

    (record,) = outcome.failures
    assert str(record.error).startswith("killed by the kernel, which was out of memory, on utterance")
