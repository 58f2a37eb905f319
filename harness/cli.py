"""The `amira` command line. Commands live in `harness.commands`; what is heavy is imported when a command runs."""

from __future__ import annotations

import sys

import typer

from harness.commands import (
    bench,
    compare,
    corpus,
    engines,
    env,
    gate,
    gpu,
    graph,
    history,
    ledger,
    load,
    models,
    performance,
    profile,
    read,
    report,
    serve,
    setup,
    transcribe,
    triton,
    variants,
)
from pipelines.errors import AmiraError

INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 + SIGINT, as shells have it."""

cli = typer.Typer(
    name="amira",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="""Measure which change to a speech-recognition pipeline is worth it.

    Start with:  amira models build,  amira corpus build,  amira bench default.

    Commands that report take --json: then exactly one JSON document goes to stdout, everything else to stderr.
    Exit codes: 0 fine, 1 regression, 2 wrong usage or input, 3 too noisy to say, 4 nothing measured.
    """,
)
cli.add_typer(models.app, name="models")
cli.add_typer(corpus.app, name="corpus")
cli.add_typer(graph.app, name="graph")
cli.add_typer(setup.app, name="setup")
cli.add_typer(triton.app, name="triton")
cli.command("variants")(variants.variants)
cli.command("transcribe")(transcribe.transcribe)
cli.command("read")(read.read)
cli.command("bench")(bench.bench)
cli.command("report")(report.report)
cli.command("compare")(compare.compare)
cli.add_typer(gate.app, name="gate")
cli.add_typer(engines.app, name="engines")
cli.command("gpu")(gpu.gpu)
cli.command("profile")(profile.profile)
cli.command("load")(load.load)
cli.command("serve", context_settings=serve.SETTINGS)(serve.serve)
cli.command("history")(history.history)
cli.command("ledger")(ledger.ledger)
cli.command("performance")(performance.performance)
cli.command("env")(env.env)


def app() -> None:
    """Run the command line; an error that the user can mend becomes one message and its exit code."""
    try:
        cli()
    except AmiraError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # Whoever read our output has seen enough. Point stdout elsewhere, or the interpreter complains at exit.
        sys.stdout = None
        sys.exit(0)


if __name__ == "__main__":
    app()
