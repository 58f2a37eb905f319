"""A streaming CTC model in PyTorch whose steps read and write what streams remember where it is.

Against `torch_stream`, which runs any graph: nothing is taken out of the pool, joined, cut and put back, keys are
turned once, and both are kept in the products' type. The encoder is one of `pipelines.models.stream_graph`'s.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import torch

from pipelines.acoustic.ort_stream import state_tensors
from pipelines.acoustic.ring_step import RingOps, ring_step
from pipelines.acoustic.ring_weights import RingPool, RingWeights, ring_weights
from pipelines.acoustic.torch_session import TorchSession
from pipelines.acoustic.torch_stream import NOBODY, TorchStreaming
from pipelines.contracts import CtcVocabulary
from pipelines.errors import AmiraError
from pipelines.models.model_card import CtcCard, StreamingCard

LEAST_PART = 64
"""Streams of a part of a step: fewer leave most of the GPU idle."""
MOST_PARTS = 2


def in_rings(
    card: CtcCard, streaming: StreamingCard, vocabulary: CtcVocabulary, session: TorchSession, chunk_frames: int,
    most_streams: int,
) -> RingStreaming:  # fmt: skip
    """The model of a card, in rings.

    Raises:
        AmiraError: Its graph is not of our encoder, or Triton is not there.
    """
    weights = weights_of(streaming, session)
    if weights is None:
        raise AmiraError(f"{card.name} is not one of our streaming models: its states have no rings. Use rings = false")
    if not has_triton():
        raise AmiraError("rings want Triton, which comes with PyTorch for CUDA. Install it, or rings = false")
    from pipelines.acoustic.ring_triton import TritonOps

    return RingStreaming(card, streaming, vocabulary, session, chunk_frames, most_streams, weights, TritonOps())


def has_triton() -> bool:
    """Whether Triton, the compiler, is there; a folder of that name, as of a checkout of ours, is not it."""
    found = find_spec("triton")
    return found is not None and found.origin is not None


def weights_of(streaming: StreamingCard, session: TorchSession) -> RingWeights | None:
    """What a session's graph is made of, if it is an encoder that is known here."""
    return ring_weights(session.graph, {state.input: state.shape for state in state_tensors(streaming, session)})


class RingStreaming(TorchStreaming):
    """A streaming model on a GPU whose keys and values are in rings.

    Args:
        weights: Of the session's graph, on its device.
        ops: What runs there.
    """

    def __init__(
        self, card: CtcCard, streaming: StreamingCard, vocabulary: CtcVocabulary, session: TorchSession,
        chunk_frames: int, most_streams: int, weights: RingWeights, ops: RingOps,
    ) -> None:  # fmt: skip
        self._weights, self._ops = weights, ops
        self._pool: RingPool | None = None
        super().__init__(card, streaming, vocabulary, session, chunk_frames, most_streams)

    def close(self) -> None:
        """Give the device's memory back."""
        super().close()
        self._pool = None

    def _forget(self, row: int) -> None:
        self._there.forget(row)

    def _parts(self, streams: int) -> int:
        return max(1, min(MOST_PARTS, streams // LEAST_PART))

    @property
    def _there(self) -> RingPool:
        if self._pool is None:
            raise RuntimeError(f"{self.card.name} is closed")
        return self._pool

    @property
    def _rows(self) -> int:
        return len(self._there.frames)

    def _grow(self, rows: int) -> None:
        old, self._pool = self._pool, RingPool.empty(self._weights, rows, self.chunk_frames)
        self._ready.clear()  # captured with the old pool's addresses
        if old is not None:
            self._pool.take(old)
        self.free_rows += range(rows - 1, (NOBODY if old is None else len(old.frames) - 1), -1)

    def _call(self, key: tuple[int, int], samples: torch.Tensor) -> Any:
        pool = self._there

        def call(samples: torch.Tensor, rows: torch.Tensor) -> tuple[torch.Tensor]:
            return (ring_step(self._ops, self._weights, pool, samples, rows),)

        return call
