"""How far the model's two halves are from the machine's floor, all measured interleaved in one process and one thread.

Encoder: time by form on 1 s and 10 s of audio, beside the operations it needs over the rate of multiply-adds that one
core reaches in registers. Decoder: time of one step by form, beside the bytes of weights it must read over the rate at
which one core reads memory. Both rates are measured in the same rounds (`kernels.limits`).

    .venv/bin/python experiments/001-floor/floor.py           # measure, write result.json and README.md's tables
    .venv/bin/python experiments/001-floor/floor.py --show    # print the tables of the stored result, and write them
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

from harness.documents import filled_in  # noqa: E402
from harness.fingerprint import fingerprint  # noqa: E402
from kernels import cpu, limits  # noqa: E402
from kernels.buffers import aligned_block  # noqa: E402
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
README = Path(__file__).with_name("README.md")
FORMS = {
    "shipped": "ort@shipped",
    "folded": "ort@folded",
    "fp32": "ort@fp32",
    "fp32 on huge pages": "ort@fp32",
    "simd": "simd@fp32",
    "simd on huge pages": "simd@fp32",
    "int8": "ort@int8",
}
"""Acoustic variants by the name of their row."""
HUGE = "on huge pages"
SECONDS = (1, 10)
ROUNDS = 7
LANES = 8 if cpu.missing("avx512") else 16
FMA_TIMES = 400_000
FMA_OPERATIONS = 2 * FMA_TIMES * limits.CHAINS * LANES
READ_BYTES = 256 << 20
PAST = 20
"""Tokens already said when a step is timed."""


def main() -> None:
    """Measure or show."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--show", action="store_true", help="print the stored result")
    if not parser.parse_args().show:
        RESULT.write_text(json.dumps(measure(), indent=1) + "\n", "utf-8")
    tables = all_tables(json.loads(RESULT.read_text("utf-8")))
    for table in tables.values():
        print(f"{table}\n")
    README.write_text(filled_in(README.read_text("utf-8"), tables), "utf-8")


