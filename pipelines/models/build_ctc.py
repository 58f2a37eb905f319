"""The CTC models, made from the weights that we trained over the package's encoder.

`moonshine-ctc` and `moonshine-ctc-tokens` hear whole clips; `stream-ctc-server`, `stream-ctc-tokens` and
`stream-ctc-draft` hear chunks.
Each has a folder of weights in `model-repo/`: `weights.safetensors`, `tokens.txt`, `config.json`, and if it says more
about itself, a `README.md`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipelines.errors import AmiraError
from pipelines.models import calibration, card, forms, ladder, model_card, source, training_card
from pipelines.models.recipe import Progress, Recipe, tools

RECIPE_VERSION = 9
WEIGHTS, TOKENS, CONFIG, ABOUT = "weights.safetensors", "tokens.txt", "config.json", "README.md"


class Config(BaseModel):
    """What a folder of weights says besides its tensors; keys that are not listed here are for other readers.

    Attributes:
        streaming: Whether it is a model of chunks.
        layers: Layers from the bottom.
        left_frames: Frames before its chunk that a frame attends to.
        chunk_frames: Frames of a chunk where nobody asks for another number.
        stem_mean: Taken away from the stem's first output, in place of its mean over time.
        stem_std: What is left is divided by it.
        units: `labels` of one product, or `tokens` of the package's decoder (`token_head`).
        over: The folder beside it whose weights lie below its own; empty for none.
        facts: What its training wrote down of itself, for the card.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    streaming: bool = False
    layers: int = Field(default=8, ge=1)
    left_frames: int = Field(default=0, ge=0)
    chunk_frames: int = Field(default=7, ge=1)
    stem_mean: float = 0.0
    stem_std: float = Field(default=1.0, gt=0)
    units: Literal["labels", "tokens"] = "labels"
    over: str = ""
    facts: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class _Model:
    """What one of the models says about itself."""

    summary: str
    limits: tuple[str, ...]


MODELS: Mapping[str, _Model] = {
    "moonshine-ctc": _Model(
        "The encoder of Moonshine base-en with trained upper layers and a CTC head: characters of English",
        (
            "Writes lower case without punctuation, and numbers as words; spells a word that it does not know as it "
            "sounds.",
            "A clip of less than 0.06 s has no frame, and so no text.",
        ),
    ),
    "moonshine-ctc-tokens": _Model(
        "The encoder of Moonshine base-en with trained upper layers and a CTC head: the tokens of Moonshine's decoder",
        (
            "Writes lower case without punctuation, and numbers as words.",
            "A clip of less than 0.06 s has no frame, and so no text.",
        ),
    ),
    "stream-ctc-server": _Model(
        "Moonshine's layers trained to hear speech chunk by chunk, with a CTC head: for servers",
        (
            "For partial results while someone speaks; a whole-clip model corrects them at the end.",
            "No frame waits for audio behind its own chunk.",
        ),
    ),
    "stream-ctc-tokens": _Model(
        "All of Moonshine's layers trained to hear speech chunk by chunk, with a head that writes its decoder's tokens",
        (
            "A word is written when it is over and not letter by letter: for partial results of sentences.",
            "No frame waits for audio behind its own chunk.",
        ),
    ),
    "stream-ctc-draft": _Model(
        "A small model of the same kind, at most 8 MB in INT8: for browsers and drafts",
        ("For first drafts where every megabyte counts; expect more errors than from the server size.",),
    ),
}


def recipe(weights_dir: Path, precisions: tuple[str, ...] = forms.DEFAULT) -> Recipe:
    """The recipe for the weights in a folder, which has the model's name."""
    build_into = partial(_build_into, weights_dir, precisions)
    return Recipe(weights_dir.name, RECIPE_VERSION, precisions, partial(_sources, weights_dir), build_into)


def read_config(weights_dir: Path) -> Config:
    """What a folder of weights says besides its tensors.

    Raises:
        AmiraError: It is not there, or says something that cannot be.
    """
    path = weights_dir / CONFIG
    try:
        return Config.model_validate(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, ValidationError) as error:
        raise AmiraError(f"cannot read the configuration {path}: {error}") from error


def _sources(weights_dir: Path) -> dict[str, str]:
    own = {path.name: source.sha256(path) for path in sorted(weights_dir.iterdir()) if path.is_file()}
    return lower_sources(weights_dir) | own


