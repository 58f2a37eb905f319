"""What the kernels reach beside each other, beside NumPy and beside memcpy, all interleaved in one process and thread.

    .venv/bin/python experiments/003-kernels/measure.py           # measure, write result.json and README.md's tables
    .venv/bin/python experiments/003-kernels/measure.py --show    # write tables and picture of the stored result anew
    .venv/bin/python experiments/003-kernels/measure.py --quick   # try everything out and store nothing

A kernel is timed twice: by itself, called through a pointer from machine code, and with the call from Python that a
pipeline makes. NumPy has no first of these: its floor, the same call on one element, is taken off instead. What the
calls of a chunk add is measured over whole chunks, less the loop in Python that repeats them, which no pipeline has.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Callable, Mapping
from itertools import groupby
from pathlib import Path
from time import perf_counter_ns
from typing import Any, NamedTuple

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
os.environ.update(dict.fromkeys(THREADS, "1"))

import numpy as np  # noqa: E402 - after the thread settings

from harness.documents import filled_in  # noqa: E402
from harness.fingerprint import fingerprint  # noqa: E402
from harness.stats import bootstrap_interval  # noqa: E402
from kernels import compile_time  # noqa: E402
from kernels.dispatch import OPERATIONS, Implementation, Operation, problem  # noqa: E402
from kernels.drive import driver, memcpy_loop  # noqa: E402
from kernels.features import LogMel, MelConfig  # noqa: E402
from kernels.kernel_set import KernelSet  # noqa: E402
from kernels.limits import read_loop  # noqa: E402
from kernels.workloads import SIZES, aligned, workload  # noqa: E402
from pipelines.paths import models_dir  # noqa: E402

RESULT = Path(__file__).with_name("result.json")
README = Path(__file__).with_name("README.md")
PICTURE = Path(__file__).with_name("roofline.svg")
COMPILED: tuple[Implementation, ...] = ("scalar", "avx2", "avx512")
TRIES = 7
"""Timings of which the best counts."""
CHUNK = 2_560
"""Samples in a chunk of 160 ms."""
CHUNK_FRAMES = 7
"""Frames of 24 ms that end in it."""

Call = Callable[[int], None]
"""Does its work that many times."""
Sets = Mapping[Implementation, KernelSet]
Times = dict[str, list[float]]
"""Nanoseconds for each call, by name, one for each round."""


def main() -> None:
    """Measure or show."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--show", action="store_true", help="show the stored result instead of measuring")
    parser.add_argument("--quick", action="store_true", help="a few rounds of short timings, printed and not stored")
    options = parser.parse_args()
    if options.quick:
        result = measure(Effort(rounds=3, sweep_rounds=1, sample_ns=200_000, compiling=False))
    elif options.show:
        result = json.loads(RESULT.read_text("utf-8"))
    else:
        result = measure(Effort())
        RESULT.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    tables = all_tables(result)
    for name, table in tables.items():
        print(f"{name}\n{table}\n")
    if not options.quick:
        README.write_text(filled_in(README.read_text("utf-8"), tables), "utf-8")
        import roofline  # beside this script, which is where Python looks first

        roofline.draw(result, PICTURE)


class Effort(NamedTuple):
    """How long to measure.

    Attributes:
        rounds: Of the targets.
        sweep_rounds: Of the sweep over sizes.
        sample_ns: How long one timing lasts at least: many calls of a fast kernel, one of a slow one.
        compiling: Whether to time compilation, in fresh processes.
    """

    rounds: int = 20
    sweep_rounds: int = 3
    sample_ns: int = 1_000_000
    compiling: bool = True


