"""A disk that fills up while samples are written: a real, small file system."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.store import SAMPLES, open_run
from pipelines.errors import AmiraError
from tests.fakes.world import CLIPS, Bench, plan_of

REPEATS = 3


@pytest.fixture
def small_disk(bench: Bench) -> Iterator[Path]:
    """A file system of 44 KiB where runs go."""
    bench.runs_dir.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=44k", "tmpfs", str(bench.runs_dir)], capture_output=True, text=True
    )
    if done.returncode != 0:
        pytest.skip(f"this machine lets us mount no small file system: {done.stderr.strip() or os.strerror(1)}")
    yield bench.runs_dir
    subprocess.run(["umount", str(bench.runs_dir)], check=True)


def test_a_full_disk_is_one_message_and_the_run_goes_on_once_there_is_space(bench: Bench, small_disk: Path) -> None:
    plan = plan_of("verbose", "sound", repeats=REPEATS)

    with pytest.raises(AmiraError) as caught:
        bench.run(plan)

    message = str(caught.value)
    assert caught.value.exit_code == 2
    for part in (str(small_disk), "No space left on device", "0.0 MiB free", "is kept", "Free some space", "resume"):
        assert part in message
    before = bench.stored()
    assert before.notes == ("The run is running, not complete: what it has measured so far is shown.",)
    assert 0 < len(before.samples) < 2 * REPEATS * (CLIPS + 1)
    assert (before.path / SAMPLES).read_bytes().endswith(b"\n")
    assert not list(before.path.glob("*.partial"))

    subprocess.run(["mount", "-o", "remount,size=4m", str(small_disk)], check=True)
    outcome = bench.run(plan, resume=before.path)

    after = open_run(before.path)
    assert outcome.status == after.manifest.status == "complete"
    assert len(after.samples) == 2 * REPEATS * (CLIPS + 1)
