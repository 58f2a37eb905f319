"""The tables of experiment 003, made from a stored result."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
from kernel_timing import Times

from harness.stats import bootstrap_interval


class Target(NamedTuple):
    """What is compared.

    Attributes:
        label: For the reader; `AVX-512` and `avx512` in it and in the names are the best implementation of the CPU.
        slow, fast: Names of calls.
        least: The least ratio; 0 where nothing is asked.
    """

    label: str
    slow: str
    fast: str
    least: float = 0


TARGETS = (
    Target("PCM16 1,600: memcpy over AVX-512", "pcm16 1600|memcpy|kernel", "pcm16 1600|avx512|kernel", 1 / 1.15),
    Target("PCM16 1,600: memcpy over AVX2", "pcm16 1600|memcpy|kernel", "pcm16 1600|avx2|kernel", 1 / 1.15),
    Target("PCM16 480,000: memcpy over AVX-512", "pcm16 480000|memcpy|kernel", "pcm16 480000|avx512|kernel", 1 / 1.15),
    Target("PCM16 480,000: memcpy over AVX2", "pcm16 480000|memcpy|kernel", "pcm16 480000|avx2|kernel", 1 / 1.15),
    Target("PCM16 1,600: scalar over AVX-512", "pcm16 1600|scalar|kernel", "pcm16 1600|avx512|kernel", 15),
    Target("the same, with the Python call", "pcm16 1600|scalar|call", "pcm16 1600|avx512|call"),
    Target("PCM16 1,600: NumPy over AVX-512, with the call", "pcm16 1600|numpy|call", "pcm16 1600|avx512|call"),
    Target("argmax 1,024: scalar over AVX-512", "argmax 1024|scalar|kernel", "argmax 1024|avx512|kernel", 15),
    Target("argmax 1,024: scalar over AVX2", "argmax 1024|scalar|kernel", "argmax 1024|avx2|kernel"),
    Target(
        "argmax 1,024: `np.argmax` over AVX-512, with the call", "argmax 1024|numpy|call", "argmax 1024|avx512|call", 4
    ),
    Target(
        "argmax 1,024: `x.argmax` over AVX-512, with the call", "argmax 1024|numpy|method", "argmax 1024|avx512|call"
    ),
    Target(
        "argmax 64 x 1,024: NumPy over AVX-512", "argmax 64 x 1024 (L2)|numpy|call", "argmax 64 x 1024 (L2)|avx512|call"
    ),
    Target(
        "transpose: memcpy over AVX-512",
        "transpose 512 x 1504|memcpy|kernel",
        "transpose 512 x 1504|avx512|kernel",
        1 / 1.6,
    ),
    Target(
        "transpose: memcpy over AVX2", "transpose 512 x 1504|memcpy|kernel", "transpose 512 x 1504|avx2|kernel", 1 / 1.6
    ),
    Target("transpose: NumPy over AVX-512", "transpose 512 x 1504|numpy|call", "transpose 512 x 1504|avx512|call", 2),
    Target(
        "transpose: scalar over AVX-512", "transpose 512 x 1504|scalar|kernel", "transpose 512 x 1504|avx512|kernel"
    ),
    Target(
        "greedy: NumPy argmax and Python to the same tokens, confidences and frames over AVX-512",
        "ctc greedy 500 x 512|numpy + python, all|call",
        "ctc greedy 500 x 512|bound|call",
        5,
    ),
    Target(
        "greedy: NumPy argmax and a Python loop to the tokens alone over AVX-512",
        "ctc greedy 500 x 512|numpy + python, tokens|call",
        "ctc greedy 500 x 512|bound|call",
        5,
    ),
    Target(
        "the same with `itertools.groupby`",
        "ctc greedy 500 x 512|numpy + python, groups|call",
        "ctc greedy 500 x 512|bound|call",
    ),
    Target(
        "greedy: the fused pass over only reading its 1 MB",
        "ctc greedy 500 x 512|avx512|kernel",
        "read 500 x 512|simd|kernel",
    ),
    Target(
        "greedy: the Python loop to the tokens over only reading its 1 MB",
        "ctc greedy 500 x 512|numpy + python, tokens|call",
        "read 500 x 512|simd|kernel",
    ),
    Target(
        "greedy: argmax alone over the fused pass",
        "argmax 500 x 512|avx512|kernel",
        "ctc greedy 500 x 512|avx512|kernel",
        1 / 1.2,
    ),
)


def best(result: Mapping[str, Any]) -> str:
    """The best implementation that was measured."""
    return "avx512" if "pcm16 1600|avx512|kernel" in result["targets_ns"] else "avx2"


def ratio(times: Times, slow: str, fast: str) -> str:
    """How many times longer `slow` takes: the median over the rounds, with its 95 % interval."""
    found = bootstrap_interval(np.array(times[slow]) / np.array(times[fast]), np.median)
    return f"{found.value:.2f} ({found.low:.2f} to {found.high:.2f})"


def met(times: Times, slow: str, fast: str, least: float) -> str:
    """Whether the median ratio reaches the target."""
    return "yes" if np.median(np.array(times[slow]) / np.array(times[fast])) >= least else "no"


def targets(result: Mapping[str, Any]) -> Iterator[Target]:
    """What this result can say something about.

    Without AVX-512 the best implementation is AVX2, and what is asked of 512 bits against one element is not asked of
    256. A result from before a call was measured lacks its row.
    """
    wide = best(result) == "avx512"
    seen = set()
    for target in TARGETS:
        if not wide and ("avx512" in target.slow + target.fast or "AVX-512" in target.label):
            if "|scalar|" in target.slow:
                target = target._replace(least=0)
            label = target.label.replace("AVX-512", "AVX2")
            target = Target(label, *(name.replace("avx512", "avx2") for name in target[1:3]), target.least)
        if target[1:3] not in seen and {target.slow, target.fast} <= result["targets_ns"].keys():
            seen.add(target[1:3])
            yield target


def target_table(result: Mapping[str, Any]) -> str:
    """The ratios of the targets."""
    times, fastest = result["targets_ns"], best(result)
    lines = ["| ratio | median (95 %) | target | met |", "|---|---|---|---|"]
    for label, slow, fast, least in targets(result):
        wanted, answer = (f"{least:.2f}", met(times, slow, fast, least)) if least else ("", "")
        lines.append(f"| {label} | {ratio(times, slow, fast)} | {wanted} | {answer} |")
    rate = 64 * 1024 * 4 / np.median(times[f"argmax 64 x 1024 (L2)|{fastest}|kernel"])
    lines.append(f"| argmax in L2, GB/s (256 KiB) | {rate:.0f} | 50 | {'yes' if rate >= 50 else 'no'} |")
    own = np.median(np.array(times["argmax 1024|numpy|method"]) - np.array(times["argmax 1|numpy|method"]))
    alone = own / np.median(times[f"argmax 1024|{fastest}|kernel"])
    name = {"avx512": "AVX-512", "avx2": "AVX2"}[fastest]
    lines.append(f"| argmax 1,024: `x.argmax` less its call of one element over {name} | {alone:.2f} |  |  |")
    return "\n".join(lines)


CHUNKS: Mapping[str, tuple[tuple[str, ...], str]] = {
    "PCM16 into the ring": (("chunk ring",), "chunk ring"),
    "greedy pass of 7 frames of 512": (("chunk greedy",), "chunk greedy"),
    "both": (("chunk ring", "chunk greedy"), "chunk both"),
    "both and log-mel": (("chunk ring", "chunk greedy", "chunk log-mel"), "chunk all"),
    "greedy pass of 7 frames of 29": (("chunk greedy of 29",), "chunk greedy of 29"),
    "ring and greedy pass of 29": (("chunk ring", "chunk greedy of 29"), "chunk both of 29"),
}
"""Which kernels a chunk needs, and the calls bound to their arrays in one go."""
FLOORS = {
    "nothing|built-in that gives True|call": "CPython's own call of a built-in that gives `True` (`callable`)",
    "nothing|built-in that gives a number|call": "CPython's own call of a built-in that gives a number (`len`)",
    "nothing|built-in of one argument|call": "CPython's own call of a built-in function with one argument (`len`)",
}
CALL_TARGET = 10
"""Per cent of the kernels' time that the calls of a chunk may add."""


