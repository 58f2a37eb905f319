"""Faults of a real Triton, its stubs and the network before it: what callers get, how long it takes, what is left.

Each test writes what it measured into `reports/runs/triton-faults.jsonl`; `python -m tests.faults.triton_table` makes a
table of that. Times are asserted with room for a busy machine; the table has the true ones.
"""

from __future__ import annotations

import json
import os
import re
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter_ns

import numpy as np
import psutil
import pytest

from pipelines.paths import runs_dir
from pipelines.resilience import BreakerPolicy, BreakerState, Deadline, DeadlineExceededError, ServiceError
from pipelines.triton import environment
from pipelines.triton.connections import wire
from pipelines.triton.connections.asynchronous import AsyncConnection
from pipelines.triton.connections.base import Call, Connection
from pipelines.triton.connections.http import HttpConnection
from pipelines.triton.connections.shared import SharedConnection
from pipelines.triton.connections.stream import StreamConnection
from pipelines.triton.connections.unary import PooledConnection
from pipelines.triton.process import SHARED_MEMORY, shared_memory_prefix
from pipelines.triton.server import ServerSpec, TritonServer
from pipelines.triton.service import ServicePolicy, TritonService
from tests.fakes import triton_models
from tests.fakes.tcp_proxy import TcpProxy

if (problem := environment.problem()) is not None:
    pytest.skip(f"{problem.reason}. {problem.remedy}", allow_module_level=True)

DEADLINE_S = 0.4
LATE_S = 0.4
"""How much later than its deadline an answer may come here, where other tests keep the cores busy."""
CALLERS = 4
ONE = np.ones(1, np.float32)
OUT = runs_dir() / "triton-faults.jsonl"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    OUT.unlink(missing_ok=True)
    repository = triton_models.write(tmp_path_factory.mktemp("repository"))
    with TritonServer(ServerSpec(repository, triton_models.NAMES)) as it:
        names = f"{shared_memory_prefix('triton')}{it.ports.grpc}-*"
        yield it
    # Servers of other tests may run in this process as well.
    assert not list(SHARED_MEMORY.glob(names))
    assert not list(SHARED_MEMORY.glob(f"{shared_memory_prefix('shm')}*"))


@dataclass
class Seen:
    """What the callers of one fault saw."""

    started_ns: int = field(default_factory=perf_counter_ns)
    calls: list[tuple[int, int, str]] = field(default_factory=list)
    """Start, duration, and the kind of error or `answered`."""
    breaker: list[str] = field(default_factory=list)

    def errors(self) -> list[int]:
        return [took for _, took, what in self.calls if what != "answered"]

    def recovered_ns(self, since_ns: int) -> int:
        """From the fault to the first answer after the last error."""
        last = max((start + took for start, took, what in self.calls if what != "answered"), default=since_ns)
        return min(start + took for start, took, what in self.calls if what == "answered" and start >= last) - since_ns


class Callers:
    """Threads that call without a pause, each call with its deadline."""

    def __init__(self, service: TritonService, seen: Seen, model: str, value: np.ndarray) -> None:
        self._service, self._seen, self._model, self._value = service, seen, model, value
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(CALLERS)]

    def _run(self) -> None:
        while not self._stop.wait(0.005):
            start = perf_counter_ns()
            try:
                self._service.infer(self._model, {"x": self._value}, ("y",), Deadline.after(DEADLINE_S))
                what = "answered"
            except ServiceError as error:
                what = type(error).__name__
            self._seen.calls.append((start, perf_counter_ns() - start, what))

    def __enter__(self) -> None:
        for thread in self._threads:
            thread.start()

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def until(
    true: Callable[[], object], timeout_s: float = 30.0, wrong: Callable[[], str] = lambda: "it did not come true"
) -> None:
    deadline = Deadline.after(timeout_s)
    while not true():
        assert deadline.remaining_s, wrong()
        threading.Event().wait(0.005)


def answered_since(seen: Seen, since_ns: int, count: int = 8) -> Callable[[], bool]:
    """Whether the last calls that began after `since_ns` were all answered."""

    def true() -> bool:
        calls = [what for start, _, what in seen.calls if start > since_ns]
        return len(calls) >= count and set(calls[-count:]) == {"answered"}

    return true


