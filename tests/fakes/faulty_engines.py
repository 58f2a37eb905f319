"""Engines that misbehave, registered as a third party would: through an entry point of a package of their own.

Each does its first `after` calls well, so that a fault always comes with samples before it.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from pipelines.contracts import ENGINE_STAGE, Hypotheses, Hypothesis, Recognizer, Trace
from pipelines.errors import AmiraError
from pipelines.registry import Context, Unavailable, Variant


class FaultOptions(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    after: int = 2
    pid_file: str = ""
    """Gets the ids of the processes that the engine runs in, one a line."""


class Engine(Variant):
    """Base of them all: a recogniser that says how many bytes it got, until its fault is due."""

    summary: ClassVar[str] = "an engine of the tests"
    options: ClassVar[type[BaseModel]] = FaultOptions

    def __init__(self, options: FaultOptions) -> None:
        self._options = options
        self._calls = 0
        self._opened(options)

    @classmethod
    def _open_impl(cls, context: Context, options: Any) -> AbstractContextManager[Recognizer]:
        return cls._opened_engine(options)

    @classmethod
    @contextmanager
    def _opened_engine(cls, options: FaultOptions) -> Iterator[Recognizer]:
        yield cls(options)

    def warm_up(self) -> None:
        return

    def recognize(self, pcm: bytes | memoryview, trace: Trace) -> tuple[Hypotheses, int]:
        with trace.span(ENGINE_STAGE):
            self._calls += 1
            if self._calls > self._options.after:
                self._fault()
            text = self._text(pcm)
        return (Hypothesis(text, (), 0.0),), 1

    def _opened(self, options: FaultOptions) -> None:
        return

    def _fault(self) -> None:
        return

    def _text(self, pcm: bytes | memoryview) -> str:
        return f"{len(pcm)} bytes"


class Sound(Engine):
    id = "peer/sound"


class Staged(Engine):
    """Two stages of honest work. The environment can make one slower, or the engine deaf or broken."""

    id = "peer/staged"

    def recognize(self, pcm: bytes | memoryview, trace: Trace) -> tuple[Hypotheses, int]:
        slow, _, factor = os.environ.get("AMIRA_TEST_SLOW", "").partition(":")
        if "AMIRA_TEST_BROKEN" in os.environ:
            raise RuntimeError("the engine is broken")
        for stage, work in (("acoustic", 20_000), ("decode", 40_000)):
            with trace.span(stage):
                sum(range(int(work * (float(factor) if stage == slow else 1))))
        number = len(pcm) // 3200
        text = "nothing" if "AMIRA_TEST_DEAF" in os.environ else f"this is clip {number}"
        return (Hypothesis(text, (), float("nan")),), 0


class Witness(Engine):
    """Says under which conditions it was called."""

    id = "peer/witness"

    def _text(self, pcm: bytes | memoryview) -> str:
        seen = {
            "affinity": sorted(os.sched_getaffinity(0)),
            "omp": os.environ["OMP_NUM_THREADS"],
            "collecting": gc.isenabled(),
            "pid": os.getpid(),
            "frozen": gc.get_freeze_count(),
        }
        return json.dumps(seen)


class Surroundings(Engine):
    """Wants a variable in the environment of its process, and says what it found there."""

    id = "peer/surroundings"

    @classmethod
    def process_environment(cls, environment: Mapping[str, str]) -> dict[str, str]:
        return {"AMIRA_TEST_METAL": "brass"}

    def _text(self, pcm: bytes | memoryview) -> str:
        return os.environ.get("AMIRA_TEST_METAL", "none")


class Killed(Engine):
    """Is killed; before that it plays the kernel that counts it, if a test names the file of the count."""

    id = "peer/killed"

    def _fault(self) -> None:
        if "COUNT_FILE" in os.environ:
            Path(os.environ["COUNT_FILE"]).write_text(os.environ["COUNT_TEXT"], encoding="ascii")
        os.kill(os.getpid(), signal.SIGKILL)


class Regicide(Engine):
    """Kills the process that follows it, once it is sure that it is not the runner."""

    id = "peer/regicide"

    def _fault(self) -> None:
        name = Path(f"/proc/{os.getppid()}/comm").read_text(encoding="ascii")
        if not name.startswith("ray::"):
            raise RuntimeError(f"this is {name.strip()}")
        os.kill(os.getppid(), signal.SIGKILL)
        threading.Event().wait()


class Segfault(Engine):
    id = "peer/segfault"

    def _fault(self) -> None:
        ctypes.string_at(0)


class BadAlloc(Engine):
    """Dies as a C++ library without memory does."""

    id = "peer/bad-alloc"

    def _fault(self) -> None:
        os.write(2, b"terminate called after throwing an instance of 'std::bad_alloc'\n  what():  std::bad_alloc\n")
        os.abort()


class Raises(Engine):
    id = "peer/raises"

    def _fault(self) -> None:
        raise RuntimeError("the engine has lost\nits way")


class Hungry(Engine):
    id = "peer/hungry"

    def _fault(self) -> None:
        eaten = []
        while True:
            eaten.append(bytearray(b"x") * (8 << 20))


class Leaves(Engine):
    id = "peer/leaves"

    def _fault(self) -> None:
        os._exit(3)


class Hangs(Engine):
    """Hangs, will not be terminated, and has a helper process that will not either."""

    id = "peer/hangs"

    def _opened(self, options: FaultOptions) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        helper = _start_helper()
        Path(options.pid_file).write_text(f"{os.getpid()}\n{helper}\n", encoding="ascii")

    def _fault(self) -> None:
        threading.Event().wait()


class Orphans(Engine):
    """Measures well and forgets a helper process."""

    id = "peer/orphans"

    def _opened(self, options: FaultOptions) -> None:
        Path(options.pid_file).write_text(f"{os.getpid()}\n{_start_helper()}\n", encoding="ascii")


class Slow(Engine):
    """Takes its time, so that there is time to interrupt it."""

    id = "peer/slow"

    def _opened(self, options: FaultOptions) -> None:
        if options.pid_file:
            Path(options.pid_file).write_text(f"{os.getpid()}\n", encoding="ascii")

    def _text(self, pcm: bytes | memoryview) -> str:
        threading.Event().wait(0.05)
        return super()._text(pcm)


class Chatty(Engine):
    """Prints more than any pipe holds, also past Python."""

    id = "peer/chatty"

    def _text(self, pcm: bytes | memoryview) -> str:
        print('{"event": "done"}\n' * 1000, flush=True)
        os.write(1, b"\xff\x00garbage\n" * 20_000)
        os.write(2, b"\xff\x00 grumble" * 20_000)
        return super()._text(pcm)


class HalfCharacter(Engine):
    id = "peer/half-character"

    def _text(self, pcm: bytes | memoryview) -> str:
        return "caf\udcc3"


class DiesAtExit(Engine):
    id = "peer/dies-at-exit"

    def _opened(self, options: FaultOptions) -> None:
        atexit.register(os.abort)


class Unloadable(Engine):
    id = "peer/unloadable"

    def _opened(self, options: FaultOptions) -> None:
        raise AmiraError("model 'x' is not built. Build it with: amira models build")


class Absent(Engine):
    id = "peer/absent"

    @classmethod
    def available(cls) -> Unavailable | None:
        return Unavailable("it needs a machine of brass", "Build one")


class Verbose(Engine):
    """Fills a disk quickly: 3 KB for each utterance."""

    id = "peer/verbose"

    def _text(self, pcm: bytes | memoryview) -> str:
        return "word " * 600


def _start_helper() -> int:
    """A process in our group that ends only by SIGKILL."""
    code = "import signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); signal.pause()"
    helper = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert helper.stdout is not None
    helper.stdout.readline()
    return helper.pid
