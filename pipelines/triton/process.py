"""The server as a process: its command line, its stubs, what it leaves in shared memory, what it says in its log."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from pipelines.errors import AmiraError
from pipelines.triton.environment import Environment

SHARED_MEMORY = Path("/dev/shm")
STUB = "triton_python_backend_stub"
EXIT_TIMEOUT_S = 2
"""How long the server waits for requests that are under way when it is asked to stop."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Where the server listens on loopback."""

    grpc: int
    http: int
    metrics: int


@dataclass(frozen=True, slots=True)
class Stub:
    """The process of one instance of a model.

    Attributes:
        process: The process.
        model: Name of the model that it serves.
    """

    process: psutil.Process
    model: str


def free_ports() -> Ports:
    """Three ports that are free now."""
    with socket.socket() as one, socket.socket() as two, socket.socket() as three:
        for probe in (one, two, three):
            probe.bind(("127.0.0.1", 0))
        return Ports(*(probe.getsockname()[1] for probe in (one, two, three)))


def check_free(ports: Ports) -> None:
    """See that nobody listens on the ports yet.

    Raises:
        AmiraError: Somebody does.
    """
    for name, port in (("gRPC", ports.grpc), ("HTTP", ports.http), ("metrics", ports.metrics)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                raise AmiraError(
                    f"the {name} port {port} cannot be used: {error.strerror}. Stop what listens there "
                    "(ours: amira triton stop), or name another port"
                ) from error


def command(
    environment: Environment,
    repositories: Sequence[Path],
    models: Sequence[str],
    ports: Ports,
    prefix: str,
    config: str,
    trace: Path | None = None,
    otlp_endpoint: str | None = None,
) -> list[str]:
    """The command line of the server.

    Args:
        environment: Where its parts lie.
        repositories: Folders of models.
        models: Those that are loaded at once.
        ports: Where it listens.
        prefix: Starts the names of its shared-memory regions.
        config: Which of `configs/*.pbtxt` counts where a model has it; empty for `config.pbtxt`.
        trace: File for timestamps of requests, once a client has switched them on.
        otlp_endpoint: OTLP/HTTP collector for spans of requests that come with a trace context.
    """
    listen = [
        f"--{kind}-{part}={value}"
        for kind, port in (("grpc", ports.grpc), ("http", ports.http), ("metrics", ports.metrics))
        for part, value in (("address", "127.0.0.1"), ("port", port))
    ]
    return [
        # Dies with the thread that started it, however that one ends; its stubs then end by themselves.
        *("setpriv", "--pdeathsig", "KILL", str(environment.server)),
        *(f"--model-repository={folder}" for folder in repositories),
        f"--backend-directory={environment.backends}",
        f"--cache-directory={environment.caches}",
        "--disable-auto-complete-config",
        "--allow-gpu-metrics=false",
        "--model-control-mode=explicit",
        *(f"--load-model={name}" for name in models),
        f"--backend-config=python,shm-region-prefix-name={prefix}",
        f"--exit-timeout-secs={EXIT_TIMEOUT_S}",
        *([f"--model-config-name={config}"] if config else []),
        *([f"--trace-config=triton,file={trace}", "--trace-config=level=OFF"] if trace else []),
        *(_opentelemetry(otlp_endpoint) if otlp_endpoint else []),
        *listen,
    ]


def _opentelemetry(endpoint: str) -> list[str]:
    """Flags for spans of its own: of calls with a trace context all, of others none."""
    settings = ("mode=opentelemetry", "level=TIMESTAMPS", "rate=0")
    collector = f"opentelemetry,url={endpoint.rstrip('/')}/v1/traces"
    named = ("opentelemetry,resource=service.name=triton", "opentelemetry,bsp_schedule_delay=500")
    return [f"--trace-config={setting}" for setting in (*settings, collector, *named)]


def spawn(line: Sequence[str], environment: Environment, log: Path) -> subprocess.Popen[bytes]:
    """Start the server; what it prints is appended to `log`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        return subprocess.Popen(
            line, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=environment.variables(), cwd="/"
        )


def children(pid: int) -> list[psutil.Process]:
    """The processes that a server has started, those included that are dead and not reaped."""
    try:
        return psutil.Process(pid).children()
    except psutil.NoSuchProcess:
        return []


def stubs(pid: int) -> list[Stub]:
    """The living stubs of a server."""
    found = []
    for child in children(pid):
        arguments = _arguments(child)
        if arguments and Path(arguments[0]).name == STUB:
            # .../REPOSITORY/MODEL/VERSION/FILE
            found.append(Stub(child, Path(arguments[1]).parts[-3]))
    return found


def stopped_or_dead(process: psutil.Process) -> bool:
    """Whether a process is stopped by a signal, dead, or dead and not reaped."""
    try:
        return process.status() in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP, psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def kill(process: psutil.Process) -> None:
    """End a process at once; one that has ended is fine."""
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return


def end(server: subprocess.Popen[bytes], grace_s: float, prefix: str) -> None:
    """Stop the server: ask first, and after `grace_s` kill it; then its stubs and its shared memory are removed.

    A stub whose server is killed ends by itself as a rule, but not one that is stopped, or that waits for a lock which
    the server held.
    """
    if server.poll() is None and grace_s > 0:
        server.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            server.wait(grace_s)
    server.kill()
    server.wait()
    for stub in _stubs_of(re.compile(re.escape(prefix))):
        kill(stub)
    remove_shared_memory(prefix)


def shared_memory_prefix(kind: str) -> str:
    """How the names of this process's shared-memory regions of one kind start: nobody else's start so."""
    return f"amira-{kind}-{_namespace()}-{os.getpid()}-{_start_ticks(os.getpid())}-"


def remove_shared_memory(prefix: str) -> None:
    """Remove the regions whose names start with `prefix`."""
    for path in SHARED_MEMORY.glob(f"{prefix}*"):
        path.unlink(missing_ok=True)


def remove_leftovers() -> int:
    """Remove stubs and regions of ours whose process has ended without doing so; returns how many regions."""
    pattern = re.compile(rf"amira-[a-z]+-{_namespace()}-(\d+)-(\d+)-")

    def stale(name: str) -> bool:
        match = pattern.match(name)
        return match is not None and _start_ticks(int(match[1])) != int(match[2])

    for stub in _stubs_of(pattern):
        if any(stale(argument) for argument in _arguments(stub)):
            kill(stub)
    regions = [path for path in SHARED_MEMORY.glob("amira-*") if stale(path.name)]
    for path in regions:
        path.unlink(missing_ok=True)
    return len(regions)


def _stubs_of(pattern: re.Pattern[str]) -> list[psutil.Process]:
    """The stubs with a region whose name starts so, whether their server lives or not: the command line says it."""
    return [
        process
        for process in psutil.process_iter()
        if (arguments := _arguments(process))
        and Path(arguments[0]).name == STUB
        and any(pattern.match(argument) for argument in arguments[1:])
    ]


def _arguments(process: psutil.Process) -> list[str]:
    """A command line; empty for a process that has ended or is somebody else's."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def _namespace() -> int:
    """Process ids mean something only within this namespace."""
    return Path("/proc/self/ns/pid").stat().st_ino


def _start_ticks(pid: int) -> int:
    """When a process started, in clock ticks after boot; 0 where there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except OSError:
        return 0
    return int(text.rpartition(")")[2].split()[19])


_NOISE = re.compile(r"^[IW]\d{4} |^\s*$|^[+|]")


_HARMLESS = ("CudaDriverHelper", "unable to create stream for")
"""Of errors that every server without a GPU logs at its start."""


def reason(log: Path, start: int) -> str:
    """Why the server ended, from what it wrote into its log since byte `start`."""
    said = list(_lines(log, start))
    errors = [line for line in said if line.startswith("error:")] or [
        line for line in said if line.startswith("E") and not any(word in line for word in _HARMLESS)
    ]
    text = errors[-1] if errors else next((line for line in reversed(said) if not _NOISE.match(line)), "")
    return re.sub(r"^E\d{4} [\d:.]+ \d+ \S+\] |^error: ", "", text).strip('" ;') or "it said nothing"


def _lines(log: Path, start: int) -> Iterator[str]:
    with log.open("rb") as file:
        file.seek(start)
        for line in file:
            yield line.decode("utf-8", "replace").rstrip()
