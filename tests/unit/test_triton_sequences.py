"""Where the calls of a sequence go, among several endpoints that are no servers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from pipelines.resilience import CircuitOpenError, Deadline, ServiceError, ServiceFailedError
from pipelines.triton.connections.base import Call, Channel, Connection, Reply, Turn
from pipelines.triton.service import TritonService


class Endpoint(Connection, Channel):
    """Notes who was called; fails as often as it is told to."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.sequences: list[int] = []
        self.failures = 0

    @contextmanager
    def lease(self, deadline: Deadline) -> Iterator[Channel]:
        yield self

    def infer(self, call: Call) -> Reply:
        assert call.turn is not None
        self.sequences.append(call.turn.sequence)
        if self.failures:
            self.failures -= 1
            raise ServiceFailedError("gone")
        return Reply()

    def _close_impl(self) -> None:
        return


@pytest.fixture
def endpoints() -> tuple[Endpoint, Endpoint]:
    return Endpoint("a:1"), Endpoint("b:1")


@pytest.fixture
def service(endpoints: tuple[Endpoint, Endpoint]) -> Iterator[TritonService]:
    with TritonService(endpoints) as it:
        yield it


def push(service: TritonService, sequence: int, start: bool = False, end: bool = False) -> None:
    service.infer("m", {"x": np.zeros(1, np.float32)}, ("y",), turn=Turn(sequence, start, end))


def test_a_sequence_stays_where_it_started(service: TritonService, endpoints: tuple[Endpoint, Endpoint]) -> None:
    for sequence in (1, 2, 3, 4):
        push(service, sequence, start=True)
    for _ in range(3):
        for sequence in (4, 2, 1, 3):
            push(service, sequence)
    for sequence in (3, 1, 2, 4):
        push(service, sequence, end=True)
    first, second = (set(endpoint.sequences) for endpoint in endpoints)
    assert (len(first), len(second)) == (2, 2)
    assert first | second == {1, 2, 3, 4}


def test_a_start_is_made_again_elsewhere_and_the_rest_follows(
    service: TritonService, endpoints: tuple[Endpoint, Endpoint]
) -> None:
    endpoints[0].failures = 1
    push(service, 7, start=True)
    push(service, 7)
    assert [endpoint.sequences for endpoint in endpoints] == [[7], [7, 7]]


def test_a_later_call_is_made_once_and_its_sequence_is_over(
    service: TritonService, endpoints: tuple[Endpoint, Endpoint]
) -> None:
    push(service, 7, start=True)
    home = endpoints[0] if endpoints[0].sequences else endpoints[1]
    home.failures = 1
    with pytest.raises(ServiceError, match="gone"):
        push(service, 7)
    assert sum(len(endpoint.sequences) for endpoint in endpoints) == 2


def test_where_its_endpoint_is_out_a_sequence_does_not_move_on(
    service: TritonService, endpoints: tuple[Endpoint, Endpoint]
) -> None:
    push(service, 7, start=True)
    home = next(item for item in service.endpoints.all if item.target.sequences)  # type: ignore[attr-defined]
    home.target.failures = 99  # type: ignore[attr-defined]
    sequence = 100
    while home.breaker.allows():
        push(service, sequence, start=True)
        sequence += 1
    with pytest.raises(CircuitOpenError, match=home.name):
        push(service, 7)
