"""A run of a hundred cases still makes one page of a sane size. Its time: tests/benchmarks/bench_report.py."""

from __future__ import annotations

from pathlib import Path

from harness.report import write_report
from harness.store import open_run
from tests.synthetic import hundred_cases, write_run

MOST_BYTES = 10e6


def test_a_report_of_a_hundred_cases_is_below_ten_megabytes(tmp_path: Path) -> None:
    paths = write_report(open_run(write_run(tmp_path, hundred_cases(utterances=4, repeats=2))))
    html = paths.html.read_text()
    assert all(f"Case {number} of a hundred" in html for number in range(100))
    sizes = {path.name: path.stat().st_size for path in (paths.html, paths.markdown, *paths.figures)}
    assert sum(sizes.values()) < MOST_BYTES, sizes
