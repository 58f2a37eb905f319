"""An embedded Triton: started, watched, mended and stopped by the process that uses it.

One thread owns the server's process. It starts it, asks it a question with a known answer every second, looks at the
states of its processes four times a second, restarts it when it is dead, stopped or wrong, and reloads a model whose
stub is. (Triton itself never restarts a stub.)
"""

from __future__ import annotations

import socket
import tempfile
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from pipelines.errors import AmiraError, unknown
from pipelines.triton import environment, health, process
from pipelines.triton.model_config import parse
from pipelines.triton.process import Ports

LOOK_S = 0.25
"""How often the processes' states are looked at."""
ASK_S = 1.0
"""How often the known answer is asked for."""
PATIENCE_S = 2.0
"""How long it may take: on a machine whose cores are all busy, a second is not enough."""
START_TIMEOUT_S = 60.0
GRACE_S = process.EXIT_TIMEOUT_S + 3.0


@dataclass(frozen=True, slots=True)
class ServerSpec:
    """What an embedded server serves.

    Attributes:
        repository: The folder of models.
        models: Those that are loaded at its start.
        ports: Where it listens; `None` for free ones.
        config: Which of `configs/*.pbtxt` counts where a model has it; empty for `config.pbtxt`.
        log: Where its output goes; `None` for a file that goes with the server.
        grace_s: How long it may finish what is under way when it is stopped. Nothing is, when its only user stops it.
    """

    repository: Path
    models: tuple[str, ...] = ()
    ports: Ports | None = None
    config: str = ""
    log: Path | None = None
    grace_s: float = 0.0
    trace: Path | None = None
    """Where timestamps of requests go once a client has switched them on; nowhere without it."""
    otlp_endpoint: str | None = None
    """OTLP/HTTP collector for its spans of calls that come with a trace context, in place of `trace`."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that the supervisor saw or did: `perf_counter_ns` and what."""

    at_ns: int
    what: str


@dataclass(slots=True)
class _Life:
    """One life of the server, from a start to its end."""

    child: Any
    client: Any
    log_start: int
    questions: int = 0
    unanswered: int = 0
    asked_s: float = 0.0
    stubs: dict[int, str] = field(default_factory=dict)
    """Process ids of stubs that were seen, and their models: a dead one no longer says whose it was."""
    suspects: dict[int, float] = field(default_factory=dict)
    """Process ids that were dead or stopped when they were looked at, and since when."""
    buried: set[int] = field(default_factory=set)
    """Dead stubs that were dealt with; Triton reaps them when it likes."""

    def meet_stubs(self) -> None:
        """Learn which stub is whose."""
        self.stubs |= {stub.process.pid: stub.model for stub in process.stubs(self.child.pid)}


