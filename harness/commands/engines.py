"""`amira engines`: TensorRT engines of a model's forms, built and compared."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from time import perf_counter
from typing import Annotated, Any

import typer

from harness.output import Json, print_json, print_table, say

app = typer.Typer(no_args_is_help=True, help="Build TensorRT engines, and compare them with ONNX Runtime.")
MIB = 2**20


@app.command()
def build(
    model: Annotated[str, typer.Argument(help="A CTC model's name or folder.")],
    forms: Annotated[str, typer.Option(help="Which forms of it, with commas.")] = "plain,fp16,int8-qdq",
    targets: Annotated[
        str, typer.Option(help="Compute capabilities, with commas (TensorRT-RTX alone); empty for the GPU at hand.")
    ] = "",
    rtx: Annotated[bool, typer.Option("--rtx", help="With TensorRT-RTX, which needs no GPU to build.")] = False,
    refit: Annotated[bool, typer.Option("--refit", help="Weights can be changed later.")] = False,
    version_compatible: Annotated[bool, typer.Option("--version-compatible", help="For later versions, too.")] = False,
    json: Json = False,
) -> None:
    """Parse and compile a model's forms into engines; those that are there already are kept.

    The INT8 form is built twice, its other products in FP32 and in FP16. Engines lie in build/engines, named by all
    that they depend on.

    Examples:  amira engines build stream-ctc-server --rtx --targets sm80,sm89    amira engines build moonshine-ctc
    """
    from pipelines.engines import api
    from pipelines.engines import build as engines
    from pipelines.errors import AmiraError
    from pipelines.models.locate import model_folder
    from pipelines.models.model_card import ctc_card, file_of
    from pipelines.paths import engines_dir, models_dir

    folder = model_folder(models_dir(), model)
    card = ctc_card(folder)
    chunk = card.streaming.chunk_frames * card.output.shift_samples if card.streaming else None
    profile = engines.profile_of(chunk)
    found = api.load("tensorrt_rtx" if rtx else "tensorrt")
    wanted: list[str | None] = [name.strip() for name in targets.split(",") if name.strip()] or [None]
    if wanted == [None] and not api.has_gpu():
        raise AmiraError(
            "there is no NVIDIA GPU to build for. Name compute capabilities and build with TensorRT-RTX: "
            "amira engines build MODEL --rtx --targets sm80,sm89,sm120"
        )
    gpu = _gpu() if api.has_gpu() else "no GPU"
    rows: list[dict[str, Any]] = []
    for form in forms.split(","):
        file = file_of(card, folder, form)
        for half in (False, True) if form == "int8-qdq" else (False,):
            for target in wanted:
                options = engines.Options(target, half, refit, version_compatible)
                started = perf_counter()
                path = engines.engine(file, found, gpu, profile, options, engines_dir(), say)
                rows.append(
                    {
                        "form": f"{form} + fp16" if half else form,
                        "target": target or gpu,
                        "profile": profile.name,
                        "bytes": path.stat().st_size,
                        "seconds": round(perf_counter() - started, 1),
                        "builder": f"{found.kind} {found.version}",
                        "ran": "not measured: there is no GPU" if not api.has_gpu() else "",
                    }
                )
    if json:
        print_json({"model": card.name, "engines": rows})
        return
    print_table(
        f"{card.name}: engines",
        ("form", "for", "profile", "MiB", "s", "built with"),
        [
            (row["form"], row["target"], row["profile"], f"{row['bytes'] / MIB:.1f}", row["seconds"], row["builder"])
            for row in rows
        ],
    )


@app.command()
def compare(
    model: Annotated[str, typer.Argument(help="A CTC model's name or folder.")],
    form: Annotated[str, typer.Option(help="Which of its forms.")] = "fp16",
    tolerance: Annotated[float, typer.Option(min=0, help="Largest absolute difference.")] = 0.05,
) -> None:
    """Run a form in TensorRT and in ONNX Runtime on the same inputs (`polygraphy run`).

    Where they differ, every layer is compared and the exit code is 1. Needs a GPU, TensorRT and polygraphy.
    """
    from pipelines.engines import api
    from pipelines.errors import AmiraError
    from pipelines.models.locate import model_folder
    from pipelines.models.model_card import ctc_card, file_of
    from pipelines.paths import models_dir

    problem = api.problem()
    if problem is not None:
        raise AmiraError(f"engines cannot run here: {problem.reason}. {problem.remedy}")
    if find_spec("polygraphy") is None:
        raise AmiraError("polygraphy is not installed: pip install 'amira-asr[gpu]'")
    folder = model_folder(models_dir(), model)
    card = ctc_card(folder)
    samples = card.streaming.chunk_frames * card.output.shift_samples if card.streaming else 32_000
    command = [
        sys.executable, "-m", "polygraphy", "run", str(file_of(card, folder, form)), "--trt", "--onnxrt",
        "--strongly-typed", "--atol", str(tolerance), "--input-shapes", f"{card.input.name}:[1,{samples}]",
    ]  # fmt: skip
    if subprocess.run(command, check=False).returncode == 0:
        say(f"{card.name}, {form}: TensorRT and ONNX Runtime agree within {tolerance}")
        return
    say("they differ; once more with every layer's output")
    every = ["--trt-outputs", "mark", "all", "--onnx-outputs", "mark", "all", "--fail-fast"]
    subprocess.run([*command, *every], check=False)
    sys.exit(1)


def _gpu() -> str:
    from pipelines.acoustic.tensorrt import gpu_name

    return gpu_name()