def measure(effort: Effort) -> dict[str, Any]:
    """Everything; times in nanoseconds for one call."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    sets: Sets = {name: KernelSet(name) for name in COMPILED if problem(name) is None}
    return {
        "targets_ns": interleaved(target_calls(sets), effort.rounds, effort.sample_ns),
        "sweep_ns": sweep(sets, effort),
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


def interleaved(calls: Mapping[str, Call], rounds: int, sample_ns: int) -> Times:
    """Time every call in every round, the best of `TRIES`, after finding out how often each must be repeated.

    The best, since the other core's tenants take this one away for longer than one timing lasts. What it takes to
    begin (30 us for a driver) is taken off.
    """
    repeats = {name: _repeats(call, sample_ns) for name, call in calls.items()}
    begins = {name: _best(call, 0) for name, call in calls.items()}
    times: Times = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            times[name].append((_best(call, repeats[name]) - begins[name]) / repeats[name])
    return times


def _best(call: Call, times: int) -> int:
    return min(_time(call, times) for _ in range(TRIES))


def _time(call: Call, times: int) -> int:
    start = perf_counter_ns()
    call(times)
    return perf_counter_ns() - start


def _repeats(call: Call, sample_ns: int) -> int:
    """How many calls last as long as a timing should; the best, so that no interruption ends the search."""
    times = 1
    while (taken := _best(call, times)) < sample_ns:
        times = min(10 * times, max(2 * times, int(0.8 * times * sample_ns / taken)))
    return times


def target_calls(sets: Sets) -> dict[str, Call]:
    """What the targets are about, as `case|who|how`."""
    calls: dict[str, Call] = {}
    rng = np.random.default_rng(0)
    for samples in (1_600, 480_000):
        case = f"pcm16 {samples}"
        data, out = rng.integers(-32768, 32768, samples).astype("<i2").tobytes(), _zeros(samples)
        _add(calls, case, "pcm16", (data, out), sets, "pcm16_to_float32")
        pcm = np.frombuffer(data, "<i2")
        calls[f"{case}|numpy|call"] = _python_call(np.multiply, (pcm, np.float32(1 / 32768), out))
        _add_memcpy(calls, case, samples)
    for rows, case in ((1, "argmax 1024"), (64, "argmax 64 x 1024 (L2)")):
        x, found = aligned(rng.standard_normal((rows, 1_024), np.float32)), np.zeros(rows, np.int64)
        _add(calls, case, "argmax", (x, found), sets)
        calls[f"{case}|numpy|call"] = _python_call(np.argmax, (x, 1, found))
    tiny, one = np.zeros((1, 1), np.float32), np.zeros(1, np.int64)
    calls["argmax 1|numpy|call"] = _python_call(np.argmax, (tiny, 1, one))
    row, one_row = aligned(rng.standard_normal((1, 1_024), np.float32)), np.zeros(1, np.int64)
    calls["argmax 1024|numpy|method"] = _python_call(row.argmax, (1, one_row))
    calls["argmax 1|numpy|method"] = _python_call(tiny.argmax, (1, one))
    x, turned = aligned(rng.standard_normal((1, 512, 1_504), np.float32)), _zeros(1, 1_504, 512)
    _add(calls, "transpose 512 x 1504", "transpose", (x, turned), sets)
    calls["transpose 512 x 1504|numpy|call"] = _calls(lambda: np.copyto(turned, x.transpose(0, 2, 1)))
    _add_memcpy(calls, "transpose 512 x 1504", x.size)
    _add_ctc(calls, sets)
    _add_chunk(calls, sets)
    return calls


def _zeros(*shape: int) -> Any:
    return aligned(np.zeros(shape, np.float32))


def _calls(function: Callable[[], object]) -> Call:
    def call(times: int) -> None:
        for _ in range(times):
            function()

    return call


def _driven(drive: Callable[[int, tuple[Any, ...]], None], arguments: tuple[Any, ...]) -> Call:
    return lambda times: drive(times, arguments)


def _python_call(function: Callable[..., object], arguments: tuple[Any, ...]) -> Call:
    def call(times: int) -> None:
        for _ in range(times):
            function(*arguments)

    return call


def _one_argument(function: Callable[[Any], object], argument: Any) -> Call:
    def call(times: int) -> None:
        for _ in range(times):
            function(argument)

    return call


def _add(
    calls: dict[str, Call],
    case: str,
    operation: Operation,
    arguments: tuple[Any, ...],
    sets: Sets,
    method: str = "",
) -> None:
    """The kernel by itself and with its Python call, for every compiled implementation."""
    for name, kernels in sets.items():
        drive = driver(kernels.loops[operation])
        calls[f"{case}|{name}|kernel"] = _driven(drive, arguments)
        calls[f"{case}|{name}|call"] = _python_call(getattr(kernels, method or operation), arguments)


def _add_memcpy(calls: dict[str, Call], case: str, count: int) -> None:
    drive, arrays = driver(memcpy_loop()), (_zeros(count), _zeros(count))
    calls[f"{case}|memcpy|kernel"] = _driven(drive, arrays)


def ctc_arguments(frames: int, labels: int) -> tuple[Any, ...]:
    """A path as a CTC model gives it: three blanks in four frames, tokens one or two frames long."""
    rng = np.random.default_rng(1)
    log_probs = aligned(rng.standard_normal((frames, labels), np.float32) - 8)
    path = np.where(rng.random(frames) < 0.25, rng.integers(1, labels, frames), 0)
    log_probs[np.arange(frames), path] = 0
    counts = np.zeros(frames, np.int64)
    return log_probs, 0, np.zeros(1, np.int64), counts, _zeros(frames), np.zeros((frames, 2), np.int64)


def python_tokens(log_probs: Any) -> list[int]:
    """NumPy's argmax, then the plain loop: tokens alone."""
    tokens, previous = [], 0
    for label in log_probs.argmax(axis=1).tolist():
        if label not in (previous, 0):
            tokens.append(label)
        previous = label
    return tokens


