"""`python -m training CONFIG`: train a model, or go on with it."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Annotated

import typer

from training.config import load_config

app = typer.Typer(add_completion=False)


@app.command()
def main(
    config: Annotated[Path, typer.Argument(help="TOML file that describes the training.")],
    folder: Annotated[Path, typer.Option(help="Checkpoints, log and exported weights; an unfinished one is resumed.")],
    cache: Annotated[Path, typer.Option(help="Decoded speech is kept here (1.4 GB for 12 hours).")],
    hours: Annotated[
        float | None, typer.Option(min=0.01, help="Learn from a random part of so many hours, for learning curves.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
) -> None:
    """Train an acoustic model; Ctrl-C keeps a checkpoint, and the same command goes on from it."""
    from training.loop import Trainer

    chosen = load_config(config)
    if hours is not None:
        chosen = chosen.model_copy(update={"hours": hours})
    trainer = Trainer(chosen, folder, cache, device)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, trainer.stop)
    trainer.run()


app()
