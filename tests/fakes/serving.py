"""A real server as a process of its own, on a free port."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
START_TIMEOUT_S = 90


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """A server process and what it has logged."""

    def __init__(self, *arguments: str, environment: dict[str, str] | None = None) -> None:
        self.log: list[dict[str, object]] = []
        self._port = threading.Event()
        self.port = 0
        command = [sys.executable, "-m", "server", "--port", "0", *arguments]
        self.process = subprocess.Popen(
            command, cwd=ROOT, stderr=subprocess.PIPE, text=True, env={**os.environ, **(environment or {})}
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if not self._port.wait(START_TIMEOUT_S) or not self.port:
            self.process.kill()
            raise RuntimeError(f"the server did not start: {self.log}")

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    @property
    def http(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(self.http + path, timeout=30) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def metric(self, name: str) -> float:
        """The value of a sample, named as in the exposition, labels and all."""
        for line in self.get("/metrics")[1].splitlines():
            if line.rpartition(" ")[0] == name:
                return float(line.rpartition(" ")[2])
        return 0.0

    def stop(self, number: int = signal.SIGTERM, timeout_s: float = 30) -> int:
        self.process.send_signal(number)
        return self.wait(timeout_s)

    def wait(self, timeout_s: float = 30) -> int:
        code = self.process.wait(timeout_s)
        self._reader.join(5)
        return code

    def messages(self) -> list[str]:
        return [str(line.get("message", "")) for line in self.log]

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            try:
                entry = json.loads(line)
            except ValueError:
                entry = {"message": line.rstrip(), "level": "raw"}
            self.log.append(entry)
            found = re.search(r"serving on \S+:(\d+)$", str(entry.get("message", "")))
            if found:
                self.port = int(found.group(1))
                self._port.set()
        self._port.set()


@contextmanager
def serving(*arguments: str, environment: dict[str, str] | None = None) -> Iterator[Server]:
    """A server for the time of a block; it must then end by itself, well."""
    server = Server(*arguments, environment=environment)
    try:
        yield server
        if server.process.poll() is None:
            assert server.stop() == 0, server.log[-5:]
    finally:
        if server.process.poll() is None:
            server.process.kill()
            server.process.wait()
    bugs = [line for line in server.log if "exception" in line or line.get("level") == "raw"]
    assert not bugs, bugs
