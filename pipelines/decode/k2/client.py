"""The other end of the worker: keeps one process with k2 alive, and starts it again once where it dies or hangs."""

from __future__ import annotations

import json
import mmap
import os
import select
import struct
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from tempfile import TemporaryFile
from threading import RLock
from time import monotonic
from typing import IO, Any, NamedTuple, TypeVar

import numpy as np

from pipelines.contracts import Float32
from pipelines.decode.openfst import Transducer
from pipelines.errors import AmiraError

START_TIMEOUT_S = 300.0
"""Longest time to import torch and k2 and convert a graph."""
FIRST_BYTES = 1 << 20
ARRAYS = ("finals", "sources", "inputs", "outputs", "costs", "targets")
Reading = tuple[list[int], list[int], float]
T = TypeVar("T")


class WorkerLostError(Exception):
    """The worker died or did not answer."""


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """How to run the worker.

    Attributes:
        python: The interpreter that has k2.
        device: Where k2 searches.
        threads: For torch.
        timeout_s: Longest time for one call.
    """

    python: Path
    device: str
    threads: int
    timeout_s: float


class Grammar(NamedTuple):
    """A second n-gram and its weight (see `engine.Engine`)."""

    acceptor: Transducer
    weight: float


class Worker:
    """One worker process and the memory that is shared with it. Not for several threads at once."""

    def __init__(self, settings: WorkerSettings, graph: Transducer, grammar: Grammar | None = None) -> None:
        self._settings = settings
        self._memory_fd = os.memfd_create("amira-k2")
        self._size = 0
        self._memory: mmap.mmap | None = None
        self._stderr: IO[bytes] = TemporaryFile()  # noqa: SIM115  closed with the worker
        try:
            self._start()
            self._open(graph, grammar)
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    def decode(self, log_probs: Float32, beam: float, lattice_beam: float, nbest: int) -> list[Reading]:
        """See `engine.Engine.decode`."""
        answer = self._call(
            self._settings.timeout_s, log_probs, do="decode", beam=beam, lattice_beam=lattice_beam, nbest=nbest
        )
        numbers, at = self._numbers(answer), 0
        readings: list[Reading] = []
        for labels, outputs, score in answer["readings"]:
            middle, end = at + labels, at + labels + outputs
            readings.append((numbers[at:middle], numbers[middle:end], score))
            at = end
        return readings

    def push(self, stream: int, log_probs: Float32, beam: float) -> list[int]:
        """See `engine.Engine.push`."""
        return self._numbers(self._call(self._settings.timeout_s, log_probs, do="push", stream=stream, beam=beam))

    def close_stream(self, stream: int) -> None:
        """See `engine.Engine.close`."""
        self._call(self._settings.timeout_s, None, do="close", stream=stream)

    def close(self) -> None:
        """End the process and give everything back."""
        if hasattr(self, "_process"):
            self._process.kill()
            self._process.wait()
            os.close(self._requests)
            os.close(self._responses)
        if self._memory is not None:
            self._memory.close()
        os.close(self._memory_fd)
        self._stderr.close()

    def last_words(self) -> str:
        """The last line that the process wrote."""
        self._stderr.seek(0)
        lines = self._stderr.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"

    def _start(self) -> None:
        requests_read, self._requests = os.pipe()
        self._responses, responses_write = os.pipe()
        theirs = (requests_read, responses_write, self._memory_fd)
        script = Path(__file__).with_name("worker.py")
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        try:
            self._process = subprocess.Popen(
                [str(self._settings.python), str(script), *map(str, theirs)],
                stdin=subprocess.DEVNULL, stdout=self._stderr, stderr=self._stderr, pass_fds=theirs, env=environment,
            )  # fmt: skip
        except OSError as error:
            os.close(self._requests)
            os.close(self._responses)
            raise WorkerLostError(f"{self._settings.python} cannot be run: {error}") from error
        finally:
            os.close(requests_read)
            os.close(responses_write)

    def _open(self, graph: Transducer, grammar: Grammar | None) -> None:
        transducers = [graph, *([grammar.acceptor] if grammar else [])]
        messages: list[dict[str, Any]] = []
        at = 0
        for transducer in transducers:
            places = []
            for name in ARRAYS:
                array: np.ndarray[Any, Any] = getattr(transducer, name)
                places.append((name, array.dtype.str, at, array.size))
                at += -(-array.nbytes // 8) * 8
            messages.append({"start": transducer.start, "arrays": places})
        memory = self._room(max(at, FIRST_BYTES))
        for transducer, message in zip(transducers, messages, strict=True):
            for name, _, start, _ in message["arrays"]:
                array = getattr(transducer, name)
                memory[start : start + array.nbytes] = array.tobytes()
        settings = self._settings
        self._call(
            START_TIMEOUT_S, None, do="open", graph=messages[0], grammar=messages[1] if grammar else None,
            weight=grammar.weight if grammar else 0.0, device=settings.device, threads=settings.threads,
        )  # fmt: skip

    def _room(self, size: int) -> mmap.mmap:
        if self._memory is None or size > self._size:
            self._size = max(size, 2 * self._size)
            os.ftruncate(self._memory_fd, self._size)
            if self._memory is not None:
                self._memory.close()
            self._memory = mmap.mmap(self._memory_fd, self._size)
        return self._memory

    def _call(self, timeout_s: float, log_probs: Float32 | None, **request: Any) -> dict[str, Any]:
        if log_probs is not None:
            memory = self._room(log_probs.nbytes)
            memory[: log_probs.nbytes] = np.ascontiguousarray(log_probs).data.cast("B")
            request["shape"] = log_probs.shape
        data = json.dumps({**request, "memory": self._size}).encode()
        deadline = monotonic() + timeout_s
        try:
            os.write(self._requests, struct.pack("<I", len(data)) + data)
        except BrokenPipeError as error:
            raise self._lost() from error
        [size] = struct.unpack("<I", self._read(4, deadline, timeout_s))
        answer: dict[str, Any] = json.loads(self._read(size, deadline, timeout_s))
        if "error" in answer:
            raise AmiraError(f"k2 failed: {answer['error']}. Try decoder/kaldi-decoder on the same graph")
        return answer

    def _read(self, size: int, deadline: float, timeout_s: float) -> bytes:
        data = b""
        while len(data) < size:
            ready, _, _ = select.select([self._responses], [], [], max(0.0, deadline - monotonic()))
            if not ready:
                raise WorkerLostError(f"it did not answer within {timeout_s:g} s (option 'timeout_s')")
            more = os.read(self._responses, size - len(data))
            if not more:
                raise self._lost()
            data += more
        return data

    def _lost(self) -> WorkerLostError:
        code = self._process.wait()
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        return WorkerLostError(f"it ended with {how}: {self.last_words()}")

    def _numbers(self, answer: dict[str, Any]) -> list[int]:
        if "numbers" in answer:
            return list(answer["numbers"])
        assert self._memory is not None  # a call has been made
        size = answer["count"] * 4
        return [int(number) for number in np.frombuffer(self._memory[:size], np.int32)]


class Client:
    """A worker for several threads that is started again, once for each call, where it is lost.

    Streams outlive it: whoever pushes says how to say everything again (`replay`).
    """

    def __init__(self, settings: WorkerSettings, graph: Transducer, grammar: Grammar | None = None) -> None:
        self._settings, self._graph, self._grammar = settings, graph, grammar
        self._lock = RLock()
        self._numbers = count()
        self._worker: Worker | None = None
        self._known: set[int] = set()
        with self._lock:
            self._again()

    @property
    def pid(self) -> int | None:
        """The worker's process, if there is one now."""
        return self._worker.pid if self._worker else None

    def decode(self, log_probs: Float32, beam: float, lattice_beam: float, nbest: int) -> list[Reading]:
        """See `engine.Engine.decode`."""
        return self._twice(lambda worker: worker.decode(log_probs, beam, lattice_beam, nbest))

    def open_stream(self) -> int:
        """The number of a new stream."""
        return next(self._numbers)

    def push(self, stream: int, log_probs: Float32, beam: float, replay: Callable[[], Float32 | None]) -> list[int]:
        """Search the next frames; `replay` gives all frames before them."""

        def attempt(worker: Worker) -> list[int]:
            if stream not in self._known:
                before = replay()
                if before is not None:
                    worker.push(stream, before, beam)
                self._known.add(stream)
            return worker.push(stream, log_probs, beam)

        return self._twice(attempt)

    def close_stream(self, stream: int) -> None:
        """Forget a stream."""
        with self._lock:
            if stream in self._known and self._worker is not None:
                self._known.discard(stream)
                try:
                    self._worker.close_stream(stream)
                except WorkerLostError:
                    self._drop()  # the stream is gone with it; the next call starts another

    def close(self) -> None:
        """End the worker."""
        with self._lock:
            self._drop()

    def _twice(self, call: Callable[[Worker], T]) -> T:
        with self._lock:
            lost: list[str] = []
            for _ in range(2):
                try:
                    return call(self._worker or self._again())
                except WorkerLostError as error:
                    lost.append(str(error))
                    self._drop()
            raise self._given_up(lost)

    def _again(self) -> Worker:
        try:
            self._worker = Worker(self._settings, self._graph, self._grammar)
        except WorkerLostError as error:
            raise self._given_up([str(error)]) from error
        return self._worker

    def _drop(self) -> None:
        self._known.clear()
        if self._worker is not None:
            self._worker.close()
            self._worker = None

    def _given_up(self, lost: list[str]) -> AmiraError:
        tries = "at its start" if len(lost) == 1 else "twice in one call"
        return AmiraError(
            f"the k2 worker ({self._settings.python}) was lost {tries}: {'; then '.join(lost)}. Check it with: "
            f"{self._settings.python} -c 'import k2', set it up anew with: make k2, or use decoder/kaldi-decoder on "
            "the same graph"
        )
