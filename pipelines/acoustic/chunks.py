"""What the streaming models have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pipelines.contracts import AudioBatch

DTYPES: dict[str, type[np.generic]] = {
    "tensor(float)": np.float32,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(bool)": np.bool_,
}
"""The types of states and of other inputs, by their name in ONNX Runtime."""


def check_chunks(owner: object, chunk_samples: int, states: Sequence[Any], chunks: AudioBatch) -> None:
    """Refuse a call of `infer_chunk` that makes no sense; see `pipelines.contracts.StreamingAcousticModel`.

    Raises:
        ValueError: It does not.
    """
    if not len(states) == len(chunks.lengths) == len(chunks.samples):
        raise ValueError(f"{len(states)} states, {len(chunks.lengths)} lengths, {len(chunks.samples)} chunks")
    longest = int(chunks.lengths.max(initial=0))
    if longest > chunk_samples or chunks.lengths.min(initial=0) < 0 or longest > chunks.samples.shape[1]:
        raise ValueError(
            f"a chunk has 0 to {chunk_samples} samples, got lengths {chunks.lengths.tolist()} in rows of "
            f"{chunks.samples.shape[1]}"
        )
    for row, state in enumerate(states):
        if getattr(state, "owner", None) is not owner:
            raise ValueError(f"state {row} was opened by another model")
        if state.ended:
            raise ValueError(f"state {row} is closed or has had its last chunk, one shorter than the others")
    if len(set(map(id, states))) < len(states):
        raise ValueError("a stream is named twice in one batch: its chunks must come one after the other")