def python_groups(log_probs: Any) -> list[int]:
    """The same as short as Python knows it."""
    return [label for label, _ in groupby(log_probs.argmax(axis=1).tolist()) if label]


def python_greedy(log_probs: Any) -> list[tuple[int, float, int, int]]:
    """NumPy's argmax, then a loop that gives what the kernel gives: token, confidence, first and last frame."""
    labels = log_probs.argmax(axis=1)
    best = log_probs[np.arange(len(labels)), labels].tolist()
    found: list[list[Any]] = []
    previous = 0
    for t, (label, value) in enumerate(zip(labels.tolist(), best, strict=True)):
        if label:
            if label != previous:
                found.append([label, value, t, t])
            else:
                run = found[-1]
                run[3] = t
                if value > run[1]:
                    run[1] = value
        previous = label
    return [(label, math.exp(value), first, last) for label, value, first, last in found]


def _add_ctc(calls: dict[str, Call], sets: Sets) -> None:
    arguments = ctc_arguments(500, 512)
    _add(calls, "ctc greedy 500 x 512", "ctc_greedy", arguments, sets)
    _add(calls, "argmax 500 x 512", "argmax", (arguments[0], np.zeros(500, np.int64)), sets)
    drive, largest = driver(read_loop(8 if "avx512" not in sets else 16)), _zeros(1)
    calls["read 500 x 512|simd|kernel"] = _driven(drive, (arguments[0].reshape(-1), largest))
    reader = list(sets.values())[-1].greedy_reader(0, 500)
    calls["ctc greedy 500 x 512|bound|call"] = _one_argument(reader.read, arguments[0])
    for name, function in (("tokens", python_tokens), ("groups", python_groups), ("all", python_greedy)):
        calls[f"ctc greedy 500 x 512|numpy + python, {name}|call"] = _one_argument(function, arguments[0])


