"""`python -m server`: what `amira serve` starts."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from pipelines.errors import AmiraError

cli = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@cli.command(name="amira serve")
def serve(
    config: Annotated[Path | None, typer.Option("--config", "-c", help="A TOML file of settings.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on; 127.0.0.1 if not given.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 8080 if not given, 0 takes a free one.")] = None,
    sets: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Any setting; may be repeated.")
    ] = None,
    null: Annotated[bool, typer.Option("--null", help="Recognise nothing: measures the server itself.")] = False,
    settings: Annotated[bool, typer.Option("--settings", help="List every setting with its default.")] = False,
) -> None:
    """Serve streaming speech recognition until Ctrl-C or SIGTERM; running sessions then get time to finish.

    Settings come from the file, then from variables (AMIRA_SERVER_LIMITS__MAX_SESSIONS=200), then from flags.

    Examples:  amira serve    amira serve --port 9000 --set limits.max_sessions=20    amira serve -c server.toml
    """
    from pipelines import compiled
    from pipelines.streaming import NULL
    from server.settings import describe, load, parse_flag

    if settings:
        print(describe())
        return
    flags: dict[str, Any] = dict(parse_flag(text) for text in sets or [])
    flags |= {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    if null:
        flags["recognizer"] = NULL.model_dump()
    loaded = load(config, flags)
    compiled.use(loaded.sessions)
    from server.run import serve as run  # imports the session logic, in the form that was chosen

    run(loaded)


def main() -> None:
    """Run; an error that the user can mend becomes one message and its exit code."""
    try:
        cli()
    except AmiraError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
