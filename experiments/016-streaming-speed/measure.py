"""How long a step of the streaming models takes, beside running the whole-clip model anew and beside the floor.

    python experiments/016-streaming-speed/measure.py            # measures and writes result.json
    python experiments/016-streaming-speed/measure.py --show     # prints the table of result.json

One thread. Every round runs each contender once, in an order of its own, so that ratios are of neighbours in time;
an interval is a bootstrap over rounds. The floor is the contender's multiplications over the rate of a large matrix
product on this core in the same run.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from time import perf_counter_ns
from typing import Any

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
os.environ.update(dict.fromkeys(THREADS, "1"))

import numpy as np  # noqa: E402 - after the thread settings

from harness.fingerprint import fingerprint  # noqa: E402
from pipelines import registry  # noqa: E402
from pipelines.contracts import AudioBatch  # noqa: E402
from pipelines.models.stream_graph import CARRY_SAMPLES  # noqa: E402
from pipelines.paths import models_dir  # noqa: E402
from pipelines.registry import Context  # noqa: E402

RESULT = Path(__file__).with_name("result.json")
ROUNDS = 400
WINDOW_S = 4.0
WHOLE = "moonshine-ctc"
STREAMS = ("stream-ctc-server", "stream-ctc-draft")
PRECISIONS = ("fp32", "fp16", "int8")
GEMM = 1_024


def main() -> None:
    """Measure, or show what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--show", action="store_true", help="print the stored result")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    arguments = parser.parse_args()
    if not arguments.show:
        RESULT.write_text(json.dumps(measure(arguments.rounds), indent=1) + "\n", "utf-8")
    show(json.loads(RESULT.read_text("utf-8")))


def measure(rounds: int) -> dict[str, Any]:
    """Times of every contender in every round, in nanoseconds."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-1:])
    rng = np.random.default_rng(0)
    with ExitStack() as stack:
        contenders: dict[str, Callable[[], object]] = {}
        multiplications: dict[str, int] = {}
        for model in (WHOLE, *STREAMS):
            for precision in PRECISIONS:
                name = f"{model} {precision}"
                opened = _open(stack, model, precision)
                contenders[name] = _whole(opened, rng) if model == WHOLE else _step(opened, rng)
                multiplications[name] = _multiplications(model, opened)
        contenders["gemm"] = _gemm(rng)
        multiplications["gemm"] = GEMM**3
        for call in contenders.values():
            for _ in range(5):
                call()
        times: dict[str, list[int]] = {name: [] for name in contenders}
        for _ in range(rounds):
            for name in rng.permutation(list(contenders)):
                started = perf_counter_ns()
                contenders[name]()
                times[name].append(perf_counter_ns() - started)
    return {
        "fingerprint": fingerprint(models_dir(), [WHOLE, *STREAMS]),
        "rounds": rounds,
        "window_s": WINDOW_S,
        "multiplications": multiplications,
        "times_ns": times,
    }


def _open(stack: ExitStack, model: str, precision: str) -> Any:
    context = Context(models_dir(), model, 1, {})
    for axis, name in (("memory", "pooled"), ("kernel", "numpy")):
        context.parts[axis] = stack.enter_context(registry.get(f"{axis}/{name}").open(context))
    return stack.enter_context(registry.get(f"acoustic/ort@{precision}").open(context))


def _gemm(rng: np.random.Generator) -> Callable[[], object]:
    """A large product by the runtime that runs the models."""
    import onnxruntime

    from pipelines.models.graph import GraphWriter, tensor

    writer = GraphWriter()
    matrix = writer.constant("b", rng.standard_normal((GEMM, GEMM)).astype(np.float32))
    writer.node("MatMul", "a", matrix, output="c")
    model = writer.model("gemm", [tensor("a", [GEMM, GEMM])], [tensor("c", [GEMM, GEMM])])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    a = rng.standard_normal((GEMM, GEMM)).astype(np.float32)
    return lambda: session.run(None, {"a": a})


def _whole(model: Any, rng: np.random.Generator) -> Callable[[], object]:
    count = round(WINDOW_S * 16_000)
    batch = AudioBatch((0.1 * rng.standard_normal((1, count))).astype(np.float32), np.array([count]))
    return lambda: model.infer(batch)


def _step(model: Any, rng: np.random.Generator) -> Callable[[], object]:
    state, size = model.open(), model.chunk_samples
    batch = AudioBatch((0.1 * rng.standard_normal((1, size))).astype(np.float32), np.array([size]))
    return lambda: model.infer_chunk([state], batch)


def _multiplications(model: str, opened: Any) -> int:
    """Multiplications of all products with weights, for the window or the chunk (attention itself is left out)."""
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(models_dir() / model / "model.fp32.onnx").graph
    sizes = {tensor.name: numpy_helper.to_array(tensor).size for tensor in graph.initializer}
    products = [node.input[1] for node in graph.node if node.op_type == "MatMul" and node.input[1] in sizes]
    [first] = [sizes[node.input[1]] for node in graph.node if node.op_type == "Conv"]
    samples = round(WINDOW_S * 16_000) if model == WHOLE else opened.chunk_samples + CARRY_SAMPLES
    steps = (samples - 127) // 64 + 1
    halves = (steps - 7) // 3 + 1  # of frames: what the second convolution makes
    frames = (halves - 3) // 2 + 1
    rest = sum(sizes[name] * (halves if name.startswith("conv2") else frames) for name in products)
    return int(first * steps + rest)


def show(result: dict[str, Any]) -> None:
    """Print medians, ratios with intervals, and the distance to the floor."""
    times = {name: np.array(values, float) for name, values in result["times_ns"].items()}
    gemm = np.median(result["multiplications"]["gemm"] / times["gemm"])
    print(f"one core multiplies and adds {gemm:.1f} times a ns (float32, {GEMM} x {GEMM})\n")
    print("| contender | median, ms | p99, ms | floor, ms | over the floor | of the whole model's window, FP32 |")
    print("|---|---:|---:|---:|---:|---:|")
    rng = np.random.default_rng(0)
    for name, values in times.items():
        if name == "gemm":
            continue
        floor = result["multiplications"][name] / gemm / 1e6
        ratio, low, high = _ratio(values, times[f"{WHOLE} fp32"], rng)
        print(
            f"| {name} | {np.median(values) / 1e6:.2f} | {np.quantile(values, 0.99) / 1e6:.2f} | {floor:.2f} "
            f"| {np.median(values) / 1e6 / floor:.1f} | {ratio:.3f} ({low:.3f} to {high:.3f}) |"
        )


def _ratio(a: np.ndarray, b: np.ndarray, rng: np.random.Generator) -> tuple[float, float, float]:
    """The median over rounds of a / b, with its 95 % interval."""
    ratios = a / b
    draws = np.median(ratios[rng.integers(0, len(ratios), (2_000, len(ratios)))], axis=1)
    low, high = np.quantile(draws, (0.025, 0.975))
    return float(np.median(ratios)), float(low), float(high)


if __name__ == "__main__":
    main()
