"""Audio from the microphone (needs the extra `microphone`)."""

from __future__ import annotations

from collections.abc import Iterator
from queue import Queue

from amira_client.errors import AmiraClientError


def microphone(sample_rate: int = 16_000, chunk_ms: int = 100, device: int | str | None = None) -> Iterator[bytes]:
    """PCM16 chunks from the microphone, without end.

    Raises:
        AmiraClientError: The package `sounddevice` is missing, or there is no microphone.
    """
    try:
        import sounddevice
    except (ImportError, OSError) as error:
        raise AmiraClientError(
            f"the microphone needs the package sounddevice and PortAudio ({error}): "
            "pip install 'amira-client[microphone]'"
        ) from error
    chunks: Queue[bytes] = Queue()

    def taken(data: object, frames: int, time: object, status: object) -> None:
        chunks.put(bytes(data))  # type: ignore[call-overload]  # a buffer of the library

    try:
        stream = sounddevice.RawInputStream(
            samplerate=sample_rate,
            blocksize=sample_rate * chunk_ms // 1_000,
            device=device,
            channels=1,
            dtype="int16",
            callback=taken,
        )
    except sounddevice.PortAudioError as error:
        raise AmiraClientError(f"the microphone cannot be opened: {error}. List them: python -m sounddevice") from error
    with stream:
        while True:
            yield chunks.get()
