"""The service that AMIRA replaces: a FastAPI application as such services are built, kept as the baseline.

Nothing in it is slow on purpose. It is what one writes first: a client posts chunks and polls for the text; every poll
recognises the whole utterance again; samples go through Python lists; nothing is shared between requests but the
model, and where that is behind Triton (`acoustic/triton@...` with `connection/fresh`), each request connects anew.

    python -m server.legacy --port 8081 [--config pipeline.toml]
"""

from __future__ import annotations

import argparse
import secrets
import struct
import sys
import threading
from pathlib import Path
from typing import Any

from fastapi import FastAPI, HTTPException, Request

from pipelines.assemble import Pipeline, open_pipeline
from pipelines.config import PipelineConfig, load_config
from pipelines.errors import AmiraError
from pipelines.paths import models_dir

LEGACY = PipelineConfig(
    variants={"acoustic": "ort@shipped", "decoder": "aed-greedy", "kernel": "numpy", "memory": "fresh"}
)
"""The model as its package ships it, every buffer allocated anew."""


def make_app(pipeline: Pipeline) -> FastAPI:
    """The service over one pipeline, which recognises one utterance at a time."""
    app = FastAPI(title="legacy speech service")
    sessions: dict[str, list[float]] = {}
    busy = threading.Lock()

    @app.get("/healthz")
    def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.post("/sessions")
    def start() -> dict[str, str]:
        session = secrets.token_hex(8)
        sessions[session] = []
        return {"session": session}

    @app.post("/sessions/{session}/audio")
    async def audio(session: str, request: Request) -> dict[str, int]:
        samples = _known(session)
        body = await request.body()
        if len(body) % 2:
            raise HTTPException(400, "PCM16 needs an even number of bytes")
        for (sample,) in struct.iter_unpack("<h", body):
            samples.append(sample / 32768.0)
        return {"samples": len(samples)}

    @app.get("/sessions/{session}/text")
    def text(session: str) -> dict[str, Any]:
        samples = list(_known(session))
        if not samples:
            return {"text": "", "samples": 0}
        pcm = struct.pack(f"<{len(samples)}h", *(round(sample * 32768.0) for sample in samples))
        try:
            with busy:
                transcript = pipeline.transcribe(pcm)
        except AmiraError as error:
            raise HTTPException(400, str(error)) from error
        return {"text": transcript.text, "samples": len(samples)}

    @app.delete("/sessions/{session}")
    def end(session: str) -> dict[str, Any]:
        answer = text(session)
        del sessions[session]
        return answer

    def _known(session: str) -> list[float]:
        if session not in sessions:
            raise HTTPException(404, f"session {session} does not exist")
        return sessions[session]

    return app


def main() -> None:
    """Serve until Ctrl-C."""
    import uvicorn

    parser = argparse.ArgumentParser(prog="python -m server.legacy", description="The baseline service.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8081)
    parser.add_argument("--config", type=Path, help="a pipeline in TOML; the model as shipped if not given")
    options = parser.parse_args()
    try:
        config = load_config(options.config) if options.config else LEGACY
        with open_pipeline(config, models_dir()) as pipeline:
            pipeline.warm_up()
            uvicorn.run(make_app(pipeline), host=options.host, port=options.port, log_level="warning")
    except AmiraError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
