"""`amira transcribe`: files to text, JSON, SRT or VTT."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.output import Json, say
from pipelines.errors import AmiraError

if TYPE_CHECKING:
    from harness.transcribe import FileTranscript
    from pipelines.config import PipelineConfig


class Format(StrEnum):
    """How a transcript is written."""

    TEXT = "text"
    JSON = "json"
    SRT = "srt"
    VTT = "vtt"


def transcribe(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="WAV, FLAC, Ogg, Opus or MP3 of any length.")],
    format: Annotated[Format, typer.Option("--format", "-f", help="How to write the transcripts.")] = Format.TEXT,  # noqa: A002
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder to write one file per transcript into.")
    ] = None,
    variant: Annotated[
        list[str] | None, typer.Option("--variant", help="AXIS=NAME, e.g. acoustic=ort@fp32; may be repeated.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of inference.")] = None,
    json: Json = False,
) -> None:
    """Transcribe audio files. Long files are cut at pauses, so an hour is as good as a minute.

    A file that cannot be read is reported and the others are transcribed all the same; the exit code is then 2.

    Examples:  amira transcribe story.wav    amira transcribe -f srt -o subtitles/ *.mp3
    """
    from harness.transcribe import transcribe_file
    from pipelines.assemble import open_pipeline
    from pipelines.paths import models_dir

    chosen = Format.JSON if json else format
    if output is None and len(files) > 1 and chosen in (Format.SRT, Format.VTT):
        raise AmiraError(f"{len(files)} files as {chosen} need a folder to go to: add --output DIR")
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
    config = _config(variant or [], threads)
    done: list[FileTranscript] = []
    failed = 0
    with open_pipeline(config, models_dir()) as pipeline:
        for path in files:
            try:
                with _progress(path) as advance:
                    transcript = transcribe_file(pipeline, path, advance)
            except AmiraError as error:
                say(f"error: {error}")
                failed += 1
                continue
            done.append(transcript)
            if output is not None:
                _write(output, transcript, chosen)
            elif chosen is not Format.JSON:
                _print(transcript, chosen, named=len(files) > 1)
    if output is None and chosen is Format.JSON:
        sys.stdout.write(_render(done, Format.JSON))
    if failed:
        raise AmiraError(f"{failed} of {len(files)} files could not be transcribed; see above")


def _config(variants: list[str], threads: int | None) -> PipelineConfig:
    from pipelines.config import default_config

    changes: dict[str, str] = {}
    for item in variants:
        axis, equals, name = item.partition("=")
        if not equals or not name:
            raise AmiraError(f"--variant '{item}' is not AXIS=NAME, e.g. acoustic=ort@fp32. List them: amira variants")
        changes[axis] = name
    config = default_config().with_changes(changes)
    return config if threads is None else config.model_copy(update={"threads": threads})
