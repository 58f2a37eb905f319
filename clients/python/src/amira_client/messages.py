"""The messages of the protocol, version 1.

Generated from protocol/schemas by protocol/generate.py: change it there.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct, field


class Word(Struct, frozen=True, kw_only=True):
    """A word."""

    text: str
    start_ms: Annotated[int, Meta(ge=0)]
    """Start in the audio."""
    end_ms: Annotated[int, Meta(ge=0)]
    """End in the audio."""
    confidence: Annotated[float, Meta(ge=0, le=1)]
    """Probability that the word is right, as the decoder sees it."""


class Segment(Struct, frozen=True, kw_only=True):
    """A segment."""

    text: str
    start_ms: Annotated[int, Meta(ge=0)]
    """Start in the audio."""
    end_ms: Annotated[int, Meta(ge=0)]
    """End in the audio."""


class ProblemDetail(Struct, frozen=True, kw_only=True):
    """What went wrong."""

    code: str
    message: str
    retryable: bool


class Start(Struct, frozen=True, kw_only=True, tag_field="type", tag="start", forbid_unknown_fields=True):
    """The first message of a session: what audio comes and what is wanted.

    A key that this version does not know is refused.
    """

    sample_rate: int
    """Samples per second, 8000 to 48000. There is no default: a wrong rate gives wrong words."""
    protocol: Annotated[int, Meta(ge=1)] = 1
    """Version of the protocol; this is version 1."""
    encoding: Annotated[str, Meta(max_length=32)] = "pcm_s16le"
    """How audio messages encode mono samples: `pcm_s16le`, `pcm_f32le` (in [-1, 1]), `mulaw` or `alaw` (G.711)."""
    language: Annotated[str, Meta(max_length=35)] = "en"
    """BCP 47 tag of the spoken language."""
    partials: bool = True
    """Whether to send `partial` messages."""
    words: bool = True
    """Whether finals carry word times and confidences, where the decoder has them."""
    silence_ms: Annotated[int, Meta(ge=100, le=5000)] | None = None
    """Silence that ends a segment; the server's setting where it is null."""
    max_segment_ms: Annotated[int, Meta(ge=2000, le=30000)] | None = None
    """A segment that grows longer is ended at a pause; the server's setting where it is null."""
    hot_words: Annotated[list[Annotated[str, Meta(min_length=1, max_length=100)]], Meta(max_length=500)] = field(
        default_factory=list
    )
    """Words to prefer; of a phrase each word. A server refuses words that its decoding graph does not know. A server
    whose decoder cannot refuses with `unsupported_option`."""
    expected_text: Annotated[str, Meta(max_length=20000)] | None = None
    """The text that the reader is expected to read. A server whose decoder cannot use it refuses with
    `unsupported_option`."""
    decoder: Annotated[dict[str, bool | float | str], Meta(max_length=32)] = field(default_factory=dict)
    """Options of the decoder by name. A server refuses those that its decoder does not have, with
    `unsupported_option`."""
    token: Annotated[str, Meta(max_length=4096)] | None = None
    """Bearer token, for clients that cannot set the `Authorization` header (browsers)."""
    resume_ms: Annotated[int, Meta(ge=0)] = 0
    """Where an interrupted session goes on: the `audio_ms` of its last `final`. The client sends its audio again
    from there; all times go on from there."""
    resume_segment: Annotated[int, Meta(ge=0)] = 0
    """Number of the next segment of an interrupted session."""
    traceparent: Annotated[str, Meta(max_length=128)] | None = None
    """W3C trace context, for clients that cannot set the `traceparent` header."""


class Flush(Struct, frozen=True, kw_only=True, tag_field="type", tag="flush", forbid_unknown_fields=True):
    """End the current segment now.

    Answered by exactly one `final` with cause `flush`; its text is empty where nothing was said.
    """


class Finish(Struct, frozen=True, kw_only=True, tag_field="type", tag="finish", forbid_unknown_fields=True):
    """There is no more audio.

    Answered by exactly one `final` with cause `finish`, then `closing`, then the server closes the connection.
    """


