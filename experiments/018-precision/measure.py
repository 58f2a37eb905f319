"""What each precision of the streaming model gains at its chunk: steps of all forms, interleaved, on one core.

    python experiments/018-precision/measure.py            # measures, writes result.json and the README's table
    python experiments/018-precision/measure.py --show     # writes the tables of result.json and calibrations anew

Every round runs each form once in an order of its own; a ratio is the median over rounds of FP32's time over the
form's, its interval a bootstrap over rounds. The numbers of the steps are kept.
"""

from __future__ import annotations

import argparse
import json
import os
from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import numpy as np

from harness.documents import filled_in
from harness.fingerprint import fingerprint
from pipelines import registry
from pipelines.contracts import AudioBatch
from pipelines.errors import AmiraError
from pipelines.models.calibration import RULES, Distance, read
from pipelines.models.catalogue import forms_of
from pipelines.models.model_card import ctc_card
from pipelines.paths import model_repo_dir, models_dir
from pipelines.registry import Context

RESULT = Path(__file__).with_name("result.json")
README = Path(__file__).with_name("README.md")
MODEL = "stream-ctc-server"
BASE = "ort@fp32"
FORMS = (
    BASE, "ort@plain", "ort@fp16", "ort@fp16-autocast", "ort@int8", "ort@int8-qdq", "ort@int8-balanced",
    "ort@int8-dynamic", "ort@int8-static", "simd-stream@fp32", "simd-stream@int8", "tensorrt@fp16", "tensorrt@int8",
    "torch-cuda@fp16", "torch-cuda@bf16",
)  # fmt: skip
ROUNDS = 400
TELLING = ("avx512_vnni", "avx_vnni", "avx512f")
"""Features of a CPU that decide how fast INT8 is."""


def main() -> None:
    """Measure, or show what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--show", action="store_true", help="measure nothing: write the stored result's table")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--out", type=Path, default=RESULT, help="where the result goes, or is read from")
    arguments = parser.parse_args()
    if not arguments.show:
        arguments.out.write_text(json.dumps(measure(arguments.rounds)) + "\n", "utf-8")
    tables = all_tables(json.loads(arguments.out.read_text("utf-8"))) | calibrations()
    print(*tables.values(), sep="\n\n")
    if arguments.out == RESULT:
        README.write_text(filled_in(README.read_text("utf-8"), tables), "utf-8")


def measure(rounds: int) -> dict[str, Any]:
    """Times of every form in every round, in nanoseconds, and the reasons of those that cannot run here."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-1:])
    rng = np.random.default_rng(0)
    with ExitStack() as stack:
        calls, missing = {}, {}
        built = ctc_card(models_dir() / MODEL).files
        for form in FORMS:
            precision = form.partition("@")[2]
            if form.startswith("ort@") and precision not in built:
                missing[form] = "not built: see amira models build --precision"
                continue
            try:
                calls[form] = _step(_open(stack, form), rng)
            except AmiraError as error:
                missing[form] = str(error)
        for call in calls.values():
            for _ in range(20):  # until the window of the past is full
                call()
        times: dict[str, list[int]] = {form: [] for form in calls}
        for _ in range(rounds):
            for form in rng.permutation(list(calls)):
                started = perf_counter_ns()
                calls[form]()
                times[form].append(perf_counter_ns() - started)
    print_ = fingerprint(models_dir(), [MODEL])
    return {"fingerprint": print_, "model": MODEL, "rounds": rounds, "times_ns": times, "missing": missing}


def _open(stack: ExitStack, form: str) -> Any:
    context = Context(models_dir(), MODEL, 1, {})
    for axis, name in (("memory", "pooled"), ("kernel", "numpy")):
        context.parts[axis] = stack.enter_context(registry.get(f"{axis}/{name}").open(context))
    return stack.enter_context(registry.get(f"acoustic/{form}").open(context))


def _step(model: Any, rng: np.random.Generator) -> Any:
    state, size = model.open(), model.chunk_samples
    batch = AudioBatch((0.1 * rng.standard_normal((1, size))).astype(np.float32), np.array([size]))
    return lambda: model.infer_chunk([state], batch)


def all_tables(result: dict[str, Any]) -> dict[str, str]:
    """The README's tables by their markers."""
    return {"times": _table(result)}


def calibrations() -> dict[str, str]:
    """What the stored calibrations say of the two forms that come from them."""
    repo = model_repo_dir()
    found = {}
    for path in sorted(repo.glob("*/calibration.json")):
        forms, _ = forms_of(path.parent.name, repo)
        if (calibration := read(path, forms)) is not None:
            found[path.parent.name] = calibration
    fixed = [
        "| model | products | entropy / percentile / largest | all in INT8 | as chosen | left in FP32 |",
        "|---|---:|---|---:|---:|---|",
    ]
    running = [
        "| model | all, one scale a tensor | as chosen | a scale for each row | left in FP32 |",
        "|---|---:|---:|---|---|",
    ]
    for model, it in found.items():
        rules = Counter(it.rules.values())
        fixed.append(
            f"| {model} | {len(it.rules)} | {' / '.join(str(rules[rule]) for rule in RULES)} | "
            f"{_thousandths(it.together['all'])} | {_thousandths(it.together['chosen'])} | {_names(it.float32)} |"
        )
        ways = it.dynamic.ways
        running.append(
            f"| {model} | {_thousandths(it.dynamic.together['all'])} | {_thousandths(it.dynamic.together['chosen'])} | "
            f"{_names(name for name, way in ways.items() if way == 'row')} | "
            f"{_names(name for name, way in ways.items() if way == 'float32')} |"
        )
    return {"fixed scales": "\n".join(fixed), "running scales": "\n".join(running)}


def _thousandths(distance: Distance) -> str:
    return f"{1e3 * distance.divergence:.2f}"


def _names(products: Iterable[str]) -> str:
    return ", ".join(name.removesuffix(".MatMul") for name in products) or "none"


def _table(result: dict[str, Any]) -> str:
    """Medians and ratios with intervals, then what could not be measured and why, in Markdown."""
    times = {form: np.array(values, float) for form, values in result["times_ns"].items()}
    rng = np.random.default_rng(0)
    rows = [
        f"{result['rounds']} rounds on one core of {result['fingerprint']['cpu']['model']} with "
        f"{', '.join(name for name in TELLING if name in result['fingerprint']['cpu']['features']) or 'AVX2'}.\n",
        "| form | median, ms | times as fast as FP32 (95 %) |\n|---|---:|---:|",
    ]
    for form, values in times.items():
        ratios = times[BASE] / values
        picks = rng.integers(0, ratios.size, (2_000, ratios.size))
        low, high = np.quantile(np.median(ratios[picks], axis=1), [0.025, 0.975])
        rows.append(f"| {form} | {np.median(values) / 1e6:.2f} | {np.median(ratios):.2f} ({low:.2f} to {high:.2f}) |")
    rows += [f"| {form} | not measured | {reason} |" for form, reason in result["missing"].items()]
    return "\n".join(rows)


if __name__ == "__main__":
    main()