def _add_chunk(calls: dict[str, Call], sets: Sets) -> None:
    """The kernels of one chunk of a stream: into the ring, then the greedy pass; and those of its features."""
    pcm, ring = bytes(2 * CHUNK), _zeros(16_000)
    _add(calls, "chunk ring", "pcm16_ring", (pcm, ring, 15_000), sets, "pcm16_into_ring")
    chunk = ctc_arguments(CHUNK_FRAMES, 512)
    _add(calls, "chunk greedy", "ctc_greedy", chunk, sets)
    kernels = list(sets.values())[-1]
    writer, reader = kernels.ring_writer(ring), kernels.greedy_reader(0, CHUNK_FRAMES)
    calls["chunk ring|bound|call"] = _one_argument(writer.write, pcm)
    calls["chunk greedy|bound|call"] = _one_argument(reader.read, chunk[0])
    calls["nothing|built-in of one argument|call"] = _one_argument(len, pcm)
    calls["nothing|loop|call"] = _nothing
    extract = LogMel(MelConfig(), kernels.mel_writer)
    frames = extract.frames(CHUNK)
    power, out = _zeros(frames, 257), _zeros(frames, 80)
    bank = extract.bank
    arguments = (power, bank.weights, bank.starts, bank.ends, 0.0, 1e-7, out)
    _add(calls, "chunk log-mel", "log_mel", arguments, sets)
    write_mel = kernels.mel_writer(bank.weights, bank.starts, bank.ends, 0.0, 1e-7)
    calls["chunk both|bound|call"] = _chunk_calls(writer.write, pcm, reader.read, chunk[0])
    calls["chunk all|bound|call"] = _chunk_calls(writer.write, pcm, reader.read, chunk[0], write_mel, power, out)
    audio = np.zeros(CHUNK, np.float32)
    calls["chunk features, FFT and all|numpy|call"] = _calls(lambda: extract(audio, out))


def _nothing(times: int) -> None:
    for _ in range(times):
        pass


def _chunk_calls(
    write: Callable[[Any], int],
    pcm: bytes,
    read: Callable[[Any], int],
    log_probs: Any,
    write_mel: Callable[[Any, Any], int] | None = None,
    power: Any = None,
    mel: Any = None,
) -> Call:
    """The bound calls of a chunk one behind the other, without or with its log-mel energies."""

    def both(times: int) -> None:
        for _ in range(times):
            write(pcm)
            read(log_probs)

    if write_mel is None:
        return both

    def all_of_them(times: int) -> None:
        for _ in range(times):
            write(pcm)
            write_mel(power, mel)
            read(log_probs)

    return all_of_them


