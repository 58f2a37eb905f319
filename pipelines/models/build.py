"""`moonshine-aed`: the default model, made from the files of its package."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from pipelines.models import calibration, card, forms, model_card, source
from pipelines.models.recipe import Progress, Recipe, tools

NAME = "moonshine-aed"
RECIPE_VERSION = 7

_FILES = {
    "encoder-exported.fp32.onnx": "encoder as exported by its authors, folded (plain opset 14, for any runtime)",
    "decoder-exported.fp32.onnx": "decoder as exported by its authors (one graph with an `If`), folded (opset 14)",
    "cross.fp32.onnx": "hidden states to cross-attention keys and values",
    "step.fp32.onnx": "decoder step: tokens and cache to logits and cache",
    "step.fp32-shortlist.onnx": "decoder step, logits in INT8 with the best 32 again in FP32",
    "cross.int8.onnx": "`cross` with integer matrix products",
    "step.int8.onnx": "decoder step with the shipped int8 weights and block-wise 8-bit activations",
    "panels.npz": "the shipped int8 weights of both halves, packed for `acoustic/simd`",
    "tokenizer.bin": "token table, as shipped",
    model_card.FILE: "what the pipelines read first: the model's family",
}
_RECIPE = (
    "Load the `.ort` file in ONNX Runtime with optimisation off and have it written back as ONNX.",
    "Fold each dequantisation chain (Cast, Mul, Add) into a float32 initializer; name the graphs; drop foreign opsets.",
    "Write the encoder anew from the folded weights with fused products and norms "
    "(`pipelines/models/encoder_graph.py`), and the decoder as `cross` and `step` "
    "(`pipelines/models/decoder_graph.py`).",
    "INT8: keep the shipped int8 weights bit for bit; round activations while running (one scale for a tensor in the "
    "encoder and `cross`, one for each row and block of 32 in `step`); leave the encoder's convolutions in FP32.",
)
_LIMITS = (
    "Good at clear read or spoken English in clips of a few seconds to half a minute.",
    "May return nothing for spelled letters, single digits and heavily accented or halting speech.",
    "May invent words for noise or music; it has no voice activity detection of its own.",
    "Gives no word times and no confidences.",
    "What it was trained on is not published in the package, so public test sets may have been part of it.",
)
_TOML = f"""\
family = "aed"
name = "{NAME}"
summary = "Moonshine base-en, an attention encoder-decoder for English speech"
language = "en"
licence = "MIT"
"""


def recipe(repo_dir: Path, precisions: tuple[str, ...]) -> Recipe:
    """The recipe; the calibration of its INT8 encoder is in `repo_dir`."""
    calibrated = repo_dir / NAME / calibration.FILE

    def sources() -> dict[str, str]:
        files = {Path(file.path).name: file.sha256 for file in (source.ENCODER, source.DECODER, source.TOKENIZER)}
        return files | ({calibration.FILE: source.sha256(calibrated)} if calibrated.is_file() else {})

    def build_into(folder: Path, progress: Progress) -> None:
        _build_into(folder, progress, precisions, calibrated, sources())

    return Recipe(NAME, RECIPE_VERSION, precisions, sources, build_into)


def _build_into(
    folder: Path, progress: Progress, precisions: tuple[str, ...], calibrated: Path, made_from: dict[str, str]
) -> None:
    import numpy as np
    import onnx

    from pipelines.models import decoder_graph, graph, ladder, panels
    from pipelines.models.fold import fold, read_ort
    from pipelines.models.moonshine import Weights

    def save(model: Any, name: str) -> None:
        progress(f"{NAME}: {name}")
        onnx.save(model, folder / name)

    progress(f"{NAME}: checking the package's files")
    paths = {file: source.verified(file) for file in (source.ENCODER, source.DECODER, source.TOKENIZER)}
    encoder = fold(read_ort(paths[source.ENCODER]))
    save(encoder.model, "encoder-exported.fp32.onnx")
    encoders = ladder.writers(forms.encoder_forms(), precisions, calibrated, progress)
    for form, make in encoders.items():
        save(make(), f"encoder.{form}.onnx")
    decoder = fold(read_ort(paths[source.DECODER]))
    save(decoder.model, "decoder-exported.fp32.onnx")
    weights = Weights.of_decoder(decoder)
    save(decoder_graph.cross_graph(weights, graph.float_linear), "cross.fp32.onnx")
    save(decoder_graph.cross_graph(weights, graph.integer_linear), "cross.int8.onnx")
    steps = {
        "step.fp32.onnx": (graph.float_linear, decoder_graph.float_vocabulary),
        "step.fp32-shortlist.onnx": (graph.float_linear, decoder_graph.shortlist_vocabulary),
        "step.int8.onnx": (graph.blockwise_linear, decoder_graph.blockwise_vocabulary),
    }
    for name, (linear, vocabulary) in steps.items():
        save(decoder_graph.step_graph(weights, linear, vocabulary), name)
    progress(f"{NAME}: panels.npz")
    np.savez(folder / "panels.npz", **panels.encoder_panels(encoder), **panels.decoder_panels(weights))  # type: ignore[arg-type]
    shutil.copyfile(paths[source.TOKENIZER], folder / "tokenizer.bin")
    (folder / model_card.FILE).write_text(_TOML, "utf-8")
    files = _FILES | {f"encoder.{form}.onnx": f"encoder, our graph: {forms.ABOUT[form]}" for form in encoders}
    card.write(
        folder,
        {
            "name": NAME,
            "summary": "Moonshine base-en, an attention encoder-decoder for English speech (61.5 M parameters).",
            "recipe_version": RECIPE_VERSION,
            "package": source.PACKAGE,
            "version": source.VERSION,
            "licence": "MIT, Copyright (c) Moonshine AI; the package carries the licence text.",
            "precisions": list(precisions),
            "sources": made_from,
            "tools": tools(),
            "files": {name: {"what": what} for name, what in files.items()},
            "recipe": list(_RECIPE),
            "limits": list(_LIMITS),
        },
    )
