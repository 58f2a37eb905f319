"""`amira read`: what somebody read who was to read a text, word by word."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.output import Json, file_progress, print_json, print_table, say

if TYPE_CHECKING:
    from pipelines.contracts import ReadWord


def read(
    text: Annotated[str, typer.Argument(metavar="EXPECTED_TEXT", help="The text, or @FILE with it.")],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The recording, of any length.")],
    model: Annotated[str, typer.Option(help="A CTC model.")] = "moonshine-ctc",
    threads: Annotated[int, typer.Option(min=1, help="Threads of inference.")] = 1,
    json: Json = False,
) -> None:
    """Compare a recording with the text that was to be read: each word read, repeated, misread or skipped.

    Examples:  amira read "The cat sat on the mat." reader.wav    amira read @page.txt reader.wav --json
    """
    from pipelines.assemble import open_pipeline
    from pipelines.config import default_config
    from pipelines.paths import models_dir
    from pipelines.transcribe import follow_file

    expected = _text(text)
    config = default_config("ctc").model_copy(update={"model": model, "threads": threads})
    config = config.with_changes({"decoder": "reading"})
    with open_pipeline(config, models_dir()) as pipeline, file_progress(file) as advance:
        best = follow_file(pipeline.expecting(expected), file, advance)
    if json:
        print_json({"file": str(file), "text": best.text, "words": [_entry(word) for word in best.reading]})
        return
    rows = [
        (
            word.word,
            word.status,
            word.said,
            "" if math.isnan(word.start_s) else f"{word.start_s:.2f} - {word.end_s:.2f}",
            word.attempts,
            " ".join(word.before),
        )
        for word in best.reading
    ]
    print_table("", ("word", "was", "said", "seconds", "tries", "put in before"), rows)
    counts = {status: sum(word.status == status for word in best.reading) for status in _STATUSES}
    say(", ".join(f"{count} {status}" for status, count in counts.items() if count))


_STATUSES = ("read", "repeated", "misread", "skipped")


def _text(text: str) -> str:
    from pipelines.errors import AmiraError

    if not text.startswith("@"):
        return text
    try:
        return Path(text[1:]).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise AmiraError(f"the expected text {text[1:]} cannot be read: {error}. Name a UTF-8 file.") from error


def _entry(word: ReadWord) -> dict[str, Any]:
    times = {"start_s": word.start_s, "end_s": word.end_s}
    return {**asdict(word), **{key: None if math.isnan(value) else value for key, value in times.items()}}
