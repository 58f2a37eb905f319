"""An interpreter for the k2 worker whose engine is not k2's: it reads off the best labels, and fails on demand.

The worker, the client, the pipes and the shared memory are the real ones. What it does depends on how many frames it
is given and on whether it has done it before (a file in its folder remembers that).
"""

from __future__ import annotations

import sys
from pathlib import Path

DIES, DIES_ONCE, HANGS, HANGS_ONCE, FAILS, TALKS = 11, 12, 13, 14, 15, 16
_PROGRAM = """#!{python}
import os, runpy, signal, sys, types, pathlib
folder = pathlib.Path({folder!r})

class Engine:
    def __init__(self, graph, device, threads):
        self.graph = graph
        with (folder / "starts").open("a") as file:
            file.write(str(os.getpid()) + "\\n")

    def decode(self, log_probs, beam, lattice_beam, nbest):
        self._misbehave(len(log_probs))
        labels = log_probs.argmax(axis=1).tolist()
        return [(labels, [label for label in labels if label], float(beam))] * nbest

    def push(self, stream, log_probs, beam):
        self.heard = getattr(self, "heard", {{}})
        self.heard[stream] = self.heard.get(stream, []) + log_probs.argmax(axis=1).tolist()
        self._misbehave(len(log_probs))
        return [label for label in self.heard[stream] if label]

    def close(self, stream):
        pass

    def _misbehave(self, frames):
        marker = folder / str(frames)
        again, _ = marker.exists(), marker.touch()
        if frames == {dies} or (frames == {dies_once} and not again):
            print("out of memory, they say", file=sys.stderr, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        if frames == {hangs} or (frames == {hangs_once} and not again):
            signal.pause()
        if frames == {fails}:
            raise RuntimeError("some k2 error")
        if frames == {talks}:
            print("x" * 200_000, flush=True)

sys.modules["engine"] = types.SimpleNamespace(Engine=Engine)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def write(folder: Path) -> Path:
    """Write the interpreter; returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "python"
    path.write_text(
        _PROGRAM.format(
            python=sys.executable, folder=str(folder), dies=DIES, dies_once=DIES_ONCE, hangs=HANGS,
            hangs_once=HANGS_ONCE, fails=FAILS, talks=TALKS,
        ),
        "utf-8",
    )  # fmt: skip
    path.chmod(0o755)
    return path


def starts(folder: Path) -> list[int]:
    """The process ids of all workers so far."""
    return [int(line) for line in (folder / "starts").read_text().split()]
