"""How far the model's two halves are from the machine's floor, all measured interleaved in one process and one thread.

Encoder: time by form on 1 s and 10 s of audio, beside the operations it needs over the machine's GEMM rate.
Decoder: time of one step by form, beside the bytes of weights it must read over the machine's read bandwidth.

    .venv/bin/python experiments/001-floor/floor.py            # measure, write result.json, print the tables
    .venv/bin/python experiments/001-floor/floor.py --show     # print the tables of the stored result
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from time import perf_counter_ns
from typing import Any

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
os.environ.update(dict.fromkeys(THREADS, "1"))

import numpy as np  # noqa: E402 - after the thread settings

from harness.fingerprint import fingerprint  # noqa: E402
from pipelines.acoustic.moonshine import frames  # noqa: E402
from pipelines.audio.read import read_audio  # noqa: E402
from pipelines.contracts import AudioBatch  # noqa: E402
from pipelines.models import moonshine as m  # noqa: E402
from pipelines.models import source  # noqa: E402
from pipelines.models.build import NAME  # noqa: E402
from pipelines.pages import collapse_all  # noqa: E402
from pipelines.paths import models_dir  # noqa: E402
from pipelines.registry import Context, get  # noqa: E402

RESULT = Path(__file__).with_name("result.json")
HUGE = "fp32 on huge pages"
FORMS = ("shipped", "folded", "fp32", HUGE, "int8")
SECONDS = (1, 10)
ROUNDS = 15
PAST = 20
"""Tokens already said when a step is timed."""


def main() -> None:
    """Measure or show."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--show", action="store_true", help="print the stored result")
    if not parser.parse_args().show:
        RESULT.write_text(json.dumps(measure(), indent=1) + "\n", "utf-8")
    print(tables(json.loads(RESULT.read_text("utf-8"))))


