"""`amira serve`: the streaming server, as a process of its own."""

from __future__ import annotations

import os
import sys

import typer

SETTINGS = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def serve(context: typer.Context) -> None:
    """Serve streaming speech recognition over WebSocket and HTTP (see: amira serve --help)."""
    # The harness does not know the server: it starts it by name, in its place, so that signals reach it.
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "server", *context.args])
