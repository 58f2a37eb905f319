"""`moonshine-ctc`: the encoder of the package under the layers and the CTC head that we trained."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import Any

from pipelines.models import card, model_card, source, trained
from pipelines.models.recipe import Progress, Recipe, tools

NAME = "moonshine-ctc"
RECIPE_VERSION = 1
WEIGHTS = "weights.safetensors"
TOKENS = "tokens.txt"

_FILES = {
    "model.fp32.onnx": "waveform to log-probabilities, FP32",
    TOKENS: "labels, one a line with its id",
    model_card.FILE: "what the pipelines read first: files, names of inputs and outputs, labels",
}
_RECIPE = (
    "Fold the package's encoder (`pipelines/models/fold.py`); lay the trained tensors over its own.",
    "Write one graph with a norm and an attention that know each row's length (`pipelines/models/ctc_graph.py`).",
)
_LIMITS = (
    "Good at clear read English; writes lower case without punctuation, and numbers as words.",
    "Makes up spellings for names and words that it never heard: it has no language model of its own.",
)
_TOML = """\
family = "ctc"
name = "{name}"
summary = "{summary}"
language = "en"
licence = "MIT (encoder), Apache-2.0 (trained weights)"

[files]
fp32 = "model.fp32.onnx"

[vocabulary]
file = "tokens.txt"

[input]
name = "samples"
lengths = "lengths"
window_samples = {window}

[output]
name = "log_probs"
lengths = "frames"
shift_samples = {shift}
"""
_SUMMARY = "The encoder of Moonshine base-en with trained upper layers and a CTC head: characters of English"


def recipe(weights_dir: Path) -> Recipe:
    """The recipe for the weights in a folder (`weights.safetensors` and `tokens.txt`)."""
    return Recipe(NAME, RECIPE_VERSION, partial(_sources, weights_dir), partial(_build_into, weights_dir))


def _sources(weights_dir: Path) -> dict[str, str]:
    own = {name: source.sha256(weights_dir / name) for name in (WEIGHTS, TOKENS)}
    return {Path(source.ENCODER.path).name: source.ENCODER.sha256, **own}


def _build_into(weights_dir: Path, folder: Path, progress: Progress) -> None:
    import onnx

    from pipelines.models import ctc_graph, graph
    from pipelines.models.fold import fold, read_ort
    from pipelines.models.moonshine import FRAME_SAMPLES, Weights

    def save(model: Any, name: str) -> None:
        progress(f"{NAME}: {name}")
        onnx.save(model, folder / name)

    progress(f"{NAME}: checking the package's files")
    package = Weights.of_encoder(fold(read_ort(source.verified(source.ENCODER))))
    weights = trained.TrainedWeights(trained.load(weights_dir / WEIGHTS), package)
    save(ctc_graph.ctc_graph(weights, graph.float_linear), "model.fp32.onnx")
    shutil.copyfile(weights_dir / TOKENS, folder / TOKENS)
    toml = _TOML.format(name=NAME, summary=_SUMMARY, window=ctc_graph.WINDOW_SAMPLES, shift=FRAME_SAMPLES)
    (folder / model_card.FILE).write_text(toml, "utf-8")
    card.write(
        folder,
        {
            "name": NAME,
            "summary": _SUMMARY + ".",
            "recipe_version": RECIPE_VERSION,
            "package": source.PACKAGE,
            "version": source.VERSION,
            "licence": "MIT, Copyright (c) Moonshine AI, for the encoder; Apache-2.0 for what we trained.",
            "sources": _sources(weights_dir),
            "tools": tools(),
            "files": {name: {"what": what} for name, what in _FILES.items()},
            "recipe": list(_RECIPE),
            "limits": list(_LIMITS),
        },
    )