def files_of_weights(weights_dir: Path) -> list[Path]:
    """The files of weights that a model is made from, each over those before."""
    over = read_config(weights_dir).over
    lower = files_of_weights(weights_dir.parent / over) if over else []
    return [*lower, weights_dir / WEIGHTS]


def lower_sources(weights_dir: Path) -> dict[str, str]:
    """What lies below a model's own folder, with its hash: files of the package, weights of another model."""
    package = (source.ENCODER, source.DECODER) if read_config(weights_dir).units == "tokens" else (source.ENCODER,)
    found = {Path(file.path).name: file.sha256 for file in package}
    weights = files_of_weights(weights_dir)[:-1]
    return found | {path.relative_to(weights_dir.parent).as_posix(): source.sha256(path) for path in weights}


def _build_into(weights_dir: Path, precisions: tuple[str, ...], folder: Path, progress: Progress) -> None:
    import onnx

    name = weights_dir.name
    config = read_config(weights_dir)
    progress(f"{name}: checking the package's files")
    made = ladder.writers(forms.ctc_forms(weights_dir), precisions, weights_dir / calibration.FILE, progress)
    for form, make in made.items():
        progress(f"{name}: model.{form}.onnx")
        onnx.save(make(), folder / f"model.{form}.onnx")
    shutil.copyfile(weights_dir / TOKENS, folder / TOKENS)
    (folder / model_card.FILE).write_text(_toml(name, config, made), "utf-8")
    files = {f"model.{form}.onnx": forms.ABOUT[form] for form in made}
    files |= {TOKENS: "labels, one a line with its id", model_card.FILE: "what the pipelines read first"}
    if (weights_dir / ABOUT).is_file():
        shutil.copyfile(weights_dir / ABOUT, folder / "TRAINING.md")
        files["TRAINING.md"] = "what it was trained on, how, and how well it does"
    card.write(
        folder,
        {
            "name": name,
            "summary": MODELS[name].summary + ".",
            "recipe_version": RECIPE_VERSION,
            "package": source.PACKAGE,
            "version": source.VERSION,
            "licence": "MIT, Copyright (c) Moonshine AI, for what it starts from; Apache-2.0 for what we trained.",
            "precisions": list(precisions),
            "sources": _sources(weights_dir),
            "tools": tools(),
            "files": {file: {"what": what} for file, what in files.items()},
            "recipe": [
                "Fold the package's encoder (`pipelines/models/fold.py`); lay the trained tensors over its own.",
                f"Write the graph (`pipelines/models/{'stream_graph' if config.streaming else 'ctc_graph'}.py`).",
                "`plain` is the same in ONNX's own operators; the other precisions come from it "
                "(`pipelines/models/forms.py`), INT8 with what `calibration.json` beside the weights says.",
            ],
            "training": training_card.section(config.facts),
            "limits": [*MODELS[name].limits, *training_card.verdicts(config.facts)],
        },
    )


def _toml(name: str, config: Config, made: Iterable[str]) -> str:
    from pipelines.models.ctc_graph import WINDOW_SAMPLES
    from pipelines.models.moonshine import FRAME_SAMPLES
    from pipelines.models.token_head import STRIDE

    files = "\n".join(f'{form} = "model.{form}.onnx"' for form in made)
    head = f"""\
family = "ctc"
name = "{name}"
summary = "{MODELS[name].summary}"
language = "en"
licence = "MIT (Moonshine), Apache-2.0 (trained weights)"

[files]
{files}

[vocabulary]
file = "{TOKENS}"
"""
    whole = f"""
[input]
name = "samples"
lengths = "lengths"
window_samples = {WINDOW_SAMPLES}

[output]
name = "log_probs"
lengths = "frames"
shift_samples = {FRAME_SAMPLES * (STRIDE if config.units == "tokens" else 1)}
"""
    states = "".join(
        f'\n[[streaming.states]]\ninput = "state_{what}"\noutput = "next_{what}"\n'
        for what in ("samples", "key", "value", "frames")
    )
    chunks = f"""
[input]
name = "samples"

[output]
name = "log_probs"
shift_samples = {FRAME_SAMPLES}

[streaming]
chunk_frames = {config.chunk_frames}
lookahead_samples = 0
{states}"""
    return head + (chunks if config.streaming else whole)