class Ready(Struct, frozen=True, kw_only=True, tag_field="type", tag="ready"):
    """Answers `start`: the session is open.

    Clients ignore keys that they do not know, in this and all server messages.
    """

    protocol: int
    """Version of the protocol that this session speaks."""
    session: str
    """Id of the session, as in the server's logs and traces."""
    model: str
    """What recognises."""
    partials: bool
    """Whether partials will be sent."""
    max_message_bytes: int
    """Largest message that the server takes, in bytes."""
    max_ahead_ms: int
    """How far audio may run ahead of real time, counted from `ready`."""
    idle_timeout_ms: int
    """The session ends when no message came for this long."""
    max_session_ms: int
    """The session ends when its audio is this long."""


class Partial(Struct, frozen=True, kw_only=True, tag_field="type", tag="partial"):
    """What the running segment says so far."""

    segment: Annotated[int, Meta(ge=0)]
    """Number of the segment; the first of a session is 0, or `resume.segment`."""
    text: str
    """The best reading of the segment so far; replaces that of the partial before."""
    stable_chars: Annotated[int, Meta(ge=0)]
    """The first so many characters (Unicode code points) of `text` are the same in every later partial of the
    segment. The final may still correct them."""
    start_ms: Annotated[int, Meta(ge=0)]
    """Start of the segment in the audio."""
    audio_ms: Annotated[int, Meta(ge=0)]
    """How much audio went into it, from the start of the session."""


class Final(Struct, frozen=True, kw_only=True, tag_field="type", tag="final"):
    """What a segment says, for good. Finals come in the order of their segments."""

    segment: Annotated[int, Meta(ge=0)]
    """Number of the segment; the first of a session is 0, or `resume.segment`."""
    text: str
    """What was said; empty where nothing was said."""
    words: list[Word]
    """Word times; empty where the decoder has none or the client wants none."""
    cause: Literal["endpoint", "limit", "flush", "finish"]
    """What ended the segment: a pause, its length limit, or the client."""
    start_ms: Annotated[int, Meta(ge=0)]
    """Start of the segment in the audio."""
    end_ms: Annotated[int, Meta(ge=0)]
    """End of the segment in the audio."""
    audio_ms: Annotated[int, Meta(ge=0)]
    """All audio before is dealt with: an interrupted client resumes from here."""


class Error(Struct, frozen=True, kw_only=True, tag_field="type", tag="error"):
    """The session failed and the server closes the connection after it. See `protocol/README.md` for each code."""

    code: Literal[
        "bad_message",
        "bad_order",
        "bad_audio",
        "unsupported_protocol",
        "unsupported_encoding",
        "unsupported_sample_rate",
        "unsupported_language",
        "unsupported_option",
        "message_too_large",
        "too_far_ahead",
        "too_slow",
        "start_timeout",
        "idle_timeout",
        "session_too_long",
        "unauthorized",
        "at_capacity",
        "draining",
        "backend_unavailable",
        "internal",
    ]
    message: str
    """What went wrong and what to do, for people."""
    retryable: bool
    """Whether the same session may succeed later or elsewhere: reconnect with `resume_ms` and `resume_segment`."""
    retry_after_ms: Annotated[int, Meta(ge=0)] | None = None
    """When to try again, where the server can say."""


class Closing(Struct, frozen=True, kw_only=True, tag_field="type", tag="closing"):
    """The session ends.

    After `finished` nothing follows; after `draining` the server goes on until the client finishes or the grace
    time is over.
    """

    reason: Literal["finished", "draining"]
    grace_ms: Annotated[int, Meta(ge=0)]
    """How long the session may still go on."""


class Transcript(Struct, frozen=True, kw_only=True):
    """What `POST /v1/transcribe` answers."""

    text: str
    """All that was said, on one line."""
    duration_ms: Annotated[int, Meta(ge=0)]
    """Length of the audio."""
    model: str
    segments: list[Segment]
    words: list[Word]
    """Word times; empty where the decoder has none."""


class Problem(Struct, frozen=True, kw_only=True):
    """What an HTTP request that failed is answered with; the codes are those of `error`."""

    error: ProblemDetail
    """What went wrong."""


ClientMessage = Start | Flush | Finish
ServerMessage = Ready | Partial | Final | Error | Closing
