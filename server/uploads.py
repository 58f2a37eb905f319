"""Whole recordings over HTTP: cut at pauses, each piece recognised behind the running sessions."""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path
from time import perf_counter_ns

from starlette.datastructures import UploadFile
from starlette.requests import Request

from pipelines.audio.read import Audio, audio_info, read_audio
from pipelines.audio.segments import Segment, speech_segments
from pipelines.contracts import SAMPLE_RATE, Transcript, Word
from pipelines.errors import AmiraError
from pipelines.resilience import ServiceError
from pipelines.transcribe import WHOLE_S
from pipelines.transcripts import FileTranscript, TimedText
from server.failures import Refusal
from server.gateway import Gateway
from server.lane import UPLOAD, Outcome, Recognise


class Uploads:
    """Recognises uploaded recordings, a bounded number at once."""

    def __init__(self, gateway: Gateway, recognise: Recognise) -> None:
        self._gateway, self._recognise = gateway, recognise
        self._running = 0

    async def transcribe(self, upload: UploadFile | bytes, name: str) -> FileTranscript:
        """The transcript of a recording.

        Raises:
            Refusal: It is too large, no audio, or the server cannot take it now.
        """
        limits = self._gateway.settings.limits
        if self._gateway.draining:
            raise Refusal("draining", "the server shuts down; send it again")
        if self._running >= limits.max_uploads:
            raise Refusal("at_capacity", f"{self._running} recordings are being transcribed; try again in a second")
        self._running += 1
        try:
            return await self._transcribe(upload, name)
        finally:
            self._running -= 1

    async def _transcribe(self, upload: UploadFile | bytes, name: str) -> FileTranscript:
        started_ns = perf_counter_ns()
        data = upload if isinstance(upload, bytes) else await upload.read()
        audio, segments = await asyncio.to_thread(self._cut, data, name)
        texts: list[TimedText] = []
        words: list[Word] = []
        for segment in segments:
            first, last = (round(second * SAMPLE_RATE) for second in (segment.start_s, segment.end_s))
            transcript = await self._piece(audio.pcm16[2 * first : 2 * last])
            best = transcript.hypotheses[0]
            texts.append(TimedText(segment.start_s, segment.end_s, best.text))
            words += [
                Word(word.text, word.start_s + segment.start_s, word.end_s + segment.start_s, word.confidence)
                for word in best.words
            ]
        spent_ns = perf_counter_ns() - started_ns
        self._gateway.metrics.latency_s.of["transcribe"].observe(spent_ns / 1e9)
        return FileTranscript(name, audio.duration_s, spent_ns / 1e6, tuple(texts), tuple(words))

    def _cut(self, data: bytes, name: str) -> tuple[Audio, list[Segment]]:
        limit_s = self._gateway.settings.limits.max_upload_s
        descriptor, path = tempfile.mkstemp(suffix=Path(name).suffix[:8])
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
            duration_s = audio_info(path).duration_s
            if duration_s > limit_s:
                raise Refusal("message_too_large", f"the recording has {duration_s:.0f} s, {limit_s:.0f} are taken")
            audio = read_audio(path)
        except Refusal:
            raise
        except AmiraError as error:
            raise Refusal("bad_audio", str(error).replace(path, name)) from error
        finally:
            Path(path).unlink()
        found = speech_segments(audio.pcm16, max_s=WHOLE_S)
        return audio, [Segment(0.0, audio.duration_s)] if found and audio.duration_s <= WHOLE_S else found

    async def _piece(self, pcm: bytes) -> Transcript:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Outcome] = loop.create_future()

        def settle(outcome: Outcome) -> None:
            if not answer.done():  # the client may be gone
                answer.set_result(outcome)

        def done(outcome: Outcome) -> None:
            loop.call_soon_threadsafe(settle, outcome)

        self._gateway.lane.submit(UPLOAD, pcm, None, self._recognise, done, lambda: not answer.cancelled())
        outcome = await answer
        if outcome.transcript is not None:
            return outcome.transcript
        if isinstance(outcome.error, ServiceError):
            raise Refusal("backend_unavailable", f"the recogniser does not answer: {outcome.error}")
        raise Refusal("internal", "the server failed on this recording; it is in its log")


async def received(request: Request, limit: int) -> tuple[UploadFile | bytes, str, dict[str, str]]:
    """The recording of a request, its name, and the other fields of the form.

    A form (`multipart/form-data`) has it in the field `file`; any other body is the recording itself.

    Raises:
        Refusal: There is none, or it is too large.
    """
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > limit + 65_536:
        raise Refusal("message_too_large", f"the body has {length} bytes, {limit} are taken")
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        body = bytearray()
        async for part in request.stream():
            body += part
            if len(body) > limit:
                raise Refusal("message_too_large", f"the body has more than the {limit} bytes that are taken")
        if not body:
            raise Refusal("bad_message", "there is no recording: send it as the body, or in the form field 'file'")
        return bytes(body), "recording", dict(request.query_params)
    form = await request.form(max_files=1, max_fields=32)
    upload = form.get("file")
    if not isinstance(upload, UploadFile):
        raise Refusal("bad_message", "the form has no file in its field 'file'")
    if upload.size is not None and upload.size > limit:
        raise Refusal("message_too_large", f"the recording has {upload.size} bytes, {limit} are taken")
    fields = {key: value for key, value in form.multi_items() if isinstance(value, str)}
    return upload, upload.filename or "recording", fields