def call_table(result: Mapping[str, Any]) -> str:
    """What the Python call adds to the kernels of one chunk: with every array as an argument, and bound to them."""
    times = {name: float(np.median(values)) for name, values in result["targets_ns"].items()}
    loop, fastest = times["nothing|loop|call"], best(result)
    lines = [
        f"| kernels of a 160 ms chunk | kernels, ns | arrays given: adds, ns | of the kernels | bound: adds, ns "
        f"| of the kernels | under {CALL_TARGET} % |",
        "|---|---|---|---|---|---|---|",
    ]
    for label, (cases, together) in CHUNKS.items():
        if f"{together}|bound|call" not in times:
            continue
        alone = sum(times[f"{case}|{fastest}|kernel"] for case in cases)
        kernel = times.get(f"{together}|{fastest}|kernel", alone)  # older results have no kernels driven together
        given = sum(times[f"{case}|{fastest}|call"] - loop for case in cases) - alone
        bound = times[f"{together}|bound|call"] - loop - kernel
        shares = " | ".join(f"{adds:.0f} | {100 * adds / kernel:.0f} %" for adds in (given, bound))
        answer = "yes" if 100 * bound < CALL_TARGET * kernel else "no"
        lines.append(f"| {label} | {kernel:.0f} | {shares} | {answer} |")
    for name, label in FLOORS.items():
        if name in times:
            lines.append(f"| {label} | | | | {times[name] - loop:.0f} | | |")
    return "\n".join(lines)


