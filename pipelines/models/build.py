"""`amira models build`: the default models, made from the files of their package."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from pipelines.models import card, source

NAME = "moonshine-aed"
RECIPE_VERSION = 4
"""Counts up with every change of the recipe, so that older builds are made anew."""
Progress = Callable[[str], None]

_FILES = {
    "encoder-exported.fp32.onnx": "encoder as exported by its authors, folded (plain opset 14, for any runtime)",
    "decoder-exported.fp32.onnx": "decoder as exported by its authors (one graph with an `If`), folded (opset 14)",
    "encoder.fp32.onnx": "encoder, our graph: waveform to hidden states",
    "cross.fp32.onnx": "hidden states to cross-attention keys and values",
    "step.fp32.onnx": "decoder step: tokens and cache to logits and cache",
    "step.fp32-shortlist.onnx": "decoder step, logits in INT8 with the best 32 again in FP32",
    "encoder.int8.onnx": "encoder with integer matrix products (shipped int8 weights, uint8 activations; FP32 stem)",
    "cross.int8.onnx": "`cross` with integer matrix products",
    "step.int8.onnx": "decoder step with the shipped int8 weights and block-wise 8-bit activations",
    "tokenizer.bin": "token table, as shipped",
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


def build(models_dir: Path, progress: Progress, *, force: bool = False) -> Path:
    """Make the default model, unless it is there and whole; returns its folder.

    The folder appears only when it is complete: a build that is cut short leaves nothing behind that is used.

    Raises:
        AmiraError: The package's files are missing or have the wrong hash.
    """
    folder = models_dir / NAME
    if not force and is_current(folder):
        progress(f"{NAME}: up to date")
        return folder
    models_dir.mkdir(parents=True, exist_ok=True)
    work = Path(mkdtemp(prefix=f".{NAME}-", dir=models_dir))
    try:
        _build_into(work, progress)
        if folder.exists():
            shutil.rmtree(folder)
        work.replace(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    progress(f"{NAME}: built")
    return folder


def is_current(folder: Path) -> bool:
    """Whether the folder holds a whole build of this recipe; files are compared by size, not read."""
    made = card.read(folder)
    if made is None or made.get("recipe_version") != RECIPE_VERSION or made.get("tools") != _tools():
        return False
    files: dict[str, dict[str, Any]] = made["files"]
    return all(
        (folder / name).is_file() and (folder / name).stat().st_size == entry["bytes"] for name, entry in files.items()
    )


def _tools() -> dict[str, str]:
    return {name: version(name) for name in ("onnx", "onnxruntime", "numpy")}


def _build_into(folder: Path, progress: Progress) -> None:
    import onnx

    from pipelines.models import decoder_graph, encoder_graph, graph
    from pipelines.models.fold import fold, read_ort
    from pipelines.models.moonshine import Weights

    def save(model: Any, name: str) -> None:
        progress(f"{NAME}: {name}")
        onnx.save(model, folder / name)

    progress(f"{NAME}: checking the package's files")
    paths = {file: source.verified(file) for file in (source.ENCODER, source.DECODER, source.TOKENIZER)}
    encoder = fold(read_ort(paths[source.ENCODER]))
    save(encoder.model, "encoder-exported.fp32.onnx")
    save(encoder_graph.encoder_graph(encoder, graph.float_linear), "encoder.fp32.onnx")
    save(encoder_graph.encoder_graph(encoder, graph.integer_linear), "encoder.int8.onnx")
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
    shutil.copyfile(paths[source.TOKENIZER], folder / "tokenizer.bin")
    card.write(
        folder,
        {
            "name": NAME,
            "summary": "Moonshine base-en, an attention encoder-decoder for English speech (61.5 M parameters).",
            "recipe_version": RECIPE_VERSION,
            "package": source.PACKAGE,
            "version": source.VERSION,
            "licence": "MIT, Copyright (c) Moonshine AI; the package carries the licence text.",
            "sources": {Path(file.path).name: file.sha256 for file in paths},
            "tools": _tools(),
            "files": {name: {"what": what} for name, what in _FILES.items()},
            "recipe": list(_RECIPE),
            "limits": list(_LIMITS),
        },
    )
