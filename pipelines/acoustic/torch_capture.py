"""Calls of tensors that are ready to be run on arrays of the host: on a GPU a CUDA graph, with the copies in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(slots=True)
class Ready:
    """A run of given shapes.

    Attributes:
        given: What goes in, on the host; pinned where there is a GPU.
        made: What comes out, on the host; overwritten by each run.
        start: Copies, computes, copies back and waits.
        kept: What the graph reads and writes on the device, which is not to be given back before it.
    """

    given: list[torch.Tensor]
    made: list[torch.Tensor]
    start: Callable[[], None]
    kept: object = None


def captured(
    call: Callable[..., Any],
    inputs: Sequence[torch.Tensor],
    parts: int = 1,
    took: Callable[[Callable[[], float]], None] = lambda device_ms: None,
) -> Ready:
    """A call as a CUDA graph.

    Args:
        call: Takes tensors on the device and returns some.
        inputs: On the host, with the values that it is tried with.
        parts: Calls beside each other, of as many parts of the first axis of all that goes in and comes out: one
            moves memory while another computes. No more than there are rows.
        took: Is called after each run, with what tells its milliseconds on the device, copies included.
    """
    given = [tensor.pin_memory() for tensor in inputs]
    own = [tensor.cuda() for tensor in given]
    pieces = [_piece(own, parts, at) for at in range(parts)]
    sides: list[Any] = [torch.cuda.Stream() for _ in pieces]  # type: ignore[no-untyped-call]
    tried: list[list[torch.Tensor]] = []
    for piece, side in zip(pieces, sides, strict=True):
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                outputs = [_contiguous(value) for value in call(*piece)]
        side.synchronize()
        tried.append(outputs)
    made = [torch.empty_like(torch.cat(values), device="cpu").pin_memory() for values in zip(*tried, strict=True)]
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        first: Any = torch.cuda.current_stream()
        for at, side in enumerate(sides):
            side.wait_stream(first)
            with torch.cuda.stream(side):
                for device, host in zip(pieces[at], _piece(given, parts, at), strict=True):
                    device.copy_(host, non_blocking=True)
                for value, host in zip(call(*pieces[at]), _piece(made, parts, at), strict=True):
                    host.copy_(_contiguous(value), non_blocking=True)
        for side in sides:
            first.wait_stream(side)
    event: Any = torch.cuda.Event
    marks = [event(enable_timing=True) for _ in range(2)]

    def device_ms() -> float:
        return float(marks[0].elapsed_time(marks[1]))

    def start() -> None:
        marks[0].record()
        graph.replay()
        marks[1].record()
        marks[1].synchronize()
        took(device_ms)

    return Ready(given, made, start, (call, own))


def on_cpu(call: Callable[..., Any], inputs: Sequence[torch.Tensor]) -> Ready:
    """A call that is run as it is."""
    given = [tensor.clone() for tensor in inputs]
    made = [_contiguous(value) for value in call(*given)]

    def start() -> None:
        for own, value in zip(made, call(*given), strict=True):
            own.copy_(value)

    return Ready(given, made, start)


def _piece(tensors: Sequence[torch.Tensor], parts: int, at: int) -> list[torch.Tensor]:
    """One of so many parts of each tensor's first axis; views."""
    return [tensor if parts == 1 else tensor.tensor_split(parts)[at] for tensor in tensors]


def _contiguous(value: torch.Tensor) -> torch.Tensor:
    """An output as the caller's array wants it: floats are float32."""
    return (value.float() if value.is_floating_point() else value).contiguous()
