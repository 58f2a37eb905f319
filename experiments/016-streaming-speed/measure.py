"""How long a step of the streaming models takes, beside running the whole-clip model anew and beside the floor.

One thread. Every round runs each contender once, in an order of its own, so that ratios are of neighbours in time; an
interval is a bootstrap over rounds. Two floors: multiply-adds over what one core reaches in registers, and bytes of
weights over what it reads from memory, both measured in the same rounds (`kernels.limits`).

    .venv/bin/python experiments/016-streaming-speed/measure.py           # result.json and README.md's tables
    .venv/bin/python experiments/016-streaming-speed/measure.py --show    # the tables of the stored result
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from time import perf_counter_ns
from typing import Any

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
os.environ.update(dict.fromkeys(THREADS, "1"))

import numpy as np  # noqa: E402 - after the thread settings

from harness.documents import filled_in  # noqa: E402
from harness.fingerprint import fingerprint  # noqa: E402
from kernels import cpu, limits  # noqa: E402
from kernels.buffers import aligned_block  # noqa: E402
from pipelines import registry  # noqa: E402
from pipelines.contracts import SAMPLE_RATE, AudioBatch  # noqa: E402
from pipelines.models.stream_graph import CARRY_SAMPLES  # noqa: E402
from pipelines.paths import models_dir  # noqa: E402
from pipelines.registry import Context  # noqa: E402

RESULT = Path(__file__).with_name("result.json")
README = Path(__file__).with_name("README.md")
ROUNDS = 150
WINDOW_S = 4.0
AGAIN_S = 0.16
"""How often the whole-clip model is run again over its window."""
WHOLE = "moonshine-ctc"
SERVER, TOKENS, DRAFT = "stream-ctc-server", "stream-ctc-tokens", "stream-ctc-draft"
STEP_FORMS = ("fp32", "fp16", "int8", "int8-balanced")
COMPILED = "compiled-"
"""Begins the forms in our own compiled loops; the others are ONNX Runtime's."""
ALL_FORMS = (*STEP_FORMS, f"{COMPILED}fp32", f"{COMPILED}int8")
FORMS = {
    WHOLE: ("fp32", "int8"),
    SERVER: ALL_FORMS,
    TOKENS: (*STEP_FORMS, f"{COMPILED}fp32", f"{COMPILED}int8"),
    DRAFT: ALL_FORMS,
}
BATCH = 8
BATCHED = ("fp32", "int8-balanced", f"{COMPILED}fp32", f"{COMPILED}int8")
"""Forms of the server size that are measured in batches of so many streams, too."""
DETECTORS = ("silero", "silero-simd")
LOOKS = 5
"""Chunks of the speech detector in a step's audio."""
BAR_FORMS = {
    "fp32": "FP32",
    "int8": "INT8",
    "int8-balanced": "INT8 balanced",
    f"{COMPILED}fp32": "FP32 compiled",
    f"{COMPILED}int8": "INT8 compiled",
}
BARS = (
    (SERVER, "step_ms", 8.0, "a step of the server size, ms"),
    (TOKENS, "step_ms", 8.0, "a step of the server size that writes tokens, ms"),
    (DRAFT, "step_ms", 3.0, "a step of the draft size, ms"),
    (SERVER, "share", 0.25, "compute of the server size over the whole model's, for the same audio"),
    (TOKENS, "share", 0.25, "the same, writing tokens"),
)
LANES = 8 if cpu.missing("avx512") else 16
FMA_TIMES = 400_000
READ_BYTES = 256 << 20
FIRST = 127 * 416
"""Multiplications of the first convolution for one of its steps."""


