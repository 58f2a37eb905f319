"""Kernels of two checkouts beside each other, in real processes."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from harness import fingerprint
from harness.gate.config import Kernels
from harness.gate.instructions import count, unavailable
from harness.gate.kernels import check, evidence, measure
from harness.side import BASELINE, CANDIDATE, Side
from pipelines.errors import AmiraError

needs_valgrind = pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))
WANTED = Kernels(operations={"pcm16": "ingest"}, implementations=("scalar",), size="L1")
LOOP = "for i in range("


@pytest.fixture
def slower(tmp_path: Path) -> Side:
    """A checkout whose scalar PCM kernel does its work three times."""
    shutil.copytree(fingerprint.ROOT / "kernels", tmp_path / "kernels", ignore=shutil.ignore_patterns("__pycache__"))
    path = tmp_path / "kernels" / "pcm.py"
    lines = path.read_text().splitlines(keepends=True)
    place = next(i for i, line in enumerate(lines) if line.strip().startswith(LOOP))
    indent = lines[place][: -len(lines[place].lstrip())]
    end = next(i for i in range(place + 1, len(lines)) if lines[i].strip() and not lines[i].startswith(indent + " "))
    path.write_text("".join([*lines[:end], *lines[place:end], *lines[place:end], *lines[end:]]))
    return Side(CANDIDATE, sys.executable, {"PYTHONPATH": str(tmp_path)}, tmp_path)


def test_a_slower_kernel_is_named_with_its_stage(slower: Side) -> None:
    times, lacking = measure({BASELINE: Side(BASELINE, sys.executable, {}, Path()), CANDIDATE: slower}, WANTED, 2)
    assert lacking == {}
    [(metric, effect)] = evidence(times, lacking, WANTED).effects.items()
    assert str(metric) == "kernel pcm16 scalar (stage ingest)"
    assert effect.shift().value > 0.2


@needs_valgrind
def test_a_slower_kernel_executes_more_instructions_and_the_same_one_as_many(slower: Side) -> None:
    here = Side(BASELINE, sys.executable, {}, Path())
    counted = count({BASELINE: here, CANDIDATE: slower}, WANTED)
    assert [row.lacking for row in counted.values()] == [{}, {}]
    [before], [after] = (list(row.counts.values()) for row in counted.values())
    assert min(after) > 1.5 * max(before)
    assert max(before) < 1.01 * min(before)


def test_a_kernel_that_one_side_lacks_is_a_note_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "kernels").mkdir()
    (tmp_path / "kernels" / "__init__.py").write_text("")
    empty = Side(CANDIDATE, sys.executable, {"PYTHONPATH": str(tmp_path)}, tmp_path)
    times, lacking = measure({BASELINE: Side(BASELINE, sys.executable, {}, Path()), CANDIDATE: empty}, WANTED, 1)
    found = evidence(times, lacking, WANTED)
    assert found.problem is not None
    assert "the candidate cannot run it: ModuleNotFoundError" in found.problem


def test_a_kernel_that_does_not_exist_is_refused() -> None:
    check(WANTED)
    with pytest.raises(AmiraError, match=r"kernels\.operations: 'pcm17' does not exist; have: pcm16"):
        check(Kernels(operations={"pcm17": "ingest"}))
