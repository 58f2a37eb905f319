"""A streaming CTC model in PyTorch whose streams live on the GPU: samples go there, log-probabilities come back.

What a stream remembers is one row of a pool on the device. A step takes the rows of its streams together, runs the
graph and puts them back, all of it in one CUDA graph for each size of batch. Batches are filled up to a power of two
with a row that belongs to nobody, so that there are few sizes, each of them ready before the first stream comes.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from pipelines.acoustic.ort_stream import StateTensor, state_tensors
from pipelines.acoustic.torch_capture import Ready
from pipelines.acoustic.torch_session import TorchSession
from pipelines.acoustic.waveform_stream import WaveformState, WaveformStreaming
from pipelines.contracts import CtcVocabulary, Float32
from pipelines.models.model_card import CtcCard, StreamingCard

FIRST_ROWS = 64
"""Rows of the pool at the start; it doubles when it is full, and graphs are captured anew."""
NOBODY = 0
"""The row that fills batches up."""


class TorchStreamState(WaveformState):
    """A stream's row."""

    def __init__(self, owner: TorchStreaming, row: int) -> None:
        super().__init__(owner)
        self.row = row
        self._give_back = weakref.finalize(self, owner.free_rows.append, row)

    def close(self) -> None:
        """Give the row back."""
        super().close()
        self._give_back()


class TorchStreaming(WaveformStreaming[TorchStreamState]):
    """A streaming model on a GPU; `device_ms` of its session tells what the last step took there.

    Args:
        most_streams: Streams of the largest step, rounded up to a power of two; larger calls are several steps.
    """

    def __init__(
        self, card: CtcCard, streaming: StreamingCard, vocabulary: CtcVocabulary, session: TorchSession,
        chunk_frames: int, most_streams: int,
    ) -> None:  # fmt: skip
        super().__init__(card, streaming, vocabulary, chunk_frames)
        self.session = session
        self.most_streams = 1 << (most_streams - 1).bit_length()
        self._states = state_tensors(streaming, session)
        self._ready: dict[tuple[int, int], Ready] = {}
        self._calls: dict[tuple[int, int], Any] = {}
        self.free_rows: list[int] = []
        self._pools: list[torch.Tensor] = []
        self._grow(FIRST_ROWS)

    def open(self) -> TorchStreamState:
        """The state of a new stream."""
        if not self.free_rows:
            self._grow(2 * self._rows)
        row = self.free_rows.pop()
        self._forget(row)
        return TorchStreamState(self, row)

    def close(self) -> None:
        """Give the device's memory back."""
        self._ready.clear()
        self._calls.clear()
        self._pools = []

    def warm_up(self) -> None:
        """Have every size of step ready: full chunks by powers of two, and the last chunks of a stream."""
        rows = 1
        while rows <= self.most_streams:
            self._ready_for(rows, self.chunk_frames)
            rows *= 2
        for frames in range(1, self.chunk_frames):
            self._ready_for(1, frames)
        super().warm_up()

    @property
    def _rows(self) -> int:
        return int(self._pools[0].shape[self._states[0].batch_axis])

    def _forget(self, row: int) -> None:
        """A stream begins."""
        for pool, state in zip(self._pools, self._states, strict=True):
            pool.select(state.batch_axis, row).zero_()

    def _parts(self, streams: int) -> int:
        """In how many parts beside each other a step is run."""
        return 1

    def _grow(self, rows: int) -> None:
        """Have a pool of so many rows; streams keep theirs."""
        old, first = self._pools, self._rows if self._pools else NOBODY + 1
        self._ready.clear()  # captured with the old pool's addresses
        self._pools = [
            torch.zeros(state.batched(rows), dtype=_torch_type(state), device=self.session.device)
            for state in self._states
        ]
        for state, before, after in zip(self._states, old, self._pools, strict=False):
            after.narrow(state.batch_axis, 0, first).copy_(before)
        self.free_rows += range(rows - 1, first - 1, -1)

    @torch.inference_mode()
    def _step(self, states: Sequence[TorchStreamState], samples: Float32, length: int) -> Float32:
        most = self.most_streams
        if len(states) > most:
            parts = (slice(at, at + most) for at in range(0, len(states), most))
            return np.concatenate([self._step(states[part], samples[part], length).copy() for part in parts])
        frames = -(-length // self.shift_samples)
        ready = self._ready_for(1 << (len(states) - 1).bit_length(), frames)
        given, rows = (tensor.numpy() for tensor in ready.given)
        given[: len(states), :length] = samples[:, :length]
        given[: len(states), length:] = 0
        rows[:] = NOBODY
        rows[: len(states)] = [state.row for state in states]
        ready.start()
        log_probs: Float32 = ready.made[0].numpy()[: len(states)]
        return log_probs

    @torch.inference_mode()
    def _ready_for(self, streams: int, frames: int) -> Ready:
        key = streams, frames
        if key not in self._ready:
            samples = torch.zeros(streams, frames * self.shift_samples)
            rows = torch.full((streams,), NOBODY)
            self._ready[key] = self.session.prepared(self._call(key, samples), [samples, rows], self._parts(streams))
        return self._ready[key]

    def _call(self, key: tuple[int, int], samples: torch.Tensor) -> Any:
        """A step of rows of the pool, compiled once for each size of whole chunks."""
        names = [self.card.input.name, *(state.input for state in self._states)]
        order = [names.index(name) for name in self.session.graph.inputs]
        given = {name: at for at, name in enumerate(self.session.graph.outputs)}
        said = given[self.card.output.name]
        left = [given[state.output] for state in self._states]
        if key not in self._calls:
            zeros = [torch.zeros(state.batched(len(samples)), dtype=_torch_type(state)) for state in self._states]
            example = self.session.placed([samples, *zeros])
            whole = key[1] == self.chunk_frames
            run = self.session.graph
            self._calls[key] = self.session.compiled(run, [example[at] for at in order]) if whole else run

        def call(samples: torch.Tensor, rows: torch.Tensor) -> tuple[torch.Tensor]:
            both = list(zip(self._states, self._pools, strict=True))
            taken = [samples, *(pool.index_select(state.batch_axis, rows) for state, pool in both)]
            made = self._calls[key](*(taken[at] for at in order))
            for (state, pool), at in zip(both, left, strict=True):
                pool.index_copy_(state.batch_axis, rows, made[at])
            return (made[said],)

        return call


def _torch_type(state: StateTensor) -> torch.dtype:
    return torch.from_numpy(np.empty(0, state.dtype)).dtype