def main() -> None:
    """Measure, or show what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--show", action="store_true", help="print the stored result")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    arguments = parser.parse_args()
    if not arguments.show:
        RESULT.write_text(json.dumps(measure(arguments.rounds), indent=1) + "\n", "utf-8")
    tables = all_tables(json.loads(RESULT.read_text("utf-8")))
    for table in tables.values():
        print(f"{table}\n")
    README.write_text(filled_in(README.read_text("utf-8"), tables), "utf-8")


def measure(rounds: int) -> dict[str, Any]:
    """Times of every contender in every round, in nanoseconds; a model that is not built is left out."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    rng = np.random.default_rng(0)
    there = [model for model in FORMS if (models_dir() / model / "card.json").is_file()]
    with ExitStack() as stack:
        contenders: dict[str, Callable[[], object]] = {}
        facts: dict[str, dict[str, float]] = {}
        for model in there:
            for precision in FORMS[model]:
                opened = _open(stack, model, precision)
                contenders[f"{model} {precision}"] = _whole(opened, rng) if model == WHOLE else _step(opened, rng)
                facts[f"{model} {precision}"] = _facts(model, precision, opened)
                if model == SERVER and precision in BATCHED:
                    contenders[f"{precision} x {BATCH}"] = _step(opened, rng, BATCH)
        for name in DETECTORS:
            if registry.get(f"vad/{name}").available() is None:
                detector = stack.enter_context(registry.get(f"vad/{name}").open(Context(models_dir(), "", 1, {})))
                contenders |= {f"{name} x {streams}": _looks(detector, rng, streams) for streams in (1, BATCH)}
        contenders |= {"multiply-adds": _multiply_adds(), "read": _reader()}
        for call in contenders.values():
            for _ in range(5):
                call()
        times: dict[str, list[int]] = {name: [] for name in contenders}
        for round_ in range(rounds):
            for name in rng.permutation(list(contenders)):
                started = perf_counter_ns()
                contenders[name]()
                times[name].append(perf_counter_ns() - started)
            if (round_ + 1) % 25 == 0:
                print(f"round {round_ + 1} of {rounds}", file=sys.stderr)
    return {
        "fingerprint": fingerprint(models_dir(), there),
        "rounds": rounds,
        "window_s": WINDOW_S,
        "again_s": AGAIN_S,
        "multiply_adds": FMA_TIMES * limits.CHAINS * LANES,
        "read_bytes": READ_BYTES,
        "facts": facts,
        "times_ns": times,
    }


def _open(stack: ExitStack, model: str, precision: str) -> Any:
    context = Context(models_dir(), model, 1, {})
    for axis, name in (("memory", "pooled"), ("kernel", "numpy")):
        context.parts[axis] = stack.enter_context(registry.get(f"{axis}/{name}").open(context))
    own = precision.startswith(COMPILED)
    variant = f"simd-stream@{precision.removeprefix(COMPILED)}" if own else f"ort@{precision}"
    return stack.enter_context(registry.get(f"acoustic/{variant}").open(context))


def _multiply_adds() -> Callable[[], object]:
    run, out = limits.fma_loop(LANES).call, np.zeros(1, np.float32)
    return lambda: run(FMA_TIMES, out)


def _reader() -> Callable[[], object]:
    block = aligned_block(READ_BYTES).view(np.float32)
    block[:] = 1
    read, out = limits.read_loop(LANES).call, np.zeros(1, np.float32)
    return lambda: read(block, out)


def _whole(model: Any, rng: np.random.Generator) -> Callable[[], object]:
    count = round(WINDOW_S * 16_000)
    batch = AudioBatch((0.1 * rng.standard_normal((1, count))).astype(np.float32), np.array([count]))
    return lambda: model.infer(batch)


def _step(model: Any, rng: np.random.Generator, streams: int = 1) -> Callable[[], object]:
    states, size = [model.open() for _ in range(streams)], model.chunk_samples
    samples = (0.1 * rng.standard_normal((streams, size))).astype(np.float32)
    batch = AudioBatch(samples, np.full(streams, size))
    return lambda: model.infer_chunk(states, batch)


def _looks(detector: Any, rng: np.random.Generator, streams: int) -> Callable[[], object]:
    states = [detector.open() for _ in range(streams)]
    chunks = (3_000 * rng.standard_normal((streams * LOOKS, detector.chunk_samples))).astype(np.int16)
    return lambda: detector.probabilities(states, [LOOKS] * streams, chunks)


def _facts(model: str, precision: str, opened: Any) -> dict[str, float]:
    """Multiplications of all products with weights (attention itself is left out), bytes of weights, and audio.

    The counts of a step are for its chunk, those of the whole model for its window.
    """
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(models_dir() / model / "model.fp32.onnx").graph
    sizes = {tensor.name: numpy_helper.to_array(tensor).size for tensor in graph.initializer}
    products = [node.input[1] for node in graph.node if node.op_type == "MatMul" and node.input[1] in sizes]
    samples = round(WINDOW_S * SAMPLE_RATE) if model == WHOLE else opened.chunk_samples + CARRY_SAMPLES
    steps = (samples - 127) // 64 + 1
    halves = (steps - 7) // 3 + 1  # what the second convolution makes
    frames = (halves - 3) // 2 + 1
    rest = sum(sizes[name] * (halves if name.startswith("conv2") else frames) for name in products)
    if precision.startswith(COMPILED):
        weights = opened.weight_bytes
    else:
        own = onnx.load(models_dir() / model / f"model.{precision}.onnx").graph
        weights = sum(numpy_helper.to_array(tensor).nbytes for tensor in own.initializer)
    audio_s = AGAIN_S if model == WHOLE else opened.chunk_samples / SAMPLE_RATE
    return {"multiplications": FIRST * steps + rest, "weight_bytes": weights, "audio_s": audio_s}


