"""A worker of the Ray executor: an actor on one machine of the cluster that measures blocks, one after the other.

It runs the processes as `harness.station` does everywhere: each fresh, pinned, followed to its end. Ray's own process
is their parent and measures nothing.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import socket
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Event

from harness.executor import Survey, entries_of, facts_of
from harness.fingerprint import VARIABLES
from harness.plan import Plan
from harness.records import Sample, Utterance
from harness.scratch import Scratch
from harness.shards import Outcome
from harness.side import Side
from harness.station import Block, Heard, Station

MACHINE_ID = Path("/etc/machine-id")


class Worker:
    """Its methods are called one at a time, but for `stop`."""

    def __init__(self, environment: Mapping[str, str], folder: str | None, slot: tuple[int, int] | None) -> None:
        """Take on the surroundings of the process that asked for it.

        Args:
            environment: Its variables that measurements depend on; others of that kind, which Ray sets, are removed.
            folder: Where temporary files go; `None` for this machine's usual place.
            slot: First core and number of cores that its processes may use, counted among those of this process;
                `None` for all.
        """
        for name in [name for name in os.environ if VARIABLES.fullmatch(name)]:
            del os.environ[name]
        os.environ.update(environment)
        sys.path += [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path not in sys.path]
        self._all = os.sched_getaffinity(0)
        cores = sorted(self._all)
        self._cores = set(cores) if slot is None else set(cores[slot[0] :][: slot[1]])
        self._folder = tempfile.mkdtemp(prefix="amira-", dir=folder)
        self._audio = Path(self._folder) / "audio.pcm"
        self._utterances: tuple[Utterance, ...] = ()
        self._sizes: tuple[tuple[str, int], ...] = ()
        self._stop = Event()
        self.name = machine()

    def survey(self, plan: Plan, models_dir: Path) -> tuple[str, str, Survey]:
        """The machine's name, its processor in words, and what it says about a plan."""
        os.sched_setaffinity(0, self._all)
        facts = facts_of(plan, models_dir)
        os.sched_setaffinity(0, self._cores)
        return self.name, f"{facts['cpu']['model']}, {len(self._all)} cores", Survey(entries_of(plan), facts)

    def begin(self, utterances: Sequence[Utterance], sizes: Sequence[tuple[str, int]]) -> None:
        """Forget the audio of before; that of these utterances will come."""
        self._utterances, self._sizes = tuple(utterances), tuple(sizes)
        self._audio.write_bytes(b"")

    def audio(self, chunk: bytes) -> None:
        """The next bytes of the audio."""
        with self._audio.open("ab") as file:
            file.write(chunk)

    def measure(self, plan: Plan, models_dir: Path, block: Block) -> Outcome:
        """Run the processes of a block on the audio that has come."""
        # Of this thread, and so of the processes that it starts.
        os.sched_setaffinity(0, self._cores)
        scratch = Scratch(self._audio, self._utterances, self._sizes)
        samples: list[Sample] = []
        notes: list[str] = []
        heard = Heard(lambda case, repeat: None, samples.append, notes.append, self._stop.is_set)
        records = Station(plan, scratch, Side.here(models_dir), {}).measure(block, heard)
        return Outcome(tuple(records), tuple(samples), tuple(notes), self.name)

    def stop(self) -> None:
        """End what is being measured, and start nothing any more."""
        self._stop.set()

    def close(self) -> None:
        """Remove the temporary files."""
        shutil.rmtree(self._folder, ignore_errors=True)


def machine() -> str:
    """A name for this machine that stays the same, and tells nobody its host's."""
    identity = MACHINE_ID.read_text(encoding="ascii").strip() if MACHINE_ID.is_file() else ""
    digest = hashlib.sha256(f"{identity}/{socket.gethostname()}/{platform.machine()}".encode()).hexdigest()
    return f"worker-{digest[:8]}"
