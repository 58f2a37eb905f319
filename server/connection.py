"""One WebSocket connection: messages in, checked and in their order; events out, as far as the client reads."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Sequence
from time import perf_counter_ns
from typing import TYPE_CHECKING

import msgspec
from picows import WSFrame, WSListener, WSMsgType, WSTransport

from pipelines.audio.ingest import open_ingest
from pipelines.errors import AmiraError
from pipelines.session import FinalEvent, Job, PartialEvent
from pipelines.wishes import Wishes
from server import messages
from server.admission import PROTOCOL, bearer, bytes_per_s, check_start, check_token, session_settings
from server.engine import Stream
from server.failures import Refusal, close_code, error_message
from server.messages import Closing, Final, Finish, Flush, Partial, Ready, Start
from server.tracing import FinalTrace, trace_id

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from server.gateway import Gateway

log = logging.getLogger(__name__)

_decoder = msgspec.json.Decoder(messages.ClientMessage)
_encoder = msgspec.json.Encoder()

_TEXT, _BINARY = WSMsgType.TEXT, WSMsgType.BINARY
WAITING, OPEN, FINISHING, ENDED = range(4)
"""Where a connection is: before `start`, in its session, after `finish`, and after its last message."""
CLOSE_TIMEOUT_S = 2.0
SAMPLES_PER_MS = 16


class Connection(WSListener):
    """See the module; `server.gateway` knows all of them."""

    __slots__ = (
        "_authorization", "_fragments", "_gateway", "_latest", "_preparing", "_slow_since_ns", "_span", "_start",
        "_stream", "_traceparent", "_transport", "_unchecked", "ahead_ns", "heard_ns", "ns_per_byte", "opened_ns",
        "session", "state", "text",
    )  # fmt: skip

    def __init__(self, gateway: Gateway, authorization: str | None, traceparent: str | None) -> None:
        self._gateway = gateway
        self._authorization = authorization
        self._traceparent = traceparent
        self._transport: WSTransport | None = None
        self._stream: Stream | None = None
        self._start: Start | None = None
        self._preparing: asyncio.Task[None] | None = None  # held here so that it is not collected
        self._span: Span | None = None
        self._fragments: bytearray | None = None
        self._latest: Partial | None = None  # the newest partial that a client that does not read has not got
        self._slow_since_ns = 0  # 0: the client reads
        self._unchecked = 0  # bytes of audio with which no limit can be reached yet
        self.text = False
        self.state = WAITING
        self.session = ""
        self.ahead_ns = 0
        self.ns_per_byte = 0.0  # of its audio
        self.opened_ns = self.heard_ns = perf_counter_ns()

    # Called by picows.

    def on_ws_connected(self, transport: WSTransport) -> None:
        """The handshake is done."""
        self._transport = transport
        self._gateway.connected(self)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """A frame came."""
        kind = frame.msg_type
        if kind == _BINARY and self.state == OPEN and frame.fin and self._fragments is None:
            self.heard_ns = perf_counter_ns()
            try:
                self._audio(frame.get_payload_as_bytes())  # the usual way, without a detour
            except Refusal as refusal:
                self.failed(refusal.code, str(refusal))
            return
        if kind == WSMsgType.CLOSE:
            if self.state != ENDED:
                transport.send_close(frame.get_close_code())
            transport.disconnect()
            return
        if self.state == ENDED or kind in (WSMsgType.PING, WSMsgType.PONG):
            return
        self.heard_ns = perf_counter_ns()
        try:
            if frame.fin and self._fragments is None and kind != WSMsgType.CONTINUATION:
                self._message(kind == WSMsgType.TEXT, frame.get_payload_as_bytes())
            else:
                self._fragment(kind, frame.get_payload_as_bytes(), frame.fin)
        except Refusal as refusal:
            self.failed(refusal.code, str(refusal))

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """The connection is gone."""
        if self.state != ENDED:
            self._end("vanished")
        self._gateway.disconnected(self)

    def pause_writing(self) -> None:
        """The client does not read what it was sent."""
        self._slow_since_ns = perf_counter_ns()

    def resume_writing(self) -> None:
        """The client reads again."""
        self._slow_since_ns = 0
        latest, self._latest = self._latest, None
        if latest is not None and self.state in (OPEN, FINISHING):
            self._send(latest)

    # Messages of the client.

    def _fragment(self, kind: WSMsgType, data: bytes, fin: bool) -> None:
        if kind == WSMsgType.CONTINUATION:
            if self._fragments is None:
                raise Refusal("bad_message", "a continuation frame came without a message that it continues")
        elif self._fragments is not None:
            raise Refusal("bad_message", "a new message began before the last one was whole")
        else:
            self._fragments, self.text = bytearray(), kind == WSMsgType.TEXT
        self._fragments += data
        self._check_size(len(self._fragments))
        if fin:
            whole, self._fragments = bytes(self._fragments), None
            self._message(self.text, whole)

    def _check_size(self, size: int) -> None:
        limit = self._gateway.settings.limits.max_message_bytes
        if size > limit:
            raise Refusal("message_too_large", f"a message of {size} bytes is larger than {limit}; send smaller ones")

    def _message(self, text: bool, data: bytes) -> None:
        self._check_size(len(data))
        if self.state == FINISHING:
            return
        if not text:
            self._audio(data)
            return
        try:
            message = _decoder.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Refusal("bad_message", f"the message is not one of the protocol: {error}") from error
        if isinstance(message, Start):
            self._begin(message)
        else:
            self._mark(message)

    def _begin(self, start: Start) -> None:
        if self.state != WAITING:
            raise Refusal("bad_order", "this session has started already; open another connection for another one")
        gateway = self._gateway
        check_token(gateway.settings, [bearer(self._authorization), start.token])
        check_start(gateway.settings, start)
        gateway.admit(self)
        self._start = start
        self.session = secrets.token_hex(8)
        self.state = OPEN
        self._span = gateway.tracing.start(
            "websocket_connection", start.traceparent or self._traceparent, {"session": self.session}
        )
        ingest = open_ingest(start.encoding, start.sample_rate)
        self._stream = Stream(self, session_settings(gateway.settings, start), ingest, bytes_per_s(start))
        self.ns_per_byte = 1e9 / self._stream.bytes_per_s
        self.ahead_ns = perf_counter_ns()
        wishes = Wishes(tuple(start.hot_words), start.expected_text)
        if wishes:
            self._preparing = gateway.loop.create_task(self._prepare(wishes, self._stream))
        else:
            self._ready(self._stream)

    async def _prepare(self, wishes: Wishes, stream: Stream) -> None:
        """Have the session's graph built, off the event loop; its audio waits meanwhile, as far as there is room."""
        engine = self._gateway.engine
        try:
            stream.recognizer = await asyncio.to_thread(engine.personal, wishes)
        except AmiraError as error:
            self.failed("unsupported_option", str(error))
        except Exception:
            log.exception("preparing a session failed", extra=self._context())
            self.failed("internal", "the server failed on this session; it is in its log. Try again")
        else:
            if self.state != ENDED:
                self._ready(stream)

    def _ready(self, stream: Stream) -> None:
        gateway, start = self._gateway, self._start
        if start is None:
            raise RuntimeError("a session is ready that has not started")
        gateway.engine.open(stream)
        limits = gateway.settings.limits
        self._send(
            Ready(
                protocol=PROTOCOL,
                session=self.session,
                model=gateway.model,
                partials=start.partials,
                max_message_bytes=limits.max_message_bytes,
                max_ahead_ms=limits.max_ahead_ms,
                idle_timeout_ms=limits.idle_timeout_ms,
                max_session_ms=limits.max_session_ms,
            )
        )
        log.info("session opened", extra=self._context())

    def _audio(self, data: bytes) -> None:
        stream = self._stream
        if stream is None:
            raise Refusal("bad_order", 'audio came before \'start\'; send {"type": "start", ...} first')
        gateway = self._gateway
        if len(data) > gateway.limits.max_message_bytes:
            self._check_size(len(data))
        gateway.engine.audio(stream, data, self.heard_ns)
        if stream.received > self._unchecked:
            self._check_limits(stream)

    def _check_limits(self, stream: Stream) -> None:
        limits = self._gateway.limits
        audio_ms = stream.received * self.ns_per_byte / 1e6
        if audio_ms > limits.max_session_ms:
            raise Refusal(
                "session_too_long", f"the session has more than {limits.max_session_ms} ms of audio; open a new one"
            )
        ahead_ms = audio_ms - (self.heard_ns - self.ahead_ns) / 1e6
        if ahead_ms > limits.max_ahead_ms:
            raise Refusal(
                "too_far_ahead",
                f"the audio is {ahead_ms:.0f} ms ahead of real time, {limits.max_ahead_ms} are allowed: send it slower",
            )
        waiting_ms = (stream.received - stream.drained) * self.ns_per_byte / 1e6 + stream.backlog / SAMPLES_PER_MS
        if waiting_ms > limits.backlog_ms and not stream.held_back:
            stream.held_back = True
            self._reading(False)
            self._gateway.engine.nudge(stream)
        # Of these only the audio grows: time goes on, and what waits is dealt with.
        room_ms = min(limits.max_session_ms - audio_ms, limits.max_ahead_ms - ahead_ms, limits.backlog_ms - waiting_ms)
        self._unchecked = stream.received + int(room_ms * 1e6 / self.ns_per_byte)

    def _mark(self, message: Flush | Finish) -> None:
        stream = self._stream
        if stream is None:
            raise Refusal("bad_order", "'flush' and 'finish' have nothing to end before 'start'")
        if isinstance(message, Flush):
            self._gateway.engine.mark(stream, "flush")
        else:
            self.state = FINISHING
            self._gateway.engine.mark(stream, "finish")

    def _reading(self, on: bool) -> None:
        transport = None if self._transport is None else self._transport.underlying_transport
        if transport is not None and not transport.is_closing():
            transport.resume_reading() if on else transport.pause_reading()

    # Called by the engine's answers, on the event loop.

    def said(self, events: Sequence[PartialEvent | FinalEvent], finished: bool) -> None:
        """Send what the session says."""
        if self.state == ENDED:
            return
        now_ns = perf_counter_ns()
        metrics = self._gateway.metrics
        for event in events:
            waited_s = (now_ns - event.arrived_ns) / 1e9
            if isinstance(event, FinalEvent):
                self._latest = None
                self._send(self._final(event))
                metrics.latency_final.observe(waited_s)
                metrics.endpoint_delay_s.observe(waited_s + event.waited_ms / 1e3)
            else:
                self._say(event)
                metrics.latency_partial.observe(waited_s)
        if finished:
            self._send(Closing(reason="finished", grace_ms=0))
            self._end("finished")
            self._close(1000)

    def _say(self, event: PartialEvent) -> None:
        said = event.partial
        partial = Partial(
            segment=event.segment,
            text=said.text,
            stable_chars=said.stable_chars,
            start_ms=event.start_ms,
            audio_ms=event.audio_ms,
        )
        if self._slow_since_ns:
            self._latest = partial  # a newer partial replaces it; it is sent when the client reads again
        else:
            self._send(partial)

    def _final(self, event: FinalEvent) -> Final:
        words = event.words if self._start is not None and self._start.words else ()
        return Final(
            segment=event.segment,
            text=event.text,
            words=[
                messages.Word(
                    text=word.text,
                    start_ms=event.start_ms + round(word.start_s * 1_000),
                    end_ms=event.start_ms + round(word.end_s * 1_000),
                    confidence=min(1.0, max(0.0, word.confidence)),
                )
                for word in words
            ],
            cause=event.cause,
            start_ms=event.start_ms,
            end_ms=event.end_ms,
            audio_ms=event.audio_ms,
        )

    def tracing(self, job: Job) -> FinalTrace | None:
        """See `server.engine.Listener`."""
        span = self._span
        return None if span is None else self._gateway.tracing.open_final(span, job.arrived_ns)

    def relieved(self) -> None:
        """There is room for audio again."""
        if self.state != ENDED:
            self._reading(True)

    def failed(self, code: str, message: str) -> None:
        """Tell the client what went wrong, and close."""
        if self.state == ENDED:
            return
        self._gateway.metrics.errors.labels(code).inc()
        self._send(error_message(code, message))
        self._end(code, message)
        self._close(close_code(code))

    # Called by the gateway.

    def draining(self, grace_ms: int) -> None:
        """The server shuts down."""
        if self.state == WAITING:
            self.failed("draining", "the server shuts down; connect again")
        elif self.state in (OPEN, FINISHING):
            self._send(Closing(reason="draining", grace_ms=grace_ms))

    def watch(self, now_ns: int) -> None:
        """End it where it is too slow or silent."""
        limits = self._gateway.settings.limits
        if self.state == ENDED:
            return
        if self._slow_since_ns and now_ns - self._slow_since_ns > limits.slow_client_ms * 1_000_000:
            self.failed("too_slow", f"the client read nothing for {limits.slow_client_ms} ms; connect again")
        elif self.state == WAITING:
            if now_ns - self.opened_ns > limits.start_timeout_ms * 1_000_000:
                self.failed("start_timeout", f"no 'start' came for {limits.start_timeout_ms} ms")
        elif (
            self.state == OPEN
            and now_ns - self.heard_ns > limits.idle_timeout_ms * 1_000_000
            and not (self._stream is not None and self._stream.held_back)
        ):
            self.failed("idle_timeout", f"no message came for {limits.idle_timeout_ms} ms; connect again")

    # How it ends.

    def _send(self, message: messages.ServerMessage) -> None:
        transport = self._transport
        if transport is not None and not transport.is_disconnected:
            transport.send(_TEXT, _encoder.encode(message))
            self._gateway.metrics.sent(message)

    def _end(self, outcome: str, message: str = "") -> None:
        self.state = ENDED
        stream, self._stream = self._stream, None
        if stream is not None:
            self._gateway.engine.close(stream)
            self._gateway.released(self, outcome, stream.received / stream.bytes_per_s)
            audio_ms = round(stream.received / stream.bytes_per_s * 1_000)
            log.info("session ended", extra={**self._context(), "outcome": outcome, "audio_ms": audio_ms})
        if message:
            log.warning("client refused: %s", message, extra={**self._context(), "code": outcome})
        if self._span is not None:
            self._span.set_attribute("outcome", outcome)
            self._span.end()

    def _close(self, code: int) -> None:
        transport = self._transport
        if transport is None or transport.is_disconnected:
            return
        self._reading(True)  # to hear the client's close frame
        transport.send_close(code)  # type: ignore[arg-type]  # picows takes any number
        # A client that does not answer, or does not read, is not waited for.
        self._gateway.loop.call_later(CLOSE_TIMEOUT_S, transport.disconnect, False)

    def _context(self) -> dict[str, str | None]:
        return {"session": self.session or None, "trace_id": trace_id(self._span) if self._span else None}
