"""A Ray cluster to measure on: one that is there, or one of this machine's own for as long as it is needed.

Our own one talks on loopback alone, asks for a token that only its processes know, keeps its files in a private folder
and its object store small, tells nobody that it is used, and is gone with its folder afterwards, also when this process
is killed (Ray's processes die with their parent).
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import signal
import socket
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from pipelines.errors import AmiraError

TIMING = "amira_timing"
"""The resource that a node offers where cases may be timed: one at a time."""
OBJECT_STORE = 128 * 2**20
LONGEST_FOLDER = 40
"""A socket's path has 107 characters at most, and Ray needs 66 of them."""
LOOPBACK = "127.0.0.1"
AUTO = "auto"
KNOCK_S = 5.0
ATTEMPTS = 3
OWN = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Ray takes loopback for "no cluster, this machine alone", and has that switch for other systems.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_AUTH_MODE": "token",
    # A case that is out of memory is our finding; it is not to be killed at some share of the machine's.
    "RAY_memory_monitor_refresh_ms": "0",
}


def load() -> Any:
    """The package.

    Raises:
        AmiraError: It is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise AmiraError(
            f"executor 'ray' needs the package ray, which is not installed ({error}); have: local. "
            "Install it, in this checkout, with: pip install -e '.[ray]'"
        ) from error
    # Ray prints what its nodes complain of to stdout, which is for our document alone; what concerns a run, we say.
    # There is no setting for it, only this switch, which its debugger uses.
    ray._private.worker._worker_logs_enabled = False
    return ray


@contextmanager
def cluster(address: str | None) -> Iterator[tuple[Any, str | None]]:
    """Connect to a cluster, or start one.

    Args:
        address: `HOST:PORT` of one that runs, or `auto` for the one of this machine; `None` to start one.

    Yields:
        The package, and the folder for its workers' temporary files (`None`: the usual place).

    Raises:
        AmiraError: Ray is not installed, the cluster cannot be reached, or none can be started.
    """
    with ExitStack() as stack:
        stack.enter_context(_signals())
        if address is None:
            folder = stack.enter_context(_folder())
            stack.enter_context(_environment({**OWN, "RAY_AUTH_TOKEN": secrets.token_hex(32)}))
            ray = load()
            stack.callback(ray.shutdown)
            _start(ray, folder)
            yield ray, folder
        else:
            if "://" in address:
                raise AmiraError(
                    f"address '{address}' is one of Ray's clients or services. Give it as HOST:PORT, or 'auto', and "
                    "run this on a machine of the cluster"
                )
            stack.enter_context(_environment({"RAY_USAGE_STATS_ENABLED": "0"}))
            ray = load()
            stack.callback(ray.shutdown)
            if address != AUTO:
                _reach(address)
            _connect(ray, address)
            yield ray, None


def _start(ray: Any, folder: str) -> None:
    """Start Ray; again if need be, for on a busy machine its processes may take longer than it allows them."""
    before = set(psutil.Process().children(recursive=True))
    for attempt in range(1, ATTEMPTS + 1):
        try:
            _start_once(ray, folder)
            return
        except Exception as error:  # what takes too long has no class of its own
            ray.shutdown()
            for process in set(psutil.Process().children(recursive=True)) - before:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            if attempt == ATTEMPTS or isinstance(error, AmiraError):
                raise AmiraError(
                    f"Ray could not be started on this machine: {_line(error)}. Measure with --executor local"
                ) from error


def _start_once(ray: Any, folder: str) -> None:
    shm = Path("/dev/shm")
    small = not shm.is_dir() or shutil.disk_usage(shm).free < 2 * OBJECT_STORE
    context = ray.init(
        address="local",
        num_cpus=len(os.sched_getaffinity(0)),
        resources={TIMING: 1},
        include_dashboard=False,
        object_store_memory=OBJECT_STORE,
        log_to_driver=False,
        logging_level=logging.ERROR,
        _temp_dir=folder,
        _plasma_directory=folder if small else None,
        _node_ip_address=LOOPBACK,
    )
    if context.address_info["node_ip_address"] != LOOPBACK:
        raise AmiraError("this process has loaded Ray before, which would talk beyond this machine; start a new one")


def _reach(address: str) -> None:
    """Knock before Ray does, which goes on trying for minutes."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), KNOCK_S).close()
    except (OSError, ValueError, OverflowError) as error:
        raise _not_joined(address, error) from error


def _connect(ray: Any, address: str) -> None:
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (RuntimeError, ValueError, OSError, ConnectionError, ray.exceptions.RayError) as error:
        raise _not_joined(address, error) from error


def _not_joined(address: str, error: Exception) -> AmiraError:
    return AmiraError(
        f"no Ray cluster could be joined at '{address}': {_line(error)}. Give it as HOST:PORT, or 'auto' for this "
        "machine's; start one with: ray start --head, on the same Python and Ray as here; or leave --ray-address out"
    )


@contextmanager
def _folder() -> Iterator[str]:
    """A private folder with a short path, gone afterwards."""
    usual = tempfile.gettempdir()
    with tempfile.TemporaryDirectory(
        prefix="amira-", dir=usual if len(usual) < LONGEST_FOLDER - 15 else "/tmp", ignore_cleanup_errors=True
    ) as folder:
        yield folder


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Variables for Ray's processes, for the time of the block."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _signals() -> Iterator[None]:
    """Put back the handlers that Ray replaces."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            with suppress(ValueError, TypeError):  # not in the main thread, which had none replaced; or not Python's
                signal.signal(number, handler)


def _line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text[:300] or type(error).__name__
