"""What the kernels reach beside each other, beside NumPy and beside memcpy, all interleaved in one process and thread.

    .venv/bin/python experiments/003-kernels/measure.py           # measure, store, write README.md's tables
    .venv/bin/python experiments/003-kernels/measure.py --show    # write tables and picture of what is stored anew
    .venv/bin/python experiments/003-kernels/measure.py --quick   # try everything out and store nothing
    .venv/bin/python experiments/003-kernels/measure.py --only targets    # the same without the sweep over sizes

A result of a CPU with AVX-512 is `result.json`, of an Intel one `result-intel.json`, and of one without AVX-512
`result-avx2.json`: none can say what the others do.

A kernel is timed twice: by itself, called through a pointer from machine code, and with the call from Python that a
pipeline makes. NumPy has no first of these: its floor, the same call on one element, is taken off instead. What the
calls of a chunk add is measured over whole chunks, less the loop in Python that repeats them, which no pipeline has.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
os.environ.update(dict.fromkeys(THREADS, "1"))
sys.path.insert(0, str(Path(__file__).parent))  # where the modules beside this script are, for a test as well

import kernel_tables  # noqa: E402 - after the thread settings
import same_code  # noqa: E402
from kernel_calls import Sets, sweep, target_calls  # noqa: E402
from kernel_timing import Effort, interleaved  # noqa: E402

from harness.documents import filled_in  # noqa: E402
from harness.fingerprint import fingerprint  # noqa: E402
from kernels import compile_time  # noqa: E402
from kernels.dispatch import OPERATIONS, Implementation, problem  # noqa: E402
from kernels.kernel_set import KernelSet  # noqa: E402
from kernels.workloads import SIZES, workload  # noqa: E402
from pipelines.paths import models_dir  # noqa: E402

RESULT = Path(__file__).with_name("result.json")
RESULT_AVX2 = Path(__file__).with_name("result-avx2.json")
RESULT_INTEL = Path(__file__).with_name("result-intel.json")
README = Path(__file__).with_name("README.md")
PICTURE = Path(__file__).with_name("roofline.svg")
COMPILED: tuple[Implementation, ...] = ("scalar", "avx2", "avx512")


def main() -> None:
    """Measure or show."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--show", action="store_true", help="show the stored results instead of measuring")
    parser.add_argument("--quick", action="store_true", help="a few rounds of short timings, printed and not stored")
    parser.add_argument("--only", choices=["targets"], help="leave the sweep and compiling out, and store nothing")
    options = parser.parse_args()
    if options.quick or options.only:
        rounds = {"rounds": 3, "sample_ns": 200_000} if options.quick else {}
        result = measure(Effort(sweep_rounds=0 if options.only else 1, compiling=False, **rounds))
        show(kernel_tables.tables(result))
        return
    if not options.show:
        result = measure(Effort())
        wide, intel = kernel_tables.best(result) == "avx512", "Intel" in result["fingerprint"]["cpu"]["model"]
        path = (RESULT_INTEL if intel else RESULT) if wide else RESULT_AVX2
        path.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    result = json.loads(RESULT.read_text("utf-8"))
    tables = all_tables(result)
    show(tables)
    README.write_text(filled_in(README.read_text("utf-8"), tables), "utf-8")
    import roofline  # matplotlib takes its time

    roofline.draw(result, PICTURE)


def show(tables: Mapping[str, str]) -> None:
    """Print them."""
    for name, table in tables.items():
        print(f"{name}\n{table}\n")


def all_tables(result: Mapping[str, Any]) -> dict[str, str]:
    """Every table by its name in README.md, those of the other CPUs included."""
    tables = kernel_tables.tables(result)
    if RESULT_AVX2.exists():
        tables |= kernel_tables.tables(json.loads(RESULT_AVX2.read_text("utf-8")), "-avx2")
    if RESULT_INTEL.exists():
        other = kernel_tables.tables(json.loads(RESULT_INTEL.read_text("utf-8")), "-intel")
        tables |= {name: other[name] for name in ("machine-intel", "targets-intel", "call-intel")}
    if same_code.CODE.exists():
        tables["code"] = same_code.table(json.loads(same_code.CODE.read_text("utf-8")))
    return tables


def measure(effort: Effort) -> dict[str, Any]:
    """Everything; times in nanoseconds for one call."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    sets: Sets = {name: KernelSet(name) for name in COMPILED if problem(name) is None}
    return {
        "targets_ns": interleaved(target_calls(sets), effort.rounds, effort.sample_ns),
        "sweep_ns": sweep(sets, effort) if effort.sweep_rounds else {},
        "sweep_bytes": {
            f"{name} {size}": 2 * workload(name, count).memcpy_bytes
            for size, count in SIZES.items()
            for name in OPERATIONS
        },
        "compile_ns": {
            name: {time.operation: [time.cold_ns, time.cached_ns] for time in compile_time.measure(name)}
            for name in sets
            if effort.compiling
        },
        "fingerprint": fingerprint(models_dir(), []),
    }


if __name__ == "__main__":
    main()