def all_tables(result: dict[str, Any]) -> dict[str, str]:
    """Every table by its name in README.md."""
    return {
        "rates": rates_line(result),
        "bars": bars_table(result),
        "steps": steps_table(result),
        "batches": batches_table(result),
    }


def rates(result: dict[str, Any]) -> tuple[float, float]:
    """Multiply-adds and bytes a nanosecond of one core: the best of the rounds, since a floor is what is possible."""
    times = result["times_ns"]
    return result["multiply_adds"] / min(times["multiply-adds"]), result["read_bytes"] / min(times["read"])


def rates_line(result: dict[str, Any]) -> str:
    """What the core can do."""
    adds, read = rates(result)
    return (
        f"One core: {2 * adds:.0f} GFLOP/s of FP32 multiply-adds in registers, {read:.1f} GB/s reading "
        f"{result['read_bytes'] >> 20} MiB. {result['rounds']} interleaved rounds."
    )


def bars_table(result: dict[str, Any]) -> str:
    """What was asked for, and the form that comes nearest."""
    lines = [f"| bar | at most | {' | '.join(BAR_FORMS.values())} | met |", f"|---|---:|{'---:|' * len(BAR_FORMS)}---|"]
    for model, measure_, most, what in BARS:
        found = {form: _value(result, f"{model} {form}", measure_) for form in BAR_FORMS}
        shown = [f"{value:.2f}" if value is not None else "not measured" for value in found.values()]
        met = [BAR_FORMS[form] for form, value in found.items() if value is not None and value <= most]
        verdict = (
            " and ".join(met) if met else ("no" if any(found.values()) else "not measured: the model is not built")
        )
        lines.append(f"| {what} | {most:g} | {' | '.join(shown)} | {verdict} |")
    return "\n".join(lines)


def _value(result: dict[str, Any], name: str, measure_: str) -> float | None:
    if name not in result["times_ns"]:
        return None
    if measure_ == "step_ms":
        return float(np.median(result["times_ns"][name]) / 1e6)
    return _share(result, name, np.random.default_rng(0))[0]


def steps_table(result: dict[str, Any]) -> str:
    """Every contender with its floors, and its compute for the same audio against the whole model in FP32."""
    lines = [
        "| contender | median, ms | p99, ms | multiply-adds, M | weights, MB | floor, ms | times the floor "
        "| compute against the window, FP32 |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    adds, read = rates(result)
    rng = np.random.default_rng(0)
    for name, facts in result["facts"].items():
        values = np.array(result["times_ns"][name], float) / 1e6
        by_bytes, by_adds = facts["weight_bytes"] / read / 1e6, facts["multiplications"] / adds / 1e6
        # What INT8's products of a whole window could reach was not measured; a step's are bound by the bytes.
        floor = by_bytes if "int8" in name else max(by_bytes, by_adds)
        floors = "| | " if name == f"{WHOLE} int8" else f"| {floor:.2f} | {np.median(values) / floor:.1f} "
        share, low, high = _share(result, name, rng)
        lines.append(
            f"| {name} | {np.median(values):.2f} | {np.quantile(values, 0.99):.2f} "
            f"| {facts['multiplications'] / 1e6:.0f} | {facts['weight_bytes'] / 1e6:.1f} {floors}"
            f"| {share:.3f} [{low:.3f}, {high:.3f}] |"
        )
    return "\n".join(lines)


def batches_table(result: dict[str, Any]) -> str:
    """What a stream costs alone and among others: a step of the server size, and the detector's look at its audio."""
    lines = [f"| a stream's share, ms | alone | in a batch of {BATCH} |", "|---|---:|---:|"]
    names = {f"step, {form}": (f"{SERVER} {form}", f"{form} x {BATCH}") for form in BATCHED}
    names |= {f"speech detector, vad/{name}": (f"{name} x 1", f"{name} x {BATCH}") for name in DETECTORS}
    for shown, (alone, batched) in names.items():
        if batched in result["times_ns"]:
            one, many = (float(np.median(result["times_ns"][name])) / 1e6 for name in (alone, batched))
            lines.append(f"| {shown} | {one:.2f} | {many / BATCH:.2f} |")
    return "\n".join(lines)


def _share(result: dict[str, Any], name: str, rng: np.random.Generator) -> tuple[float, float, float]:
    """Compute for a second of audio over the FP32 window's: the median over rounds, with its 95 % interval."""
    times, facts = result["times_ns"], result["facts"]
    whole = f"{WHOLE} fp32"
    ratios = np.array(times[name]) / facts[name]["audio_s"] / (np.array(times[whole]) / facts[whole]["audio_s"])
    draws = np.median(ratios[rng.integers(0, len(ratios), (2_000, len(ratios)))], axis=1)
    low, high = np.quantile(draws, (0.025, 0.975))
    return float(np.median(ratios)), float(low), float(high)


if __name__ == "__main__":
    main()
