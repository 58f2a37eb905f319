"""`amira setup`: fetch what pipelines need besides Python packages."""

from __future__ import annotations

from typing import Annotated

import typer

from harness.output import Json, print_json, say

app = typer.Typer(no_args_is_help=True, help="Fetch what some variants need besides Python packages, without root.")


@app.callback()
def setup() -> None:
    """Fetch what some variants need besides Python packages, without root."""


@app.command()
def allocators(json: Json = False) -> None:
    """Fetch the allocators that the system does not have, as Debian packages, into build/libraries.

    Nothing is installed. A second call finds them and does nothing.
    """
    from pipelines.allocators.libraries import fetch

    found = fetch(say)
    if json:
        print_json({name: str(path) for name, path in found.items()})


@app.command()
def sessions(
    force: Annotated[bool, typer.Option("--force", help="Compile again even if it is there.")] = False,
    json: Json = False,
) -> None:
    """Compile the server's session logic in build/sessions: half a minute, takes a C compiler.

    The server then takes less CPU for each message; without it the same source runs interpreted. Compile again after a
    change of the sources: what was made of others is not used. A second call finds it and does nothing.
    """
    from pipelines.compiled import build

    folder = build(say, force=force)
    if json:
        print_json({"sessions": str(folder)})


@app.command()
def triton(
    force: Annotated[bool, typer.Option("--force", help="Make it anew even if it is there.")] = False,
    json: Json = False,
) -> None:
    """Make Triton's private environment in build/triton from its lock file, hashes checked: about a minute, 300 MB.

    It holds the real server, its Python backend and what that needs. A second call finds it and does nothing.
    """
    from pipelines.triton.environment import build

    folder = build(say, force=force)
    if json:
        print_json({"triton": str(folder)})
