"""The HTTP side: health, metrics, whole recordings, a status page. The WebSocket is in `server.websocket`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from pipelines.contracts import Word
from pipelines.transcripts import FileTranscript, as_srt, as_vtt
from server import messages
from server.admission import bearer, check_token
from server.failures import Refusal
from server.gateway import Gateway
from server.status import status_page
from server.uploads import Uploads, received

Handler = Callable[[Request], Awaitable[Response]]
CAPTIONS = Path(__file__).parent / "static" / "captions"
"""The live-captions page; its scripts are those of clients/typescript, compiled (`npm run build:page`)."""
OPENAI_FORMATS = ("json", "verbose_json", "text", "srt", "vtt")


def make_app(gateway: Gateway, uploads: Uploads) -> Starlette:
    """The application of one gateway."""
    settings = gateway.settings

    async def healthz(request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(request: Request) -> Response:
        if gateway.ready:
            return PlainTextResponse("ready\n")
        return PlainTextResponse("draining\n" if gateway.draining else "at capacity\n", 503)

    async def metrics(request: Request) -> Response:
        return Response(generate_latest(gateway.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    async def status(request: Request) -> Response:
        seconds = (perf_counter_ns() - gateway.started_ns) / 1e9
        return HTMLResponse(status_page(gateway, seconds))

    async def transcribe(request: Request) -> Response:
        transcript, _ = await _recognised(request)
        return Response(msgspec.json.encode(_answer(transcript, gateway.model)), media_type="application/json")

    async def transcriptions(request: Request) -> Response:
        transcript, fields = await _recognised(request)
        kind = fields.get("response_format", "json")
        if kind not in OPENAI_FORMATS:
            raise Refusal("bad_message", f"response_format '{kind}' does not exist; have: {', '.join(OPENAI_FORMATS)}")
        return _openai(transcript, kind, settings.languages[0])

    async def _recognised(request: Request) -> tuple[FileTranscript, dict[str, str]]:
        check_token(settings, [bearer(request.headers.get("authorization"))])
        upload, name, fields = await received(request, settings.limits.max_upload_bytes)
        language = fields.get("language", settings.languages[0]).partition("-")[0].lower()
        if language not in settings.languages:
            raise Refusal("unsupported_language", f"language '{language}'; have: {', '.join(settings.languages)}")
        return await uploads.transcribe(upload, name), fields

    async def refused(request: Request, error: Exception) -> Response:
        if not isinstance(error, Refusal):
            raise error
        gateway.metrics.errors.labels(error.code).inc()
        problem = {"code": error.code, "message": str(error), "retryable": error.retryable}
        headers = {"Retry-After": "1"} if error.retryable else None
        return JSONResponse({"error": problem}, error.http_status, headers)

    return Starlette(
        routes=[
            Route("/", status),
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route("/metrics", metrics),
            Mount("/captions", StaticFiles(directory=CAPTIONS, html=True)),
            Route("/v1/transcribe", transcribe, methods=["POST"]),
            Route("/v1/audio/transcriptions", transcriptions, methods=["POST"]),
        ],
        exception_handlers={Refusal: refused},
    )


def _answer(transcript: FileTranscript, model: str) -> messages.Transcript:
    spoken = [segment for segment in transcript.segments if segment.text.strip()]
    return messages.Transcript(
        text=transcript.text,
        duration_ms=_ms(transcript.duration_s),
        model=model,
        segments=[
            messages.Segment(text=part.text, start_ms=_ms(part.start_s), end_ms=_ms(part.end_s)) for part in spoken
        ],
        words=[
            messages.Word(
                text=word.text,
                start_ms=_ms(word.start_s),
                end_ms=_ms(word.end_s),
                confidence=min(1.0, max(0.0, word.confidence)),
            )
            for word in transcript.words
        ],
    )


def _openai(transcript: FileTranscript, kind: str, language: str) -> Response:
    if kind == "text":
        return PlainTextResponse(transcript.text + "\n")
    if kind == "srt":
        return PlainTextResponse(as_srt(transcript.segments))
    if kind == "vtt":
        return PlainTextResponse(as_vtt(transcript.segments), media_type="text/vtt")
    if kind == "json":
        return JSONResponse({"text": transcript.text})
    return JSONResponse(
        {
            "task": "transcribe",
            "language": language,
            "duration": transcript.duration_s,
            "text": transcript.text,
            "segments": [_openai_segment(number, part) for number, part in enumerate(transcript.segments)],
            "words": [_openai_word(word) for word in transcript.words],
        }
    )


def _openai_segment(number: int, part: Any) -> dict[str, Any]:
    # The format's own numbers about the decoding have no counterpart here; its clients want them there all the same.
    own = {"seek": 0, "tokens": [], "temperature": 0.0, "avg_logprob": 0.0, "compression_ratio": 1.0}
    return {"id": number, "start": part.start_s, "end": part.end_s, "text": part.text, **own, "no_speech_prob": 0.0}


def _openai_word(word: Word) -> dict[str, Any]:
    fields = asdict(word)
    return {"word": fields["text"], "start": fields["start_s"], "end": fields["end_s"]}


def _ms(seconds: float) -> int:
    return round(seconds * 1_000)
