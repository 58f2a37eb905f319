"""Kernels for arrays that are on a GPU already and stay there (numba-cuda); log-probabilities never come to the host.

`kernels/gpu.py` and the `cupy` implementations take arrays of the host and pay for the copies. These take whatever has
`__cuda_array_interface__` (numba, CuPy, PyTorch), allocate with numba, and start on the stream that is given. The
kernels are plain Python, so the CUDA simulator runs their logic without a GPU (`NUMBA_ENABLE_CUDASIM=1`).

Import this module only where a GPU is used: it needs numba.

Ties go to the smaller index; a NaN counts as larger than every number, as in `kernels.argmax`.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import cuda, float32, int64
from numba.core import config as numba_config

_config: Any = numba_config
SIMULATED = bool(_config.ENABLE_CUDASIM)
THREADS = 4 if SIMULATED else 128
"""Threads of a block that works on one row or one utterance; a power of two. The simulator's are the system's."""
TILE = 32
PITCH = TILE + 1
"""One column more than a tile has: no two threads on one bank."""
TILE_ROWS = 1 if SIMULATED else 8
SCALE = np.float32(1 / 32768)


@cuda.jit(device=True)
def ahead(a, i, b, j):  # type: ignore[no-untyped-def]
    """Whether value a at index i comes before b at j."""
    if (a != a) != (b != b):
        return a != a
    if a == a and a != b:
        return a > b
    return i < j


@cuda.jit(device=True)
def foremost(row, n, limit, limit_index, values, indices):  # type: ignore[no-untyped-def]
    """Index of the foremost element of a row behind (limit, limit_index); all threads of the block together."""
    me = cuda.threadIdx.x
    best, where = float32(-math.inf), n
    for i in range(me, n, cuda.blockDim.x):
        x = row[i]
        if limit_index >= 0 and not ahead(limit, limit_index, x, i):
            continue
        if where == n or ahead(x, i, best, where):
            best, where = x, i
    values[me], indices[me] = best, where
    cuda.syncthreads()
    half = cuda.blockDim.x // 2
    while half > 0:
        if me < half:
            other = indices[me + half]
            if other < n and (indices[me] == n or ahead(values[me + half], other, values[me], indices[me])):
                values[me], indices[me] = values[me + half], other
        cuda.syncthreads()
        half //= 2
    found = indices[0]
    cuda.syncthreads()
    return found


@cuda.jit
def _pcm16(samples, out):  # type: ignore[no-untyped-def]
    i = cuda.grid(1)
    if i < out.size:
        out[i] = float32(samples[i]) * SCALE


@cuda.jit
def _transpose(x, out):  # type: ignore[no-untyped-def]
    tile = cuda.shared.array((TILE, PITCH), float32)
    batch = cuda.blockIdx.z
    column = cuda.blockIdx.x * TILE + cuda.threadIdx.x
    top = cuda.blockIdx.y * TILE
    for step in range(cuda.threadIdx.y, TILE, cuda.blockDim.y):
        if top + step < x.shape[1] and column < x.shape[2]:
            tile[step, cuda.threadIdx.x] = x[batch, top + step, column]
    cuda.syncthreads()
    row = top + cuda.threadIdx.x
    left = cuda.blockIdx.x * TILE
    for step in range(cuda.threadIdx.y, TILE, cuda.blockDim.y):
        if left + step < x.shape[2] and row < x.shape[1]:
            out[batch, left + step, row] = tile[cuda.threadIdx.x, step]


@cuda.jit
def _top_k(x, values, indices):  # type: ignore[no-untyped-def]
    shared_values = cuda.shared.array(THREADS, float32)
    shared_indices = cuda.shared.array(THREADS, int64)
    row = cuda.blockIdx.x
    limit, where = float32(0), -1
    for rank in range(values.shape[1]):
        where = foremost(x[row], x.shape[1], limit, where, shared_values, shared_indices)
        limit = x[row, where]
        if cuda.threadIdx.x == 0:
            values[row, rank], indices[row, rank] = limit, where


@cuda.jit
def _greedy(labels, best, lengths, blank, carry, tokens, confidences, frames, counts):  # type: ignore[no-untyped-def]
    """Collapse each utterance's best labels: one thread for each utterance."""
    n = cuda.grid(1)
    if n >= lengths.size:
        return
    previous, found, running = carry[n], 0, False
    for t in range(lengths[n]):
        label, value = labels[n, t], best[n, t]
        if label != previous:
            running = label != blank
            if running:
                tokens[n, found], confidences[n, found] = label, value
                frames[n, found, 0], frames[n, found, 1] = t, t
                found += 1
        elif running:
            frames[n, found - 1, 1] = t
            if value > confidences[n, found - 1] or value != value:
                confidences[n, found - 1] = value
        previous = label
    for i in range(found):
        confidences[n, i] = math.exp(confidences[n, i])
    carry[n], counts[n] = previous, found