def sweep(sets: Sets, effort: Effort) -> Times:
    """Every operation, implementation and size by itself, beside a memcpy that moves as many bytes."""
    times: Times = {}
    numpy_set = KernelSet("numpy")
    for size, elements in SIZES.items():
        for operation in OPERATIONS:
            work = workload(operation, elements)
            case = f"{operation} {size}"
            calls: dict[str, Call] = {}
            for name, kernels in sets.items():
                drive = driver(kernels.loops[operation])
                calls[f"{case}|{name}|kernel"] = _driven(drive, work.arguments)
            calls[f"{case}|numpy|call"] = _python_call(numpy_set.loops[operation].call, work.arguments)
            _add_memcpy(calls, case, work.memcpy_bytes // 4)
            times |= interleaved(calls, effort.sweep_rounds, effort.sample_ns)
            print(case, file=sys.stderr)
    return times


def ratio(times: Times, slow: str, fast: str) -> str:
    """How many times longer `slow` takes: the median over the rounds, with its 95 % interval."""
    found = bootstrap_interval(np.array(times[slow]) / np.array(times[fast]), np.median)
    return f"{found.value:.2f} ({found.low:.2f} to {found.high:.2f})"


def met(times: Times, slow: str, fast: str, least: float) -> str:
    """Whether the median ratio reaches the target."""
    return "yes" if np.median(np.array(times[slow]) / np.array(times[fast])) >= least else "no"


TARGETS: tuple[tuple[str, str, str, float], ...] = (
    ("PCM16 1,600: memcpy over AVX-512", "pcm16 1600|memcpy|kernel", "pcm16 1600|avx512|kernel", 1 / 1.15),
    ("PCM16 1,600: memcpy over AVX2", "pcm16 1600|memcpy|kernel", "pcm16 1600|avx2|kernel", 1 / 1.15),
    ("PCM16 480,000: memcpy over AVX-512", "pcm16 480000|memcpy|kernel", "pcm16 480000|avx512|kernel", 1 / 1.15),
    ("PCM16 480,000: memcpy over AVX2", "pcm16 480000|memcpy|kernel", "pcm16 480000|avx2|kernel", 1 / 1.15),
    ("PCM16 1,600: scalar over AVX-512", "pcm16 1600|scalar|kernel", "pcm16 1600|avx512|kernel", 15),
    ("the same, with the Python call", "pcm16 1600|scalar|call", "pcm16 1600|avx512|call", 0),
    ("PCM16 1,600: NumPy over AVX-512, with the call", "pcm16 1600|numpy|call", "pcm16 1600|avx512|call", 0),
    ("argmax 1,024: scalar over AVX-512", "argmax 1024|scalar|kernel", "argmax 1024|avx512|kernel", 15),
    ("argmax 1,024: scalar over AVX2", "argmax 1024|scalar|kernel", "argmax 1024|avx2|kernel", 0),
    ("argmax 1,024: `np.argmax` over AVX-512, with the call", "argmax 1024|numpy|call", "argmax 1024|avx512|call", 4),
    ("argmax 1,024: `x.argmax` over AVX-512, with the call", "argmax 1024|numpy|method", "argmax 1024|avx512|call", 0),
    (
        "argmax 64 x 1,024: NumPy over AVX-512",
        "argmax 64 x 1024 (L2)|numpy|call",
        "argmax 64 x 1024 (L2)|avx512|call",
        0,
    ),
    (
        "transpose: memcpy over AVX-512",
        "transpose 512 x 1504|memcpy|kernel",
        "transpose 512 x 1504|avx512|kernel",
        1 / 1.6,
    ),
    ("transpose: memcpy over AVX2", "transpose 512 x 1504|memcpy|kernel", "transpose 512 x 1504|avx2|kernel", 1 / 1.6),
    ("transpose: NumPy over AVX-512", "transpose 512 x 1504|numpy|call", "transpose 512 x 1504|avx512|call", 2),
    ("transpose: scalar over AVX-512", "transpose 512 x 1504|scalar|kernel", "transpose 512 x 1504|avx512|kernel", 0),
    (
        "greedy: NumPy argmax and Python to the same tokens, confidences and frames over AVX-512",
        "ctc greedy 500 x 512|numpy + python, all|call",
        "ctc greedy 500 x 512|bound|call",
        5,
    ),
    (
        "greedy: NumPy argmax and a Python loop to the tokens alone over AVX-512",
        "ctc greedy 500 x 512|numpy + python, tokens|call",
        "ctc greedy 500 x 512|bound|call",
        5,
    ),
    (
        "the same with `itertools.groupby`",
        "ctc greedy 500 x 512|numpy + python, groups|call",
        "ctc greedy 500 x 512|bound|call",
        0,
    ),
    (
        "greedy: the fused pass over only reading its 1 MB",
        "ctc greedy 500 x 512|avx512|kernel",
        "read 500 x 512|simd|kernel",
        0,
    ),
    (
        "greedy: the Python loop to the tokens over only reading its 1 MB",
        "ctc greedy 500 x 512|numpy + python, tokens|call",
        "read 500 x 512|simd|kernel",
        0,
    ),
    (
        "greedy: argmax alone over the fused pass",
        "argmax 500 x 512|avx512|kernel",
        "ctc greedy 500 x 512|avx512|kernel",
        1 / 1.2,
    ),
)
"""What is compared, the slow one, the fast one, and the least ratio; 0 where nothing is asked."""


def target_table(result: Mapping[str, Any]) -> str:
    """The ratios of the targets."""
    times = result["targets_ns"]
    lines = ["| ratio | median (95 %) | target | met |", "|---|---|---|---|"]
    for label, slow, fast, least in TARGETS:
        wanted, answer = (f"{least:.2f}", met(times, slow, fast, least)) if least else ("", "")
        lines.append(f"| {label} | {ratio(times, slow, fast)} | {wanted} | {answer} |")
    rate = 64 * 1024 * 4 / np.median(times["argmax 64 x 1024 (L2)|avx512|kernel"])
    lines.append(f"| argmax in L2, GB/s (256 KiB) | {rate:.0f} | 50 | {'yes' if rate >= 50 else 'no'} |")
    own = np.median(np.array(times["argmax 1024|numpy|method"]) - np.array(times["argmax 1|numpy|method"]))
    alone = own / np.median(times["argmax 1024|avx512|kernel"])
    lines.append(f"| argmax 1,024: `x.argmax` less its call of one element over AVX-512 | {alone:.2f} |  |  |")
    return "\n".join(lines)


CHUNKS: Mapping[str, tuple[tuple[str, ...], str]] = {
    "PCM16 into the ring": (("chunk ring",), "chunk ring"),
    "greedy pass of 7 frames of 512": (("chunk greedy",), "chunk greedy"),
    "both": (("chunk ring", "chunk greedy"), "chunk both"),
    "both and log-mel": (("chunk ring", "chunk greedy", "chunk log-mel"), "chunk all"),
}
"""Which kernels a chunk needs, and the calls bound to their arrays in one go."""
CALL_TARGET = 10
"""Per cent of the kernels' time that the calls of a chunk may add."""


def call_table(result: Mapping[str, Any]) -> str:
    """What the Python call adds to the kernels of one chunk: with every array as an argument, and bound to them."""
    times = {name: float(np.median(values)) for name, values in result["targets_ns"].items()}
    loop = times["nothing|loop|call"]
    lines = [
        f"| kernels of a 160 ms chunk | kernels, ns | arrays given: adds, ns | of the kernels | bound: adds, ns "
        f"| of the kernels | under {CALL_TARGET} % |",
        "|---|---|---|---|---|---|---|",
    ]
    for label, (cases, together) in CHUNKS.items():
        kernel = sum(times[f"{case}|avx512|kernel"] for case in cases)
        given = sum(times[f"{case}|avx512|call"] - loop for case in cases) - kernel
        bound = times[f"{together}|bound|call"] - loop - kernel
        shares = " | ".join(f"{adds:.0f} | {100 * adds / kernel:.0f} %" for adds in (given, bound))
        answer = "yes" if 100 * bound < CALL_TARGET * kernel else "no"
        lines.append(f"| {label} | {kernel:.0f} | {shares} | {answer} |")
    floor = times["nothing|built-in of one argument|call"] - loop
    lines.append(f"| CPython's own call of a built-in function with one argument (`len`) | | | | {floor:.0f} | | |")
    return "\n".join(lines)


def sweep_table(result: Mapping[str, Any]) -> str:
    """Time over the time of a memcpy of as many bytes; the smaller the better, 1 is the memory's own speed."""
    times = {name: float(np.median(values)) for name, values in result["sweep_ns"].items()}
    names = ("numpy", "scalar", "avx2", "avx512")
    lines = ["| operation | size | " + " | ".join(names) + " |", "|---" * (2 + len(names)) + "|"]
    for case, _ in groupby(times, key=lambda name: name.partition("|")[0]):
        cells = []
        for name in names:
            value = times.get(f"{case}|{name}|{'call' if name == 'numpy' else 'kernel'}")
            cells.append("" if value is None else f"{value / times[f'{case}|memcpy|kernel']:.2f}")
        operation, size = case.split(" ")
        lines.append(f"| {operation} | {size} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def compile_table(result: Mapping[str, Any]) -> str:
    """What making an implementation ready costs, all operations together."""
    lines = ["| implementation | compiled, s | from the cache, s |", "|---|---|---|"]
    for name, times in result["compile_ns"].items():
        cold, cached = (sum(pair[i] for pair in times.values()) / 1e9 for i in range(2))
        lines.append(f"| {name} | {cold:.1f} | {cached:.2f} |")
    return "\n".join(lines)


def all_tables(result: Mapping[str, Any]) -> dict[str, str]:
    """Every table by its name in README.md."""
    return {
        "targets": target_table(result),
        "call": call_table(result),
        "sweep": sweep_table(result),
        "compile": compile_table(result),
    }


if __name__ == "__main__":
    main()
