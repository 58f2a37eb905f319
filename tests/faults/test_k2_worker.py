"""A k2 worker that dies, hangs, fails or cannot start harms nothing else."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from pipelines.decode.k2.client import Client, WorkerSettings
from pipelines.decode.openfst import Transducer
from pipelines.errors import AmiraError
from tests.fakes import k2_python


def graph(states: int = 3) -> Transducer:
    arcs = np.arange(states - 1, dtype=np.int32)
    return Transducer(0, np.zeros(states, np.float32), arcs, arcs + 1, arcs, arcs.astype(np.float32), arcs + 1)


def clip(frames: int) -> np.ndarray:
    return np.eye(5, dtype=np.float32)[np.arange(frames) % 5]


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    opened = Client(WorkerSettings(k2_python.write(tmp_path), "cpu", 1, 1.0), graph())
    yield opened
    opened.close()


def alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_a_call_and_its_answer(client: Client) -> None:
    for frames in (1, 5, 40_000, 3):  # the shared memory grows
        labels = (np.arange(frames) % 5).tolist()
        assert client.decode(clip(frames), 12.0, 6.0, 2) == [(labels, [label for label in labels if label], 12.0)] * 2


def test_many_readings_of_few_frames(client: Client) -> None:
    [first, *rest] = client.decode(clip(10_000), 1.0, 1.0, 40)
    assert len(rest) == 39
    assert all(reading == first for reading in rest)


@pytest.mark.parametrize("frames", [k2_python.DIES_ONCE, k2_python.HANGS_ONCE])
def test_a_worker_lost_once_is_started_again(client: Client, tmp_path: Path, frames: int) -> None:
    before = client.pid
    [(labels, _, _)] = client.decode(clip(frames), 1.0, 1.0, 1)
    assert labels == (np.arange(frames) % 5).tolist()
    assert len(k2_python.starts(tmp_path)) == 2
    assert client.pid != before
    assert not alive(before or 0)


@pytest.mark.parametrize(
    ("frames", "said"),
    [
        (k2_python.DIES, r"lost twice in one call: it ended with signal 9: out of memory.*; then it ended"),
        (k2_python.HANGS, r"lost twice in one call: it did not answer within 1 s \(option 'timeout_s'\)"),
    ],
)
def test_a_worker_lost_twice_is_an_error(client: Client, tmp_path: Path, frames: int, said: str) -> None:
    with pytest.raises(AmiraError, match=said + r".*make k2.*decoder/kaldi-decoder"):
        client.decode(clip(frames), 1.0, 1.0, 1)
    assert not any(alive(pid) for pid in k2_python.starts(tmp_path))
    assert client.decode(clip(3), 1.0, 1.0, 1)[0][0] == [0, 1, 2]  # and the next call is served


def test_a_worker_killed_between_calls(client: Client) -> None:
    os.kill(client.pid or 0, signal.SIGKILL)
    assert client.decode(clip(3), 1.0, 1.0, 1)[0][0] == [0, 1, 2]


def test_streams_outlive_the_worker(client: Client) -> None:
    streams = [client.open_stream(), client.open_stream()]
    heard: dict[int, list[np.ndarray]] = {stream: [] for stream in streams}

    def push(stream: int, chunk: np.ndarray) -> list[int]:
        before = heard[stream]
        result = client.push(stream, chunk, 1.0, lambda: np.concatenate(before) if before else None)
        before.append(chunk)
        return result

    for stream in streams:
        assert push(stream, clip(3 + stream % 2)) == [label for label in range(3 + stream % 2) if label]
    os.kill(client.pid or 0, signal.SIGKILL)
    for stream in streams:
        first = [label for label in range(3 + stream % 2) if label]
        assert push(stream, clip(2)) == [*first, 1]
        client.close_stream(stream)


def test_an_error_of_k2_is_told_and_the_worker_lives(client: Client) -> None:
    before = client.pid
    with pytest.raises(AmiraError, match="k2 failed: RuntimeError: some k2 error"):
        client.decode(clip(k2_python.FAILS), 1.0, 1.0, 1)
    assert client.decode(clip(3), 1.0, 1.0, 1)
    assert client.pid == before


def test_what_libraries_print_disturbs_nothing(client: Client) -> None:
    assert len(client.decode(clip(k2_python.TALKS), 1.0, 1.0, 1)[0][0]) == k2_python.TALKS


def test_closing_ends_the_process(client: Client) -> None:
    pid = client.pid or 0
    client.close()
    assert not alive(pid)
    client.close()


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("#!/bin/sh\nexit 3\n", "lost at its start: it ended with exit code 3"),
        ("no program\n", "cannot be run"),
        (f"#!{sys.executable}\nraise ImportError('no k2 here')\n", "no k2 here"),
    ],
)
def test_an_interpreter_that_is_none(tmp_path: Path, program: str, said: str) -> None:
    path = tmp_path / "python"
    path.write_text(program, "utf-8")
    path.chmod(0o755)
    with pytest.raises(AmiraError, match=said):
        Client(WorkerSettings(path, "cpu", 1, 1.0), graph())


def test_a_python_without_k2(tmp_path: Path) -> None:
    with pytest.raises(AmiraError, match=r"No module named '(torch|k2)'"):
        Client(WorkerSettings(Path(sys.executable), "cpu", 1, 1.0), graph())
