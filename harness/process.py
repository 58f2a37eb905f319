"""The parent's side of a worker process: start it, listen to it, end it and all that it started."""

from __future__ import annotations

import json
import os
import resource
import selectors
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

STDERR_LINES = 200
STDERR_LINE_BYTES = 4096
TERMINATION_GRACE_S = 2.0
CGROUPS = Path("/sys/fs/cgroup")
WORKER = Path(__file__).with_name("worker.py")

Event = dict[str, Any]


class WorkerProcess:
    """A running `harness.worker`, in a process group of its own that is gone when the `with` block ends.

    Attributes:
        pid: Its process id, which is its group's as well.
        peak_rss_bytes: The largest peak of resident memory seen so far.
    """

    def __init__(
        self, job_file: Path, environment: Mapping[str, str], *, python: str = sys.executable, fds: Sequence[int] = ()
    ) -> None:
        """Start the worker.

        Args:
            job_file: The `Job` that it does, as JSON.
            environment: Variables that it has besides those of this process, or instead of them.
            python: The interpreter that runs it.
            fds: Descriptors that it gets besides. From now on they are its own: they are closed here.
        """
        self.peak_rss_bytes = 0
        self._partial: dict[int, bytes] = {}
        self._stderr: deque[str] = deque(maxlen=STDERR_LINES)
        self._selector = selectors.DefaultSelector()
        self._oom_kills = oom_kills()
        self._cpu_s = _children_cpu_s()
        report, worker_end = os.pipe()
        errors, worker_errors = os.pipe()
        try:
            # -P: a folder called `harness` in the working directory is not ours. The worker is named by its file, for
            # in another checkout's process this one's worker measures: both sides have the same instrument.
            command = [python, "-P", "-X", "faulthandler", str(WORKER)]
            self._process = subprocess.Popen(
                [*command, str(job_file), str(worker_end)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=worker_errors,
                pass_fds=(worker_end, *fds),
                env={**os.environ, **environment},
                # Ctrl-C in the terminal reaches the parent alone, which then ends the worker in order.
                start_new_session=True,
            )
        except OSError:
            os.close(report)
            os.close(errors)
            raise
        finally:
            for fd in (worker_end, worker_errors, *fds):
                os.close(fd)
        self._report, self._errors = report, errors
        self.pid = self._process.pid
        for fd in (report, errors):
            self._partial[fd] = b""
            self._selector.register(fd, selectors.EVENT_READ)

    def events(self, timeout_s: float) -> list[Event]:
        """What the worker reported since the last call; waits at most `timeout_s` for it to say something."""
        self._watch_memory()
        return [json.loads(line) for fd, line in self._lines(timeout_s) if fd == self._report]

    def exited(self) -> bool:
        """Whether the worker has ended. It is not reaped, so that its group's id stays taken."""
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def wait_for_exit(self, timeout_s: float) -> bool:
        """Whether the worker ends within `timeout_s`; what it writes meanwhile is taken in."""
        deadline = time.monotonic() + timeout_s
        while not self.exited():
            if time.monotonic() > deadline:
                return False
            if self._selector.get_map():
                self._lines(0.05)
            else:
                time.sleep(0.01)
        return True

    def end(self) -> int:
        """End the worker and all processes of its group; returns the exit code as `subprocess` gives it."""
        if not self.exited():
            self._signal_group(signal.SIGTERM)
            self.wait_for_exit(TERMINATION_GRACE_S)
        # Also after a clean exit: a helper that the pipeline started may have outlived it.
        self._signal_group(signal.SIGKILL)
        while self._selector.get_map() and self._selector.select(0):
            self._lines(0)
        return self._process.wait()

    def cpu_s(self) -> float:
        """CPU seconds of the worker, once it has ended (this process runs one child at a time)."""
        return _children_cpu_s() - self._cpu_s

    def killed_for_memory(self) -> bool:
        """Whether the kernel counted an out-of-memory kill in our control group since the worker's start."""
        now = oom_kills()
        return now is not None and self._oom_kills is not None and now > self._oom_kills

    @property
    def stderr(self) -> list[str]:
        """The last lines that it wrote on stderr, without empty ones."""
        rest = self._partial[self._errors].decode("utf-8", "replace").strip()
        return [*self._stderr, rest] if rest else list(self._stderr)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.returncode is None:
            self.end()
        self._selector.close()
        os.close(self._report)
        os.close(self._errors)

    def _lines(self, timeout_s: float) -> list[tuple[int, bytes]]:
        """Whole lines by descriptor. Lines of stderr are kept as well."""
        found: list[tuple[int, bytes]] = []
        if not self._selector.get_map():
            time.sleep(timeout_s)
        for key, _ in self._selector.select(timeout_s):
            data = os.read(key.fd, 1 << 16)
            if not data:
                self._selector.unregister(key.fd)
            *lines, rest = (self._partial[key.fd] + data).split(b"\n")
            # Who writes without end and without a line break on stderr shall not fill our memory.
            self._partial[key.fd] = rest if key.fd == self._report else rest[-STDERR_LINE_BYTES:]
            found.extend((key.fd, line) for line in lines)
        for fd, line in found:
            text = line[-STDERR_LINE_BYTES:].decode("utf-8", "replace").strip()
            if fd == self._errors and text:
                self._stderr.append(text)
        return found

    def _watch_memory(self) -> None:
        """Read the peak from outside, for a process that is killed cannot report it."""
        try:
            status = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii", errors="replace")
        except ProcessLookupError:
            return
        for line in status.splitlines():
            if line.startswith("VmHWM:"):
                self.peak_rss_bytes = max(self.peak_rss_bytes, int(line.split()[1]) * 1024)

    def _signal_group(self, number: signal.Signals) -> None:
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            return


def oom_kills() -> int | None:
    """Out-of-memory kills that the kernel has counted in our control group; `None` where it does not say."""
    for path in _oom_files():
        try:
            lines = path.read_text(encoding="ascii").splitlines()
        except OSError:
            continue
        counts = dict(line.split()[:2] for line in lines if line.strip())
        if "oom_kill" in counts:
            return int(counts["oom_kill"])
    return None


def _oom_files() -> list[Path]:
    """Where the count may be: control groups of version 2 and 1, seen from the host or from a container."""
    files = []
    for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines():
        _, controllers, group = line.split(":", 2)
        if not controllers:
            files += [CGROUPS / group.lstrip("/") / "memory.events", CGROUPS / "memory.events"]
        elif "memory" in controllers.split(","):
            base = CGROUPS / "memory"
            files += [base / group.lstrip("/") / "memory.oom_control", base / "memory.oom_control"]
    return files


def _children_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
