"""A supervised server that stays after the command that started it: `python -m pipelines.triton.daemon SPEC_FILE`.

Its state file says where it is; it goes with the server, and one whose process is gone counts as none.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from pipelines.errors import AmiraError
from pipelines.triton import environment
from pipelines.triton.process import Ports
from pipelines.triton.server import START_TIMEOUT_S, ServerSpec, TritonServer

STOP_TIMEOUT_S = 15.0


@dataclass(frozen=True, slots=True)
class State:
    """A server that runs in the background.

    Attributes:
        supervisor: Process id of its supervisor.
        supervisor_started: When that process started, as psutil has it: ids are used again.
        server: Process id of the server itself, when this was written.
        ports: Where it listens.
        repository: The folder of models.
        models: Those that were loaded at its start.
    """

    supervisor: int
    supervisor_started: float
    server: int
    ports: Ports
    repository: str
    models: tuple[str, ...]

    @property
    def url(self) -> str:
        """The gRPC endpoint."""
        return f"127.0.0.1:{self.ports.grpc}"

    @property
    def http_url(self) -> str:
        """The HTTP endpoint."""
        return f"127.0.0.1:{self.ports.http}"


def log_file() -> Path:
    """What the background server printed last."""
    return environment.folder() / "server.log"


def running() -> State | None:
    """The background server; `None` where there is none."""
    with suppress(OSError, ValueError, TypeError, psutil.Error):
        found = json.loads(_state_file().read_text("utf-8"))
        state = State(**{**found, "ports": Ports(**found["ports"]), "models": tuple(found["models"])})
        if psutil.Process(state.supervisor).create_time() == state.supervisor_started:
            return state
    return None


def start(repository: Path, models: tuple[str, ...], ports: Ports, config: str) -> State:
    """Start a server in the background and wait until it answers.

    Raises:
        AmiraError: One runs already, or it does not start.
    """
    if (there := running()) is not None:
        raise AmiraError(f"a Triton runs already, at {there.url}. Stop it first: amira triton stop")
    environment.find()
    environment.folder().mkdir(parents=True, exist_ok=True)
    log_file().unlink(missing_ok=True)
    errors = environment.folder() / "supervisor.log"
    spec = {"repository": str(repository.absolute()), "models": models, "ports": asdict(ports), "config": config}
    with errors.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "pipelines.triton.daemon", json.dumps(spec)],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise AmiraError(errors.read_text("utf-8", "replace").strip() or "the supervisor ended without a word")
        if (state := running()) is not None and state.supervisor == process.pid:
            return state
        time.sleep(0.02)
    process.terminate()
    raise AmiraError(f"Triton was not ready after {START_TIMEOUT_S:.0f} s. Its log: amira triton logs")


def stop() -> State | None:
    """Stop the background server; returns what was stopped.

    Raises:
        AmiraError: It does not end.
    """
    state = running()
    if state is None:
        return None
    supervisor = psutil.Process(state.supervisor)
    supervisor.send_signal(signal.SIGTERM)
    try:
        supervisor.wait(STOP_TIMEOUT_S)
    except psutil.TimeoutExpired as error:
        raise AmiraError(
            f"the supervisor of Triton, process {state.supervisor}, did not end within {STOP_TIMEOUT_S:.0f} s. "
            f"End it: kill -9 {state.supervisor} (its server ends with it)"
        ) from error
    return state


def main() -> None:
    """Serve what the command line says until SIGTERM or SIGINT."""
    given: dict[str, Any] = json.loads(sys.argv[1])
    asked = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: asked.set())
    ports = Ports(**given["ports"])
    spec = ServerSpec(
        Path(given["repository"]), tuple(given["models"]), ports, given["config"], log_file(), grace_s=5.0
    )
    try:
        with TritonServer(spec) as server:
            me = psutil.Process()
            state = State(me.pid, me.create_time(), server.pid, ports, given["repository"], tuple(given["models"]))
            beside = _state_file().with_suffix(f".{me.pid}")
            beside.write_text(json.dumps(asdict(state), indent=2) + "\n", "utf-8")
            os.replace(beside, _state_file())  # noqa: PTH105 - atomic, over what is there
            asked.wait()
    except AmiraError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
    finally:
        _state_file().unlink(missing_ok=True)


def _state_file() -> Path:
    return environment.folder() / "server.json"


if __name__ == "__main__":
    main()
