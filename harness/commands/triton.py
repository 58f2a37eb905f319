"""`amira triton`: a Triton in the background, and the check of its model repository."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.output import Json, print_json, print_table, say

app = typer.Typer(
    no_args_is_help=True,
    help="""Run the real Triton in the background, supervised, and check its model repository.

    Pipelines start one of their own unless AMIRA_TRITON_URL names one. Set it up once: amira setup triton.
    """,
)
Repository = Annotated[
    Path | None, typer.Option("--repository", help="Folder of models; ours, model-repo, where none is named.")
]
Models = Annotated[list[str] | None, typer.Option("--model", help="A model to load; again for more. All without it.")]


def _folder(repository: Path | None) -> Path:
    from pipelines.triton.repository import served

    return repository or served()


@app.command()
def start(
    repository: Repository = None,
    model: Models = None,
    config: Annotated[str, typer.Option(help="Use configs/NAME.pbtxt where a model has it, e.g. gpu.")] = "",
    grpc_port: Annotated[int, typer.Option(help="0 takes a free one.", min=0, max=65535)] = 8001,
    http_port: Annotated[int, typer.Option(help="0 takes a free one.", min=0, max=65535)] = 8000,
    metrics_port: Annotated[int, typer.Option(help="0 takes a free one.", min=0, max=65535)] = 8002,
    json: Json = False,
) -> None:
    """Start a server in the background and wait until it gives the right answer to a known question.

    A supervisor stays with it: it restarts a server that is dead, stopped or wrong and reloads a model whose process
    is. Stop both with: amira triton stop.
    """
    from dataclasses import asdict

    from pipelines.triton import daemon
    from pipelines.triton import repository as repositories
    from pipelines.triton.process import Ports, free_ports
    from pipelines.triton.variants import HTTP_URL_VARIABLE, URL_VARIABLE

    free = free_ports()
    ports = Ports(grpc_port or free.grpc, http_port or free.http, metrics_port or free.metrics)
    folder = _folder(repository)
    models = tuple(model or repositories.servable(folder))
    state = daemon.start(folder, models, ports, config)
    say(
        f"Triton serves {', '.join(models)} at {state.url} by gRPC and {state.http_url} by HTTP; use it with: "
        f"export {URL_VARIABLE}={state.url} {HTTP_URL_VARIABLE}={state.http_url}"
    )
    if json:
        print_json({**asdict(state), "url": state.url, "http_url": state.http_url})


@app.command()
def stop(json: Json = False) -> None:
    """Stop the background server and its supervisor; requests under way may finish. None is no error."""
    from pipelines.triton import daemon

    state = daemon.stop()
    say("no Triton runs in the background" if state is None else f"stopped the Triton at {state.url}")
    if json:
        print_json({"stopped": None if state is None else state.url})


@app.command()
def status(json: Json = False) -> None:
    """Say whether a background server runs, whether it computes rightly, and what its models did so far.

    Exit code 2 where none runs or it gives no right answer.
    """
    from pipelines.errors import AmiraError
    from pipelines.triton import daemon
    from pipelines.triton.look import look

    state = daemon.running()
    if state is None:
        raise AmiraError("no Triton runs in the background. Start one: amira triton start")
    found = look(state.url)
    if json:
        print_json({"url": state.url, "supervisor": state.supervisor, **found})
    else:
        say(f"{state.url}: {'answers rightly' if found['well'] else 'gives no right answer'}")
        rows = [
            (m["name"], m["state"], m["calls"], m["failures"], m["queue_ms"], m["compute_ms"]) for m in found["models"]
        ]
        print_table("", ("model", "state", "calls", "failures", "queue ms", "compute ms"), rows)
    if not found["well"]:
        raise typer.Exit(2)


@app.command()
def logs(lines: Annotated[int, typer.Option(help="How many of the last lines.", min=1)] = 50) -> None:
    """Print the last lines of the background server's log; it stays after the server's end."""
    from pipelines.errors import AmiraError
    from pipelines.triton import daemon

    path = daemon.log_file()
    if not path.is_file():
        raise AmiraError("there is no log: no Triton was started in the background. Start one: amira triton start")
    for line in path.read_text("utf-8", "replace").splitlines()[-lines:]:
        print(line)


@app.command()
def check(repository: Repository = None, model: Models = None, json: Json = False) -> None:
    """Check every configuration against the real inputs and outputs of its model, without a server.

    Exit code 2 if one is wrong. What cannot be compared is said, with the reason.
    """
    from dataclasses import asdict

    from pipelines.triton import check as checks

    found = checks.check(_folder(repository), tuple(model or ()))
    if json:
        print_json([asdict(finding) for finding in found])
    else:
        rows = [
            (item.model, item.config, item.problem or "fits" + (f" ({item.unchecked})" if item.unchecked else ""))
            for item in found
        ]
        print_table("", ("model", "configuration", "verdict"), rows)
    if any(item.problem for item in found):
        raise typer.Exit(2)