def possessions() -> Counter[str]:
    """What this process holds: descriptors by kind, threads and regions by name. Other processes have regions, too."""
    regions = SHARED_MEMORY.glob(f"{shared_memory_prefix('shm')}*")
    held = Counter([f"thread {thread.name}" for thread in threading.enumerate()] + [path.name for path in regions])
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # that of the listing itself
            held[re.sub(r":\[\d+\]$", "", str(descriptor.readlink()))] += 1
    return held


def nothing_is_left(before: Counter[str]) -> None:
    """Wait until the process holds nothing that it did not hold before."""

    def wrong() -> str:
        return f"left behind: {dict(possessions() - before)}; connections: {psutil.Process().net_connections()}"

    until(lambda: not possessions() - before, wrong=wrong)


def connection_of(kind: str, url: str) -> Connection:
    if kind == "aio":
        return AsyncConnection(url, 1 << 20)
    if kind == "shared memory":
        return SharedConnection(url, 1 << 20, size=CALLERS, warm=CALLERS, region_bytes=1 << 16)
    pooled = {"pooled": PooledConnection, "stream": StreamConnection, "http": HttpConnection}[kind]
    return pooled(url, 1 << 20, size=CALLERS, warm=CALLERS)


def service_of(url: str, seen: Seen, kind: str = "pooled") -> TritonService:
    policy = ServicePolicy(breaker=BreakerPolicy(window=10, min_calls=4, open_s=0.3))
    connection = connection_of(kind, url)

    def listen(before: BreakerState, after: BreakerState) -> None:
        seen.breaker.append(f"{before} > {after}")

    return TritonService([connection], policy, listener=listen)


def record(fault: str, seen: Seen, since_ns: int, recovered_ns: int | None) -> None:
    after = [call for call in seen.calls if call[0] + call[1] >= since_ns]
    errors = [took for _, took, what in after if what != "answered"]
    row = {
        "fault": fault,
        "calls": len(after),
        "outcomes": dict(Counter(what for _, _, what in after)),
        "deadline_ms": DEADLINE_S * 1e3,
        "error_p50_ms": round(float(np.percentile(errors, 50)) / 1e6, 1) if errors else None,
        "error_p99_ms": round(float(np.percentile(errors, 99)) / 1e6, 1) if errors else None,
        "error_max_ms": round(max(errors) / 1e6, 1) if errors else None,
        "recovered_ms": None if recovered_ns is None else round(recovered_ns / 1e6),
        "breaker_opened": sum(step.endswith("> open") for step in seen.breaker),
        "breaker_closed": sum(step.endswith("> closed") for step in seen.breaker),
    }
    OUT.parent.mkdir(parents=True, exist_ok=True)
    with OUT.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def survive(
    fault: str, url: str, inflict: Callable[[], None], heal: Callable[[], None] = lambda: None, kind: str = "pooled"
) -> Seen:
    """Callers go on before, during and after a fault; everything comes back, and nothing is left."""
    if kind == "aio":  # gRPC keeps a thread for all asyncio of a process, from its first call on
        with connection_of(kind, url) as first:
            first.infer(Call("echo", {"x": ONE}, ("y",), Deadline.after(10)))
    before = possessions()
    seen = Seen()
    with service_of(url, seen, kind) as service:
        with Callers(service, seen, "echo", ONE):
            until(answered_since(seen, seen.started_ns))
            since_ns = perf_counter_ns()
            inflict()
            heal()
            # Calls that met the fault may hang until their deadline while others are answered: wait for their ends too.
            until(answered_since(seen, perf_counter_ns() + int((DEADLINE_S + LATE_S) * 1e9)))
        assert service.bulkhead.slots.in_flight == 0
        assert all(counters.get("in_use", 0) == 0 for counters in service.counters().values())
        [connection] = service.connections
        if isinstance(connection, AsyncConnection):
            until(lambda: not connection.tasks())
        assert service.endpoints.all[0].breaker.state is BreakerState.CLOSED
    nothing_is_left(before)
    errors = [took for start, took, what in seen.calls if what != "answered"]
    assert max(errors, default=0) < (DEADLINE_S + LATE_S) * 1e9
    assert seen.breaker.count("closed > open") == seen.breaker.count("half-open > closed")
    record(fault, seen, since_ns, seen.recovered_ns(since_ns) if errors else 0)
    return seen