def measure() -> dict[str, Any]:
    """Everything, in `ROUNDS` interleaved rounds; times in ms."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    pcm = read_audio(source.package_file("moonshine_cpp/test-data/beckett.wav")).pcm16
    samples = np.frombuffer(pcm, "<i2").astype(np.float32)[None] / 32768
    samples = np.concatenate([samples, samples], axis=1)
    with ExitStack() as stack:
        # What is loaded before the call moves onto huge pages, what is loaded after it stays on normal ones.
        models = {HUGE: _open(stack, "fp32")}
        moved = collapse_all()
        models |= {form: _open(stack, form) for form in FORMS if form != HUGE}
        calls: dict[str, Callable[[], object]] = {}
        for seconds in SECONDS:
            clip = AudioBatch(samples[:, : seconds * 16_000], np.array([seconds * 16_000]))
            for form in FORMS:
                calls[f"encoder {form} {seconds} s"] = lambda model=models[form], clip=clip: _encode(model, clip)
        clip = AudioBatch(samples[:, :160_000], np.array([160_000]))
        steps = {form: _stepper(stack, models[form], clip) for form in FORMS}
        calls |= {"read 256 MiB": _reader(), "gemm 1024": _gemm()}
        times: dict[str, list[float]] = {name: [] for name in [*calls, *(f"step {form}" for form in FORMS)]}
        for round_ in range(ROUNDS + 1):
            for name, call in calls.items():
                times[name].append(_time(call))
            for form, step in steps.items():
                times[f"step {form}"] += step()
            if round_ == 0:
                times = {name: [] for name in times}  # the first round warms up
            print(f"round {round_} of {ROUNDS}", file=sys.stderr)
        errors = {form: _error(models["shipped"], models[form], clip) for form in FORMS[1:]}
    return {
        "rounds": ROUNDS,
        "median_ms": {name: median(values) for name, values in times.items()},
        "samples_ms": times,
        "encoder_error": errors,
        "moved_onto_huge_pages_bytes": moved,
        "fingerprint": fingerprint(models_dir(), [NAME]),
    }


def _open(stack: ExitStack, form: str) -> Any:
    context = Context(models_dir(), NAME, 1, {})
    context.parts["memory"] = stack.enter_context(get("memory/pooled").open(context))
    return stack.enter_context(get(f"acoustic/ort@{form}").open(context))


def _encode(model: Any, clip: AudioBatch) -> None:
    with model.encode(clip):
        pass


def _stepper(stack: ExitStack, model: Any, clip: AudioBatch) -> Callable[[], list[float]]:
    """Times five single-token steps after `PAST` tokens."""
    encoded = stack.enter_context(model.encode(clip))

    def run() -> list[float]:
        with model.open(encoded, PAST + 5) as state:
            for token in range(PAST):
                model.step(state, (100 + token,))
            return [_time(lambda: model.step(state, (7,))) for _ in range(5)]

    return run


def _reader() -> Callable[[], object]:
    block = np.ones(256 << 18, np.float32)
    return block.sum


def _gemm() -> Callable[[], object]:
    a = np.ones((1024, 1024), np.float32)
    return lambda: a @ a


def _time(call: Callable[[], object]) -> float:
    start = perf_counter_ns()
    call()
    return (perf_counter_ns() - start) / 1e6


def _error(reference: Any, model: Any, clip: AudioBatch) -> float:
    with reference.encode(clip) as expected, model.encode(clip) as found:
        return float(np.linalg.norm(found.hidden - expected.hidden) / np.linalg.norm(expected.hidden))


def encoder_operations(seconds: float) -> float:
    """Floating-point operations (two a multiply-add) of the encoder: stem, products with weights, attention."""
    count = int(seconds * 16_000)
    first = (count - 127) // 64 + 1
    second = (first - 7) // 3 + 1
    third = int(frames(count))
    stem = first * 127 * m.WIDTH + second * 7 * m.WIDTH * 2 * m.WIDTH + third * 3 * 2 * m.WIDTH * m.WIDTH
    layer = third * (4 * m.WIDTH**2 + 2 * 4 * m.WIDTH**2) + 2 * third**2 * m.WIDTH
    return 2.0 * (stem + m.LAYERS * layer)


def step_weights() -> int:
    """Weights that one decoder step must read: attention, feed-forward and output projection."""
    return m.LAYERS * (4 + 2) * m.WIDTH**2 + m.LAYERS * 3 * 4 * m.WIDTH**2 + m.VOCABULARY * m.WIDTH


def tables(result: dict[str, Any]) -> str:
    """The result as Markdown."""
    ms = result["median_ms"]
    gemm = 2 * 1024**3 / ms["gemm 1024"] / 1e6
    read = (256 << 20) / ms["read 256 MiB"] / 1e6
    lines = [
        f"One core: {gemm:.0f} GFLOP/s in a NumPy FP32 product of 1,024 x 1,024, {read:.1f} GB/s reading memory. "
        f"Medians of {result['rounds']} interleaved rounds.",
        "",
        "| encoder | 1 s, ms | against shipped | 10 s, ms | against shipped | error against shipped |",
        "|---|---|---|---|---|---|",
    ]
    for form in FORMS:
        short, long = (ms[f"encoder {form} {seconds} s"] for seconds in SECONDS)
        gains = [ms[f"encoder shipped {seconds} s"] / ms[f"encoder {form} {seconds} s"] for seconds in SECONDS]
        error = result["encoder_error"].get(form, 0.0)
        lines.append(f"| {form} | {short:.1f} | {gains[0]:.2f}x | {long:.0f} | {gains[1]:.2f}x | {error:.1e} |")
    floors = [encoder_operations(seconds) / gemm / 1e6 for seconds in SECONDS]
    away = [ms[f"encoder {HUGE} {seconds} s"] / floor for seconds, floor in zip(SECONDS, floors, strict=True)]
    lines += [
        f"| FP32 floor ({encoder_operations(1) / 1e9:.1f} and {encoder_operations(10) / 1e9:.0f} GFLOP) "
        f"| {floors[0]:.1f} | best is {away[0]:.2f}x away | {floors[1]:.0f} | best is {away[1]:.2f}x away | |",
        "",
        "| decoder step | ms | against shipped | weights read, MB | floor, ms | times the floor |",
        "|---|---|---|---|---|---|",
    ]
    for form, size in (("shipped", 4.0), ("folded", 4.0), ("fp32", 4.0), (HUGE, 4.0), ("int8", 1.0 + 5 / 32)):
        time, volume = ms[f"step {form}"], step_weights() * size / 1e6
        floor = volume / read
        gain = ms["step shipped"] / time
        lines.append(f"| {form} | {time:.2f} | {gain:.1f}x | {volume:.0f} | {floor:.1f} | {time / floor:.2f} |")
    int8_gain = ms["encoder fp32 1 s"] / ms["encoder int8 1 s"]
    lines += ["", f"INT8 against FP32, encoder on 1 s: {int8_gain:.2f}x."]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