def way_table(result: Mapping[str, Any]) -> str:
    """What each way from Python to the same kernel adds, and the decoder around the kernel; none in older results."""
    times = {name: float(np.median(values)) for name, values in result["targets_ns"].items()}
    loop, fastest = times["nothing|loop|call"], best(result)
    kernel = times[f"argmax 1024|{fastest}|kernel"]
    lines = ["| way to the argmax of 1,024 | adds, ns | of the kernel |", "|---|---|---|"]
    for name, value in times.items():
        case, way, how = name.split("|")
        if how == "way":
            adds = value - loop - kernel
            lines.append(f"| {way} | {adds:.0f} | {100 * adds / kernel:.0f} % |")
    for case, label in (("chunk decoder", "7 frames of 512"), ("chunk decoder of 29", "7 frames of 29")):
        if f"{case}|stream|call" in times:
            whole = times[f"{case}|stream|call"] - loop
            inside = times[f"{case.replace('decoder', 'greedy')}|bound|call"] - loop
            lines.append(
                f"| `decoder/greedy`, a push of {label}: Python around the bound call | {whole - inside:.0f} | |"
            )
    return "\n".join(lines) if len(lines) > 2 else "Not measured."


def machine_line(result: Mapping[str, Any]) -> str:
    """Where and with which code it was measured."""
    found = result["fingerprint"]
    cpu, code = found["cpu"], found["code"]
    return f"{cpu['model']}, family {cpu['family']}, commit `{code['commit'][:12]}`."


def sweep_table(result: Mapping[str, Any]) -> str:
    """Time over the time of a memcpy of as many bytes; the smaller the better, 1 is the memory's own speed."""
    times = {name: float(np.median(values)) for name, values in result["sweep_ns"].items()}
    names = ("numpy", "scalar", "avx2", "avx512")[: 4 if best(result) == "avx512" else 3]
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


def tables(result: Mapping[str, Any], suffix: str = "") -> dict[str, str]:
    """Every table by its name in README.md."""
    made = {
        "machine": machine_line(result),
        "targets": target_table(result),
        "call": call_table(result),
        "ways": way_table(result),
        "sweep": sweep_table(result),
        "compile": compile_table(result),
    }
    return {name + suffix: table for name, table in made.items()}
