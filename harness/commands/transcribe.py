"""`amira transcribe`: files to text, JSON, SRT or VTT."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.output import Json, file_progress, say
from pipelines.errors import AmiraError

if TYPE_CHECKING:
    from pipelines.config import PipelineConfig
    from pipelines.transcripts import FileTranscript


class Format(StrEnum):
    """How a transcript is written."""

    TEXT = "text"
    JSON = "json"
    SRT = "srt"
    VTT = "vtt"


SUFFIX = {Format.TEXT: ".txt", Format.JSON: ".json", Format.SRT: ".srt", Format.VTT: ".vtt"}


def transcribe(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="WAV, FLAC, Ogg, Opus or MP3 of any length.")],
    format: Annotated[Format, typer.Option("--format", "-f", help="How to write the transcripts.")] = Format.TEXT,  # noqa: A002
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder to write one file per transcript into.")
    ] = None,
    variant: Annotated[
        list[str] | None, typer.Option("--variant", help="AXIS=NAME, e.g. acoustic=ort@fp32; may be repeated.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", "-m", help="A built model by its name, or your own: path/to/folder with a model-card.toml."
        ),
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of inference.")] = None,
    json: Json = False,
) -> None:
    """Transcribe audio files. Long files are cut at pauses, so an hour is as good as a minute.

    A file that cannot be read is reported and the others are transcribed all the same; the exit code is then 2.

    Examples:  amira transcribe story.wav    amira transcribe -f srt -o subtitles/ *.mp3
              amira transcribe --model moonshine-ctc story.wav
    """
    from pipelines.assemble import open_pipeline
    from pipelines.paths import models_dir
    from pipelines.transcribe import transcribe_file
    from pipelines.transcripts import render

    chosen = Format.JSON if json else format
    _check_output(output, chosen, files)
    done: list[FileTranscript] = []
    with open_pipeline(_config(variant or [], threads, model), models_dir()) as pipeline:
        for path in files:
            try:
                with file_progress(path) as advance:
                    transcript = transcribe_file(pipeline, path, advance)
            except AmiraError as error:
                say(f"error: {error}")
                continue
            done.append(transcript)
            if output is not None:
                _write(output / f"{path.stem}{SUFFIX[chosen]}", render([transcript], chosen))
    if output is None and (done or chosen is Format.JSON):
        sys.stdout.write(render(done, chosen))
    if len(done) < len(files):
        raise AmiraError(f"{len(files) - len(done)} of {len(files)} files could not be transcribed; see above")


def _check_output(output: Path | None, chosen: Format, files: list[Path]) -> None:
    """Refuse what would lose or mix up transcripts, before any work is done."""
    if output is None:
        if len(files) > 1 and chosen in (Format.SRT, Format.VTT):
            raise AmiraError(f"{len(files)} files as {chosen} need a folder to go to: add --output DIR")
        return
    stems = [path.stem for path in files]
    twice = {stem for stem in stems if stems.count(stem) > 1}
    if twice:
        raise AmiraError(
            f"several files would be written as {', '.join(sorted(twice))}: transcribe them in separate calls"
        )
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AmiraError(
            f"cannot make the folder {output}: {error.strerror}. Name another one with --output"
        ) from error


def _config(variants: list[str], threads: int | None, model: str | None) -> PipelineConfig:
    from pipelines.config import default_config
    from pipelines.models import model_card
    from pipelines.models.locate import model_folder
    from pipelines.paths import models_dir

    changes: dict[str, str] = {}
    for item in variants:
        axis, equals, name = item.partition("=")
        if not equals or not name:
            raise AmiraError(f"--variant '{item}' is not AXIS=NAME, e.g. acoustic=ort@fp32. List them: amira variants")
        changes[axis] = name
    if model is None:
        config = default_config()
    else:
        family = model_card.family(model_folder(models_dir(), model))
        config = default_config(family).model_copy(update={"model": model})
    config = config.with_changes(changes)
    return config if threads is None else config.model_copy(update={"threads": threads})


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, "utf-8")
    except OSError as error:
        raise AmiraError(f"cannot write {path}: {error.strerror}. Free some space or name another --output") from error
    say(f"wrote {path}")