class TritonServer:
    """A supervised server: `with TritonServer(spec) as server:` it runs and answers for the time of the block."""

    def __init__(self, spec: ServerSpec) -> None:
        self.spec = spec
        self.ports = spec.ports or process.free_ports()
        self.events: list[Event] = []
        """What happened to it, in order."""
        self.starts = 0
        """How often it was started."""
        self._models = dict.fromkeys(spec.models)
        self._prefix = process.shared_memory_prefix("triton") + f"{self.ports.grpc}-"
        self._lock = threading.Lock()
        self._running, self._stopping = threading.Event(), threading.Event()
        self._error: BaseException | None = None
        self._life: _Life | None = None
        self._thread = threading.Thread(target=self._own, name=f"triton-{self.ports.grpc}", daemon=True)

    @property
    def url(self) -> str:
        """The gRPC endpoint."""
        return f"127.0.0.1:{self.ports.grpc}"

    @property
    def http_url(self) -> str:
        """The HTTP endpoint."""
        return f"127.0.0.1:{self.ports.http}"

    @property
    def pid(self) -> int:
        """The server's process; 0 while there is none."""
        life = self._life
        return life.child.pid if life is not None else 0

    @property
    def log(self) -> Path:
        """The file with its output."""
        return self._log

    @property
    def well(self) -> bool:
        """Whether it runs and gave the right answer when it was last asked."""
        return self._running.is_set()

    def stub_pids(self, model: str) -> list[int]:
        """The processes that serve a model."""
        return [stub.process.pid for stub in process.stubs(self.pid) if stub.model == model]

    def wait_well(self, timeout_s: float) -> bool:
        """Whether it is well within `timeout_s`."""
        return self._running.wait(timeout_s)

    def load(self, model: str) -> None:
        """Load a model, if it is not; a restarted server loads it again.

        Raises:
            AmiraError: The model is not in the repository, or does not load.
        """
        from tritonclient.utils import InferenceServerException

        life = self._life
        if life is None:
            raise AmiraError("the embedded Triton is not running")
        with self._lock:
            try:
                if not life.client.is_model_ready(model, client_timeout=ASK_S):
                    life.client.load_model(model, client_timeout=START_TIMEOUT_S)
                    life.meet_stubs()
            except InferenceServerException as error:
                raise AmiraError(
                    f"Triton cannot load model '{model}' from {self.spec.repository}: {error.message()}. "
                    "See what is there and whether it fits: amira triton check"
                ) from error
            self._models[model] = None

    def __enter__(self) -> Self:
        check_repository(self.spec.repository, self.spec.models)
        self._environment = environment.find()
        if self.spec.ports is not None:
            process.check_free(self.spec.ports)
        process.remove_leftovers()
        self._folder = tempfile.TemporaryDirectory(prefix="amira-triton-")
        self._log = self.spec.log or Path(self._folder.name) / "log"
        health.write_model(Path(self._folder.name) / "models")
        self._thread.start()
        while not self._running.wait(0.05) and self._thread.is_alive():
            continue
        if self._error is not None:
            self._thread.join()
            self._folder.cleanup()
            raise self._error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join()
        self._folder.cleanup()

    def _own(self) -> None:
        """The life of the thread: everything that starts or ends the process happens here."""
        from tritonclient.utils import InferenceServerException

        try:
            self._start()
            while not self._stopping.wait(LOOK_S):
                try:
                    self._look()
                except InferenceServerException as error:
                    self._restart(f"the server did not do as told: {error.message()}")
        except BaseException as error:  # noqa: BLE001 - handed to whoever started it
            self._error = error
        finally:
            self._running.clear()
            self._end(self.spec.grace_s)

    def _start(self) -> None:
        from tritonclient.grpc import InferenceServerClient

        self._log.parent.mkdir(parents=True, exist_ok=True)
        self._log.touch()
        log_start = self._log.stat().st_size
        repositories = (self.spec.repository, Path(self._folder.name) / "models")
        models = [health.MODEL, *self._models]
        line = process.command(
            self._environment,
            repositories,
            models,
            self.ports,
            self._prefix,
            self.spec.config,
            self.spec.trace,
            self.spec.otlp_endpoint,
        )
        child = process.spawn(line, self._environment, self._log)
        # A subchannel of its own: a shared one would sleep through the server's return.
        client = InferenceServerClient(self.url, channel_args=[("grpc.use_local_subchannel_pool", 1)])
        self._life = _Life(child, client, log_start)
        self.starts += 1
        self._wait_until_it_answers(self._life)
        self._life.meet_stubs()
        self._note(f"started, process {child.pid}")
        self._running.set()

    def _wait_until_it_answers(self, life: _Life) -> None:
        from tritonclient.utils import InferenceServerException

        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline and not self._stopping.is_set():
            if (code := life.child.poll()) is not None:
                raise AmiraError(
                    f"Triton did not start (exit code {code}): {process.reason(self._log, life.log_start)}. "
                    "Check the models: amira triton check. Its whole log: amira triton logs"
                )
            if _listens(self.ports.grpc):
                try:
                    if health.known_answer(life.client, 1, ASK_S):
                        return
                except InferenceServerException:
                    pass  # it listens before it is ready
                else:
                    raise AmiraError(
                        "Triton computes wrong answers: its Python backend runs in an environment that it was not "
                        f"made for. Make that anew: {environment.SETUP} --force"
                    )
            time.sleep(0.01)
        raise AmiraError(f"Triton was not ready after {START_TIMEOUT_S:.0f} s. Its log: {self._log}")

    def _look(self) -> None:
        """See whether server and stubs are well, and mend what is not."""
        life = self._life
        assert life is not None
        if (code := life.child.poll()) is not None:
            self._restart(f"the server ended with code {code}")
        elif self._lasts(life, psutil.Process(life.child.pid)):
            self._restart("the server is stopped")
        else:
            life.meet_stubs()
            self._mend_stubs(life)
            # Who is suspected anyway is looked at again first: a question would only wait.
            if not life.suspects and time.monotonic() - life.asked_s >= ASK_S:
                self._ask(life)

    def _mend_stubs(self, life: _Life) -> None:
        """Put models back whose stub is dead or stopped; one that is being unloaded ends its stub itself."""
        for child in process.children(life.child.pid):
            if child.pid in life.buried or not self._lasts(life, child):
                continue
            life.buried.add(child.pid)
            model = life.stubs.get(child.pid)
            if model is None:
                self._restart(f"process {child.pid} of the server, nobody knows for which model, is dead or stopped")
                return
            life.suspects.pop(child.pid)
            if life.client.is_model_ready(model, client_timeout=ASK_S):
                self._note(f"a stub of {model} is dead or stopped")
                process.kill(child)
                with self._lock:
                    life.client.unload_model(model, client_timeout=ASK_S * 5)
                    life.client.load_model(model, client_timeout=START_TIMEOUT_S)
                    life.meet_stubs()
                self._note(f"{model} is loaded again")

    def _lasts(self, life: _Life, it: psutil.Process) -> bool:
        """Whether a process was stopped or dead at two looks, one after the other."""
        if not process.stopped_or_dead(it):
            life.suspects.pop(it.pid, None)
            return False
        now = time.monotonic()
        return now - life.suspects.setdefault(it.pid, now) >= LOOK_S / 2

    def _ask(self, life: _Life) -> None:
        from tritonclient.utils import InferenceServerException

        life.questions += 1
        try:
            right = health.known_answer(life.client, life.questions, PATIENCE_S)
        except InferenceServerException:
            life.unanswered += 1
            if life.unanswered >= 2:
                self._restart("the server did not answer twice in a row")
        else:
            life.unanswered = 0
            if not right:
                self._restart("the server gave a wrong answer")
        life.asked_s = time.monotonic()

    def _restart(self, why: str) -> None:
        self._running.clear()
        self._note(why)
        self._end(0.0)
        while not self._stopping.is_set():
            try:
                self._start()
            except AmiraError as error:
                self._note(f"could not be started: {error}")
                self._end(0.0)
                self._stopping.wait(ASK_S)
            else:
                return

    def _end(self, grace_s: float) -> None:
        life, self._life = self._life, None
        if life is not None:
            life.client.close()
            process.end(life.child, grace_s, self._prefix)

    def _note(self, what: str) -> None:
        self.events.append(Event(time.perf_counter_ns(), what))


def check_repository(repository: Path, models: Iterable[str] = ()) -> None:
    """See that a folder is a model repository and has the models.

    Raises:
        AmiraError: It is not, or has not.
    """
    if not repository.is_dir():
        raise AmiraError(f"model repository {repository} does not exist. Name a folder with one folder per model.")
    have = sorted(path.parent.name for path in repository.glob("*/config.pbtxt"))
    if not have:
        raise AmiraError(
            f"model repository {repository} has no models: no folder in it has a config.pbtxt. "
            "Fill ours with: amira models build"
        )
    for name in models:
        if name not in have:
            raise unknown("Triton model", name, have, f"They are in {repository}; check them with: amira triton check")
        parse(repository / name / "config.pbtxt")


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.2)
        return probe.connect_ex(("127.0.0.1", port)) == 0
