"""What a pipeline that calls a service says about its connections."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Connections(Protocol):
    """What the `connection` axis yields, as far as whoever watches it needs to know."""

    def counters(self) -> Mapping[str, Mapping[str, int]]:
        """By endpoint, what its connection counts; durations in ns, their names end in `_ns`."""
        ...
