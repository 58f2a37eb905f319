"""The worker process: runs `engine.Engine` on the Python that has k2, until its requests end.

usage: worker.py REQUESTS RESPONSES MEMORY (file descriptors)

A message is its length (4 bytes, little-endian) and JSON. Arrays lie in the shared memory, the request's from byte 0
on, the response's in their place. The memory may have grown: every request says how large it is.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
import sys
import traceback
from typing import Any, Dict, List, Optional  # noqa: UP035  (Python 3.9)

import numpy as np
from engine import Engine  # type: ignore[import-not-found]


def read_exactly(fd: int, size: int) -> bytes:
    """`size` bytes, or fewer if the other end is gone."""
    data = b""
    while len(data) < size:
        more = os.read(fd, size - len(data))
        if not more:
            break
        data += more
    return data


def receive(fd: int) -> Optional[Dict[str, Any]]:  # noqa: UP006, UP045
    """The next message, or `None` at the end."""
    head = read_exactly(fd, 4)
    if len(head) < 4:
        return None
    return dict(json.loads(read_exactly(fd, struct.unpack("<I", head)[0])))


def send(fd: int, message: Dict[str, Any]) -> None:  # noqa: UP006
    """Send a message."""
    data = json.dumps(message).encode()
    data = struct.pack("<I", len(data)) + data
    while data:
        data = data[os.write(fd, data) :]


class Worker:
    """Answers requests."""

    def __init__(self, memory_fd: int) -> None:
        self._fd = memory_fd
        self._memory = None  # type: Any
        self._size = 0
        self._engine = None  # type: Any

    def answer(self, request: Dict[str, Any]) -> Dict[str, Any]:  # noqa: UP006
        """Carry out one request."""
        if request["memory"] != self._size:
            self._size = request["memory"]
            self._memory = mmap.mmap(self._fd, self._size)
        return dict(getattr(self, "_" + request["do"])(request))

    def _open(self, request: Dict[str, Any]) -> Dict[str, Any]:  # noqa: UP006
        arrays = self._transducer(request["graph"])
        more = {}
        if request["grammar"] is not None:
            more = {"grammar": self._transducer(request["grammar"]), "weight": request["weight"]}
        self._engine = Engine(arrays, request["device"], request["threads"], **more)
        return {}

    def _transducer(self, places: Dict[str, Any]) -> Dict[str, Any]:  # noqa: UP006
        arrays = {"start": places["start"]}
        for name, kind, start, count in places["arrays"]:
            arrays[name] = np.frombuffer(self._memory, kind, count, start).copy()
        return arrays

    def _decode(self, request: Dict[str, Any]) -> Dict[str, Any]:  # noqa: UP006
        values = self._values(request)
        readings = self._engine.decode(values, request["beam"], request["lattice_beam"], request["nbest"])
        sizes = []
        flat = []  # type: List[int]
        for labels, outputs, score in readings:
            sizes.append([len(labels), len(outputs), score])
            flat += labels
            flat += outputs
        return self._with_numbers({"readings": sizes}, flat)

    def _push(self, request: Dict[str, Any]) -> Dict[str, Any]:  # noqa: UP006
        outputs = self._engine.push(request["stream"], self._values(request), request["beam"])
        return self._with_numbers({}, outputs)

    def _close(self, request: Dict[str, Any]) -> Dict[str, Any]:  # noqa: UP006
        self._engine.close(request["stream"])
        return {}

    def _values(self, request: Dict[str, Any]) -> Any:  # noqa: UP006
        shape = request["shape"]
        return np.frombuffer(self._memory, np.float32, shape[0] * shape[1]).reshape(shape).copy()

    def _with_numbers(self, answer: Dict[str, Any], numbers: List[int]) -> Dict[str, Any]:  # noqa: UP006
        data = np.array(numbers, np.int32).tobytes()
        if len(data) > self._size:  # a few frames in, many readings out
            answer["numbers"] = numbers
        else:
            self._memory[: len(data)] = data
            answer["count"] = len(numbers)
        return answer


def main() -> None:
    """Serve until the requests end."""
    requests, responses, memory = (int(argument) for argument in sys.argv[1:4])
    worker = Worker(memory)
    while True:
        request = receive(requests)
        if request is None:
            return
        try:
            answer = worker.answer(request)
        except Exception as error:  # noqa: BLE001  the caller shall hear of it, whatever it is
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"}
        send(responses, answer)


if __name__ == "__main__":
    main()
