"""`python -m amira_client [FILE.wav] [--url ws://localhost:8080]`: live captions of a file or the microphone."""

from __future__ import annotations

import argparse
import sys
import wave
from collections.abc import Iterable, Iterator

from amira_client import AmiraClientError, Client, Final, microphone


def main() -> int:
    """Print finals on stdout, and partials on stderr where that is a terminal."""
    parser = argparse.ArgumentParser(prog="python -m amira_client", description="Live captions.")
    parser.add_argument("file", nargs="?", help="a mono 16-bit WAV file; the microphone if not given")
    parser.add_argument("--url", default="ws://localhost:8080", help="the server")
    parser.add_argument("--token", help="bearer token")
    options = parser.parse_args()
    try:
        audio, rate = _wav(options.file) if options.file else (microphone(), 16_000)
        with Client(options.url, token=options.token) as client:
            for event in client.events(audio, rate):
                if isinstance(event, Final) and event.text:
                    print(event.text, flush=True)
                elif sys.stderr.isatty():
                    print(f"\r\033[K{event.text[-100:]}", end="", file=sys.stderr, flush=True)
    except (AmiraClientError, OSError, wave.Error) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def _wav(path: str) -> tuple[Iterable[bytes], int]:
    with wave.open(path, "rb") as file:
        if file.getnchannels() != 1 or file.getsampwidth() != 2:
            raise AmiraClientError(f"{path} is not mono 16-bit; convert it: ffmpeg -i IN -ac 1 -sample_fmt s16 OUT.wav")
        rate = file.getframerate()
    return _frames(path, rate // 10), rate


def _frames(path: str, count: int) -> Iterator[bytes]:
    with wave.open(path, "rb") as file:
        while data := file.readframes(count):
            yield data


if __name__ == "__main__":
    sys.exit(main())
