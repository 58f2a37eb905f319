"""What a load is: how many streams, how long, and what kinds of clients."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

SAMPLE_RATE = 16_000


class _Stored(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LoadSpec(_Stored):
    """One step of a load run. Arrivals are open loop: audio is due by the clock, whatever the server does.

    Attributes:
        streams: Streams at once.
        seconds: How long each stream has audio.
        ramp_s: Streams start evenly over this time; 0 starts them all within one chunk (a burst).
        chunk_ms: Audio of one message; it is due when its last sample has been spoken.
        session_s: A stream ends its session and opens another after so much audio; 0 never (churn).
        vanishing: Share of the sessions that break off without a word, in their middle.
        slow: Share of the streams that stop reading.
        processes: Client processes.
        partials: Whether partials are asked for.
        anywhere: Whether a stream begins anywhere in the audio, be it within a word or a pause, as listeners to a crowd
            would find it; else at the beginning of a clip, where all of them speak at once.
        seed: Of who is slow, who vanishes and who reads what.
    """

    streams: int = Field(ge=1, le=20_000)
    seconds: float = Field(default=30.0, gt=0)
    ramp_s: float = Field(default=0.0, ge=0)
    chunk_ms: int = Field(default=100, ge=10, le=2_000)
    session_s: float = Field(default=0.0, ge=0)
    vanishing: float = Field(default=0.0, ge=0, le=1)
    slow: float = Field(default=0.0, ge=0, le=1)
    processes: int = Field(default=1, ge=1, le=64)
    partials: bool = True
    anywhere: bool = False
    seed: int = 0

    @property
    def chunk_samples(self) -> int:
        """Samples of one message."""
        return self.chunk_ms * SAMPLE_RATE // 1_000

    @property
    def chunks(self) -> int:
        """Messages of one stream."""
        return max(1, round(self.seconds * 1_000 / self.chunk_ms))


class Spoken(_Stored):
    """An utterance in the audio that all streams read from.

    Attributes:
        id: Of the clip.
        text: Its reference, `None` where there is none.
        speaker: Its speaker, `None` where unknown.
        start: First sample.
        stop: Behind its last sample; a pause follows.
    """

    id: str
    text: str | None
    speaker: str | None
    start: int
    stop: int


class Job(_Stored):
    """What one client process is to do.

    Attributes:
        url: The server.
        token: Bearer token, `None` for none.
        spec: The load.
        streams: Numbers of this process's streams.
        offsets: Where each of them starts in the audio, in samples.
        audio: Raw PCM16 file.
        output: Folder for its samples.
        start_ns: When the first stream starts, on the clock that all processes of a machine share; told when all of
            them are ready.
    """

    url: str
    token: str | None
    spec: LoadSpec
    streams: tuple[int, ...]
    offsets: tuple[int, ...]
    audio: str
    output: str
    start_ns: int = 0
