"""A streaming CTC model on Triton, which keeps what each stream remembers: a stream is a sequence there."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from itertools import count
from typing import Any

import numpy as np

from pipelines.acoustic.waveform_stream import WaveformState, WaveformStreaming
from pipelines.contracts import CtcVocabulary, Float32
from pipelines.models.model_card import CtcCard, StreamingCard
from pipelines.resilience import Deadline, ServiceError
from pipelines.triton.connections.base import Turn

MAX_TOGETHER = 64
"""Streams whose chunks are on their way at once; more wait for those."""
END_TIMEOUT_S = 1.0


class TritonStreamState(WaveformState):
    """A stream's place on the server."""

    def __init__(self, owner: TritonStreaming, sequence: int) -> None:
        super().__init__(owner)
        self.sequence = sequence
        self.on_server = False
        """Whether the server remembers something of it."""
        self._model = owner

    def close(self) -> None:
        """Have the server forget it; nobody waits for that."""
        super().close()
        if self.on_server:
            self.on_server = False
            self._model.forget(self.sequence)


class TritonStreaming(WaveformStreaming[TritonStreamState]):
    """A streaming model on Triton. Chunks of several streams go out side by side; the server makes a batch of them.

    A step that fails leaves its streams where nobody knows, so that their states are of no use afterwards.
    """

    def __init__(
        self,
        card: CtcCard,
        streaming: StreamingCard,
        vocabulary: CtcVocabulary,
        service: Any,
        model: str,
        chunk_frames: int,
    ) -> None:
        super().__init__(card, streaming, vocabulary, chunk_frames)
        self._service, self._model = service, model
        # Ids of other clients of the same server must not be ours.
        self._sequences = count(secrets.randbits(62) + 1)
        self._threads = ThreadPoolExecutor(MAX_TOGETHER, thread_name_prefix="triton-chunk")

    def open(self) -> TritonStreamState:
        """The state of a new stream; the server hears of it with the first chunk."""
        return TritonStreamState(self, next(self._sequences))

    def forget(self, sequence: int) -> None:
        """End a sequence on the server with a frame of silence."""
        self._threads.submit(self._end, sequence)

    def close(self) -> None:
        """Wait for what is under way."""
        self._threads.shutdown()

    def _end(self, sequence: int) -> None:
        silence = np.zeros((1, self.shift_samples), np.float32)
        try:
            self._call(silence, Turn(sequence, end=True), Deadline.after(END_TIMEOUT_S))
        except ServiceError:
            return  # a server that is away has forgotten it; one that is busy will, when it was idle for long

    def _step(self, states: Sequence[TritonStreamState], samples: Float32, length: int) -> Float32:
        frames = -(-length // self.shift_samples)
        padded = np.zeros((len(states), frames * self.shift_samples), np.float32)
        padded[:, :length] = samples[:, :length]
        last = length < self.chunk_samples
        turns = [Turn(state.sequence, start=not state.on_server, end=last) for state in states]
        try:
            rows = zip(padded[:, None], turns, strict=True)
            if len(states) == 1:
                found = self._call(*next(rows))
            else:
                futures = [self._threads.submit(self._call, chunk, turn) for chunk, turn in rows]
                wait(futures)
                found = np.concatenate([future.result() for future in futures])
        except BaseException:
            for state in states:
                state.close()
            raise
        for state in states:
            state.on_server = not last
        return found

    def _call(self, chunk: Float32, turn: Turn, deadline: Deadline | None = None) -> Float32:
        name = self.card.output.name
        reply = self._service.infer(self._model, {self.card.input.name: chunk}, (name,), deadline, turn)
        found: Float32 = reply.outputs[name]
        return found