def send(server: TritonServer, number: signal.Signals, model: str = "") -> Callable[[], None]:
    def inflict() -> None:
        events = len(server.events)
        os.kill(server.stub_pids(model)[0] if model else server.pid, number)
        until(lambda: len(server.events) >= events + 2 and server.well)

    return inflict


@pytest.mark.parametrize("kind", ["pooled", "shared memory", "stream", "aio", "http"])
def test_the_server_is_killed(server: TritonServer, kind: str) -> None:
    url = server.http_url if kind in ("http", "shared memory") else server.url
    seen = survive(f"server killed, {kind}", url, send(server, signal.SIGKILL), kind=kind)
    assert {"ServiceFailedError", "CircuitOpenError"} & {what for _, _, what in seen.calls}
    assert "the server ended with code -9" in [event.what for event in server.events]


def test_the_server_is_stopped(server: TritonServer) -> None:
    seen = survive("server stopped (SIGSTOP)", server.url, send(server, signal.SIGSTOP))
    # A call that ran out of time may be made again and then meet the open breaker: either may be what its caller sees.
    # One that is under way when the supervisor ends the stopped server loses its connection.
    kinds = {what for _, _, what in seen.calls} - {"answered"}
    assert kinds <= {"DeadlineExceededError", "CircuitOpenError", "ServiceFailedError"}
    assert seen.errors()
    assert "closed > open" in seen.breaker


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_stub_is_killed_or_stopped(server: TritonServer, number: signal.Signals) -> None:
    what = "killed" if number is signal.SIGKILL else "stopped (SIGSTOP)"
    pid = server.pid
    survive(f"stub {what}", server.url, send(server, number, "echo"))
    assert server.pid == pid, server.events
    assert server.events[-1].what == "echo is loaded again"


@pytest.mark.parametrize("fault", ["cut", "reset"])
def test_connections_are_cut_or_reset(server: TritonServer, fault: str) -> None:
    with TcpProxy(server.url) as proxy:
        seen = survive(f"connections {fault}", proxy.url, getattr(proxy, fault))
        assert proxy.accepted > CALLERS
        until(lambda: proxy.open == 0)
    # A call that is idempotent is made again: at most the few that were cut mid-way twice are seen.
    assert len(seen.errors()) <= CALLERS


@pytest.mark.parametrize("fault", ["delay", "trickle", "silence"])
def test_the_network_is_slow(server: TritonServer, fault: str) -> None:
    with TcpProxy(server.url) as proxy:
        seen = Seen()

        def change(on: bool) -> None:
            proxy.delay_s = DEADLINE_S * on if fault == "delay" else 0
            proxy.trickle, proxy.silent = on and fault == "trickle", on and fault == "silence"

        def inflict() -> None:
            change(True)
            began = perf_counter_ns()
            until(lambda: perf_counter_ns() - began > 1.2e9)

        def heal() -> None:
            change(False)
            proxy.cut()

        seen = survive(f"network: {fault}", proxy.url, inflict, heal)
        assert "DeadlineExceededError" in {what for _, _, what in seen.calls}
        until(lambda: proxy.open == 0)


def test_a_model_is_unloaded_under_load(server: TritonServer) -> None:
    client = wire.open_client(server.url, 0)
    assert client.is_server_live()
    seen = survive(
        "model unloaded, then loaded",
        server.url,
        lambda: client.unload_model("echo"),
        lambda: client.load_model("echo"),
    )
    client.close()
    assert {what for _, _, what in seen.calls} <= {"answered", "ServiceError", "ServiceFailedError", "CircuitOpenError"}


def overload(server: TritonServer, fault: str, model: str, value: np.ndarray, wanted: str) -> Seen:
    """A model that does not answer as it should: every caller is told in time, and the others go on."""
    seen = Seen()
    with service_of(server.url, seen) as service, service_of(server.url, Seen()) as other:
        with Callers(service, seen, model, value):
            until(lambda: sum(what == wanted for _, _, what in seen.calls) >= 3)
            other.infer("echo", {"x": ONE}, ("y",), Deadline.after(10))
        record(fault, seen, seen.started_ns, None)
    assert max(seen.errors()) < (DEADLINE_S + LATE_S) * 1e9
    return seen


