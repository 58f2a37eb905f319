"""`amira models`: build the default models, list what there is, look into a model."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from harness.output import Json, print_json, print_table, say

app = typer.Typer(no_args_is_help=True, help="Build the default models, list what there is, look into one of your own.")


@app.command()
def build(
    force: Annotated[bool, typer.Option("--force", help="Build anew even if a whole build is there.")] = False,
    precision: Annotated[
        str,
        typer.Option(
            help="Which of the ladder, with commas: fp32 (always), fp16, int8; and its rivals fp16-autocast "
            "(NVIDIA ModelOpt's) and int8-ort (ONNX Runtime's own)."
        ),
    ] = "fp32,fp16,int8",
    json: Json = False,
) -> None:
    """Make the default models from the files of their pinned package (hashes checked), about half a minute.

    Each folder appears only when it is whole; a second call finds it and does nothing.
    """
    from harness.inspection import entry
    from pipelines.models.catalogue import build_all
    from pipelines.models.ladder import precisions
    from pipelines.paths import model_repo_dir, models_dir
    from pipelines.triton.repository import fill, served

    folders = build_all(models_dir(), model_repo_dir(), say, force=force, precisions=precisions(precision))
    fill(model_repo_dir(), served(), models_dir(), say)
    if json:
        print_json([entry(folder) for folder in folders])


@app.command()
def calibrate(
    model: Annotated[str, typer.Argument(help="moonshine-aed (its encoder), moonshine-ctc, stream-ctc-server, ...")],
    corpus: Annotated[str, typer.Option(help="Speech that is not measured on later.")] = "shared:train",
    clips: Annotated[int, typer.Option(min=1, help="Clips of it, chosen by seed 0.")] = 32,
    json: Json = False,
) -> None:
    """Find INT8's scales on speech and the products that must stay FP32; a few minutes.

    Writes calibration.json beside the model's weights; `amira models build` uses it as long as they are the same.

    Examples:  amira models calibrate stream-ctc-server    amira models calibrate moonshine-ctc --corpus ./my-speech
    """
    import numpy as np

    from harness.corpus import load_corpus
    from pipelines.models.calibration import calibrate as calibrate_model
    from pipelines.models.catalogue import forms_of
    from pipelines.paths import model_repo_dir

    forms, path = forms_of(model, model_repo_dir())
    chosen = load_corpus(corpus).select(max_clips=clips, seed=0).clips
    heard = [np.frombuffer(clip.pcm16(), "<i2").astype(np.float32) / np.float32(32_768) for clip in chosen]
    found = calibrate_model(forms, corpus, heard, say)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(found.model_dump_json() + "\n", "utf-8")
    say(f"{path.name} written; build the models with it: amira models build")
    if json:
        print_json(found.model_dump(mode="json", exclude={"ranges", "factors", "native"}))
        return
    rows = [
        (name, found.rules[name], f"{1e3 * found.sweep[found.rules[name]][name].divergence:.3f}",
         "FP32" if name in found.float32 else "INT8")
        for name in found.rules
    ]  # fmt: skip
    print_table(f"{model}: each product alone in INT8", ("product", "rule", "divergence, 1e-3", "stays"), rows)
    for name, distance in found.together.items():
        print(f"{name} together: divergence {1e3 * distance.divergence:.3f}e-3, {distance.flipped:.2%} other labels")


@app.command("list")
def list_models(
    check: Annotated[
        bool, typer.Option("--check", help="Read every file and compare its sha256 with the card.")
    ] = False,
    json: Json = False,
) -> None:
    """List the built models, and those in model-repo/ that bring a card, with their files and where they come from."""
    from harness.inspection import entries
    from pipelines.models import card
    from pipelines.paths import model_repo_dir, models_dir

    found = entries(models_dir(), model_repo_dir())
    if check:
        for folder in sorted(path.parent for path in models_dir().glob(f"*/{card.CARD}")):
            card.check_built(folder)
            say(f"{folder.name}: every file matches its card")
    if json:
        print_json(found)
        return
    if not found:
        say("no models are built. Build the default ones: amira models build")
    for entry in found:
        _print_entry(entry)


@app.command()
def inspect(
    model: Annotated[str, typer.Argument(help="A model's name, or path/to/folder with a model-card.toml.")],
    json: Json = False,
) -> None:
    """Show what a model is: its card, its labels, and what goes into and out of each of its files.

    A card that contradicts one of the files is an error that says where. Look at a model of your own with this
    before you run it.

    Examples:  amira models inspect moonshine-ctc    amira models inspect ./my-model
    """
    from harness.inspection import inspect as inspect_model
    from pipelines.models.locate import model_folder
    from pipelines.paths import models_dir

    found = inspect_model(model_folder(models_dir(), model))
    if json:
        print_json(found)
        return
    _print_entry(found)
    for precision, form in found.get("forms", {}).items():
        rows = [(side[:-1], name, *_shown(what)) for side in ("inputs", "outputs") for name, what in form[side].items()]
        print_table(f"\n{precision}: {form['file']}", ("", "name", "type", "shape"), rows)
    if "labels" in found:
        labels = found["labels"]
        print(f"\n{labels['count']} labels, the blank is {labels['blank']}; the first: {' '.join(labels['first'])}")


def _shown(what: list[Any]) -> tuple[str, str]:
    kind, *shape = what
    return kind, " x ".join(map(str, shape))


def _print_entry(entry: dict[str, Any]) -> None:
    rows = [(name, f"{file['bytes'] / 2**20:.1f}", file["what"]) for name, file in entry["files"].items()]
    print_table(f"{entry['name']} ({entry['family']}): {entry['summary']}", ("file", "MiB", "what it is"), rows)