def require() -> None:
    """See that kernels can be started.

    Raises:
        RuntimeError: There is no usable GPU, and the simulator is not asked for.
    """
    if not SIMULATED and not cuda.is_available():
        raise RuntimeError(f"numba finds no usable GPU: {cuda.cuda_error()}")


def pcm16_to_float32(samples: Any, stream: Any = 0) -> Any:
    """int16 (n,) on the device to float32 (n,) in [-1, 1) on the device."""
    made = cuda.device_array(samples.shape, np.float32, stream=stream)
    if made.size:
        _pcm16[-(-made.size // THREADS), THREADS, stream](samples, made)
    return made


def transpose(x: Any, stream: Any = 0) -> Any:
    """float32 (B, C, T) on the device to (B, T, C) on the device."""
    batch, rows, columns = x.shape
    made = cuda.device_array((batch, columns, rows), np.float32, stream=stream)
    if made.size:
        _transpose[(-(-columns // TILE), -(-rows // TILE), batch), (TILE, TILE_ROWS), stream](x, made)
    return made


def top_k(x: Any, k: int, stream: Any = 0) -> tuple[Any, Any]:
    """The k largest of each row of float32 (rows, n) and where they are: float32 and int64 (rows, k).

    Raises:
        ValueError: k is not in [1, n].
    """
    rows, n = x.shape
    if not 1 <= k <= n:
        raise ValueError(f"k must be in [1, {n}], got {k}")
    values = cuda.device_array((rows, k), np.float32, stream=stream)
    indices = cuda.device_array((rows, k), np.int64, stream=stream)
    if rows:
        _top_k[rows, THREADS, stream](x, values, indices)
    return values, indices


class Greedy(NamedTuple):
    """What greedy search finds, on the device.

    Attributes:
        tokens: int64 (N, T).
        confidences: float32 (N, T).
        frames: int64 (N, T, 2): first and last frame of each token.
        counts: int64 (N,): how many tokens there are.
    """

    tokens: Any
    confidences: Any
    frames: Any
    counts: Any


def ctc_greedy(log_probs: Any, lengths: Any, blank: int, carry: Any, stream: Any = 0) -> Greedy:
    """Best paths of a batch, repeats collapsed and blanks dropped, as `kernels.ctc_greedy`.

    Args:
        log_probs: float32 (N, T, V) on the device.
        lengths: int64 (N,) on the device: real frames.
        blank: The id of the blank.
        carry: int64 (N,) on the device, in and out: the label of the frame before.
        stream: CUDA stream.

    Raises:
        ValueError: The blank is no label.
    """
    batch, count, labels = log_probs.shape
    if not 0 <= blank < labels:
        raise ValueError(f"blank must be one of the {labels} labels, got {blank}")
    found = Greedy(
        cuda.device_array((batch, count), np.int64, stream=stream),
        cuda.device_array((batch, count), np.float32, stream=stream),
        cuda.device_array((batch, count, 2), np.int64, stream=stream),
        cuda.device_array((batch,), np.int64, stream=stream),
    )
    best, which = top_k(log_probs.reshape(batch * count, labels), 1, stream)
    _greedy[-(-batch // THREADS), THREADS, stream](
        which.reshape(batch, count), best.reshape(batch, count), lengths, blank, carry, *found
    )
    return found