def test_a_model_is_slow(server: TritonServer) -> None:
    seen = overload(server, "slow model (2 s)", "slow", 2 * ONE, "DeadlineExceededError")
    assert "closed > open" in seen.breaker


def test_a_model_fails(server: TritonServer) -> None:
    seen = overload(server, "model raises", "failing", ONE, "ModelFailedError")
    assert "closed > open" in seen.breaker


def test_a_queue_is_full(server: TritonServer) -> None:
    seen = overload(server, "queue full", "crowded", 0.1 * np.ones((1, 1), np.float32), "OverloadedError")
    assert seen.breaker == []  # a full queue is no fault of the endpoint


def test_a_call_whose_deadline_passes_leaves_the_queue(server: TritonServer) -> None:
    """The deadline reaches Triton, which does no work that nobody waits for."""
    client = wire.open_client(server.url, 0)
    value = np.ones((1, 1), np.float32)

    def answered() -> int:
        [it] = client.get_inference_statistics("queued").model_stats
        return int(it.inference_stats.success.count)

    with PooledConnection(server.url, 1 << 20, size=2, warm=2) as connection:

        def call(seconds: float) -> None:
            connection.infer(Call("queued", {"x": value}, ("y",), Deadline.after(seconds)))

        working = threading.Thread(target=call, args=(30,))
        working.start()
        began = perf_counter_ns()
        until(lambda: perf_counter_ns() - began > 0.2e9)  # it is at work now
        with pytest.raises(DeadlineExceededError):
            call(0.2)
        working.join()
        call(30)
    until(lambda: answered() >= 2)
    assert answered() == 2
    client.close()


def test_one_of_two_endpoints_is_away(server: TritonServer) -> None:
    seen = Seen()
    with TcpProxy(server.url) as gone:
        away = gone.url
    connections = [PooledConnection(url, 1 << 20, size=CALLERS, warm=0) for url in (away, server.url)]
    policy = ServicePolicy(breaker=BreakerPolicy(window=10, min_calls=4, open_s=30))
    with TritonService(connections, policy) as service:
        with Callers(service, seen, "echo", ONE):
            until(answered_since(seen, seen.started_ns, 40))
        assert [endpoint.breaker.state for endpoint in service.endpoints.all] == [
            BreakerState.OPEN,
            BreakerState.CLOSED,
        ]
        picked = service.endpoints.all[0].picked
        service.infer("echo", {"x": ONE}, ("y",))
        assert service.endpoints.all[0].picked == picked
    record("one of two endpoints away", seen, seen.started_ns, 0)


def test_a_supervisor_that_dies_takes_its_server_along(tmp_path: Path) -> None:
    """Nothing is left behind after a crash: the server dies with its parent, the next start removes what hangs."""
    import subprocess
    import sys

    repository = triton_models.write(tmp_path / "repository")
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom pipelines.triton.server import ServerSpec, TritonServer\n"
        f"with TritonServer(ServerSpec(Path({str(repository)!r}), ('echo',))) as s:\n"
        "    print(s.pid, *s.stub_pids('echo'), flush=True)\n    time.sleep(600)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid, stub = map(int, parent.stdout.readline().split())
    os.kill(stub, signal.SIGSTOP)  # as one that waits for a lock which nobody will give back
    parent.kill()
    parent.wait()
    until(lambda: gone(pid))
    assert not gone(stub)
    # Whether a dying stub removes its region is a matter of luck, so one of theirs is made sure of.
    mine = shared_memory_prefix("triton")
    (SHARED_MEMORY / mine.replace(f"-{os.getpid()}-", f"-{parent.pid}-")).touch()
    with TritonServer(ServerSpec(repository)):
        assert not list(SHARED_MEMORY.glob(f"amira-triton-*-{parent.pid}-*"))
        until(lambda: gone(stub))


def test_a_stub_that_hangs_goes_with_its_server(server: TritonServer) -> None:
    [stub] = server.stub_pids("echo")
    os.kill(stub, signal.SIGSTOP)
    send(server, signal.SIGKILL)()
    until(lambda: gone(stub))
    assert server.stub_pids("echo") != [stub]


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
