"""Who may have a session: tokens, capacity, and what `start` may ask for."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from functools import lru_cache

from pipelines.audio.endpoint import EndpointRules
from pipelines.audio.ingest import ENCODINGS, MAX_RATE, MIN_RATE
from pipelines.contracts import SAMPLE_RATE
from pipelines.session import SessionSettings
from server.failures import Refusal
from server.messages import Start
from server.settings import Settings

PROTOCOL = 1
SUBPROTOCOL = "amira.asr.v1"
STREAM_PATH = "/v1/stream"
_WIDTHS = {"pcm_s16le": 2, "pcm_f32le": 4, "mulaw": 1, "alaw": 1}


def bearer(header: str | None) -> str | None:
    """The token of an `Authorization` header."""
    scheme, _, token = (header or "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None


def check_token(settings: Settings, offered: Sequence[str | None]) -> None:
    """Let in who has a token, or everybody where none is set.

    Raises:
        Refusal: None of the tokens is right.
    """
    if not settings.tokens:
        return
    # Every pair is compared, in constant time each: nothing is learnt from how long a refusal takes.
    matches = [
        hmac.compare_digest(given.encode(), known.get_secret_value().encode())
        for given in offered
        if given is not None
        for known in settings.tokens
    ]
    if not any(matches):
        raise Refusal("unauthorized", "a valid bearer token is needed: header 'Authorization: Bearer ...'")


def origin_allowed(settings: Settings, origin: str | None, host: str | None) -> bool:
    """Whether a page of this origin may connect. Programs send no origin; the server's own pages may always."""
    if origin is None or "*" in settings.allowed_origins or origin in settings.allowed_origins:
        return True
    return origin.partition("://")[2].lower() == (host or "").lower()


def bytes_per_s(start: Start) -> int:
    """The rate of the client's audio."""
    return start.sample_rate * _WIDTHS[start.encoding]


def check_start(settings: Settings, start: Start) -> None:
    """Refuse a `start` that this server cannot serve.

    Raises:
        Refusal: With the code of what is unsupported.
    """
    if start.protocol != PROTOCOL:
        raise Refusal("unsupported_protocol", f"protocol {start.protocol} is not spoken here, only {PROTOCOL}")
    if start.encoding not in ENCODINGS:
        raise Refusal(
            "unsupported_encoding", f"encoding '{start.encoding}' does not exist; have: {', '.join(ENCODINGS)}"
        )
    if not MIN_RATE <= start.sample_rate <= MAX_RATE:
        raise Refusal(
            "unsupported_sample_rate", f"sample_rate {start.sample_rate} is out of range: {MIN_RATE} to {MAX_RATE}"
        )
    language = start.language.partition("-")[0].lower()
    if language not in settings.languages:
        raise Refusal(
            "unsupported_language", f"language '{start.language}' is not known; have: {', '.join(settings.languages)}"
        )
    if start.decoder:
        raise Refusal(
            "unsupported_option",
            f"decoder: {', '.join(start.decoder)}: the decoder of this server takes no options of a session. "
            "Leave it out",
        )


def session_settings(settings: Settings, start: Start) -> SessionSettings:
    """What the session runs with: the client's wishes over the server's settings."""
    rules = settings.endpointing
    silence_ms = rules.silence_ms if start.silence_ms is None else start.silence_ms
    longest_ms = rules.max_segment_ms if start.max_segment_ms is None else start.max_segment_ms
    backlog_ms = settings.limits.backlog_ms
    return _shared_settings(
        silence_ms, longest_ms, rules.pad_ms, start.partials, backlog_ms, start.resume_ms, start.resume_segment
    )


@lru_cache(maxsize=256)
def _shared_settings(
    silence_ms: int, longest_ms: int, pad_ms: int, partials: bool, backlog_ms: int, offset_ms: int, first_segment: int
) -> SessionSettings:
    """One object for all sessions that want the same: it stays in the caches, where thousands would not."""
    per_ms = SAMPLE_RATE // 1_000
    rules = EndpointRules(silence_ms * per_ms, longest_ms * per_ms, pad_ms * per_ms)
    return SessionSettings(rules, partials, backlog_ms * per_ms, offset_ms, first_segment)