def measure() -> dict[str, Any]:
    """Everything, in `ROUNDS` interleaved rounds; times in ms."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    pcm = read_audio(source.package_file("moonshine_cpp/test-data/beckett.wav")).pcm16
    samples = np.frombuffer(pcm, "<i2").astype(np.float32)[None] / 32768
    samples = np.concatenate([samples, samples], axis=1)
    with ExitStack() as stack:
        # What is loaded before the call moves onto huge pages, what is loaded after it stays on normal ones.
        models = {form: _open(stack, FORMS[form]) for form in FORMS if form.endswith(HUGE)}
        moved = collapse_all()
        models |= {form: _open(stack, FORMS[form]) for form in FORMS if form not in models}
        calls: dict[str, Callable[[], object]] = {}
        for seconds in SECONDS:
            clip = AudioBatch(samples[:, : seconds * 16_000], np.array([seconds * 16_000]))
            for form in FORMS:
                calls[f"encoder {form} {seconds} s"] = lambda model=models[form], clip=clip: _encode(model, clip)
        clip = AudioBatch(samples[:, :160_000], np.array([160_000]))
        steps = {form: _stepper(stack, models[form], clip) for form in FORMS}
        calls |= {"read 256 MiB": _reader(), "multiply-adds": _multiply_adds()}
        times: dict[str, list[float]] = {name: [] for name in [*calls, *(f"step {form}" for form in FORMS)]}
        for round_ in range(ROUNDS + 1):
            for name, call in calls.items():
                times[name].append(_time(call))
            for form, step in steps.items():
                times[f"step {form}"] += step()
            if round_ == 0:
                times = {name: [] for name in times}  # the first round warms up
            print(f"round {round_} of {ROUNDS}", file=sys.stderr)
        errors = {form: _error(models["shipped"], models[form], clip) for form in FORMS}
    return {
        "rounds": ROUNDS,
        "lanes": LANES,
        "median_ms": {name: median(values) for name, values in times.items()},
        "samples_ms": times,
        "encoder_error": errors,
        "moved_onto_huge_pages_bytes": moved,
        "fingerprint": fingerprint(models_dir(), [NAME]),
    }


def _open(stack: ExitStack, name: str) -> Any:
    context = Context(models_dir(), NAME, 1, {})
    context.parts["memory"] = stack.enter_context(get("memory/pooled").open(context))
    return stack.enter_context(get(f"acoustic/{name}").open(context))


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
    block = aligned_block(READ_BYTES).view(np.float32)
    block[:] = 1
    read, out = limits.read_loop(LANES).call, np.zeros(1, np.float32)
    return lambda: read(block, out)


def _multiply_adds() -> Callable[[], object]:
    run, out = limits.fma_loop(LANES).call, np.zeros(1, np.float32)
    return lambda: run(FMA_TIMES, out)


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


def rates(result: dict[str, Any]) -> tuple[float, float]:
    """GFLOP/s and GB/s of one core: the best of the rounds, since a floor is what is possible."""
    samples = result["samples_ms"]
    lanes = result["lanes"]
    operations = FMA_OPERATIONS * lanes / LANES
    return operations / min(samples["multiply-adds"]) / 1e6, READ_BYTES / min(samples["read 256 MiB"]) / 1e6


def rates_line(result: dict[str, Any]) -> str:
    """What the core can do."""
    operations, read = rates(result)
    return (
        f"One core: {operations:.0f} GFLOP/s of FP32 multiply-adds in registers ({32 * result['lanes']}-bit vectors), "
        f"{read:.1f} GB/s reading memory. Medians of {result['rounds']} interleaved rounds."
    )


def encoder_table(result: dict[str, Any]) -> str:
    """The encoder by form."""
    ms = result["median_ms"]
    lines = [
        "| encoder | 1 s, ms | against shipped | times the floor | 10 s, ms | against shipped | times the floor "
        "| error against shipped |",
        "|---|---|---|---|---|---|---|---|",
    ]
    floors = [encoder_operations(seconds) / rates(result)[0] / 1e6 for seconds in SECONDS]
    for form, variant in FORMS.items():
        cells = []
        for seconds, floor in zip(SECONDS, floors, strict=True):
            time = ms[f"encoder {form} {seconds} s"]
            away = f"{time / floor:.2f}" if variant.endswith("fp32") or variant == "ort@folded" else ""
            cells.append(f"{time:.1f} | {ms[f'encoder shipped {seconds} s'] / time:.2f}x | {away}")
        lines.append(f"| {form} | {' | '.join(cells)} | {result['encoder_error'][form]:.1e} |")
    short, long = (f"{floor:.1f} | | " for floor in floors)
    operations = [encoder_operations(seconds) / 1e9 for seconds in SECONDS]
    lines.append(f"| FP32 floor ({operations[0]:.1f} and {operations[1]:.0f} GFLOP) | {short} | {long} | |")
    int8_gain = ms["encoder fp32 1 s"] / ms["encoder int8 1 s"]
    lines += ["", f"`ort@int8` against `ort@fp32`, encoder on 1 s: {int8_gain:.2f}x."]
    return "\n".join(lines)


BYTES_A_WEIGHT = {"fp32": 4.0, "simd": 1.0, "int8": 1.0 + 5 / 32}
"""What a step reads for each weight: `MatMulNBits` keeps a scale and a zero point for each block of 32."""


def step_table(result: dict[str, Any]) -> str:
    """One decoder step by form."""
    ms = result["median_ms"]
    lines = [
        "| decoder step | ms | against shipped | weights read, MB | floor, ms | times the floor |",
        "|---|---|---|---|---|---|",
    ]
    for form, variant in FORMS.items():
        kind = "simd" if variant.startswith("simd") else "int8" if variant.endswith("int8") else "fp32"
        time, volume = ms[f"step {form}"], step_weights() * BYTES_A_WEIGHT[kind] / 1e6
        floor = volume / rates(result)[1]
        gain = ms["step shipped"] / time
        lines.append(f"| {form} | {time:.2f} | {gain:.1f}x | {volume:.0f} | {floor:.2f} | {time / floor:.2f} |")
    return "\n".join(lines)


def all_tables(result: dict[str, Any]) -> dict[str, str]:
    """Every table by its name in README.md."""
    return {"rates": rates_line(result), "encoder": encoder_table(result), "step": step_table(result)}


if __name__ == "__main__":
    main()
