"""How long the report of a hundred cases takes, from the stored samples to the files: below 20 s.

Not collected by a plain `pytest`. Run it by its name (about a minute):

    .venv/bin/python -m pytest tests/benchmarks/bench_report.py --benchmark-columns=min,max,rounds

On a busy machine add --benchmark-timer=time.process_time: processor time, which is what an idle one would take.
"""

from pathlib import Path

import pytest

from harness.report import write_report
from harness.store import open_run
from tests.synthetic import hundred_cases, write_run

pytest.importorskip("pytest_benchmark", reason="pytest-benchmark is not installed: pip install .[dev]")


def test_report_of_a_hundred_cases(benchmark, tmp_path: Path) -> None:
    folder = write_run(tmp_path, hundred_cases(utterances=30, repeats=3))
    paths = benchmark.pedantic(lambda: write_report(open_run(folder)), rounds=3)
    benchmark.extra_info["html_bytes"] = paths.html.stat().st_size
