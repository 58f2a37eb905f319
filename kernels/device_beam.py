"""CTC prefix beam search of a batch on a GPU: one block for each utterance, all of its frames in one start.

The algorithm is that of `kernels.ctc_prefix_beam` without a language model, over the `k` best labels of each frame and
with spaces as labels like others. A prefix is known by two 31-bit hashes of its labels: with a beam of 16 the chance
that two different ones are taken for one is below 1e-13 a frame.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import cuda, float32, int64

from kernels import device
from kernels.device import THREADS

FIRST_PRIME, SECOND_PRIME = 2_147_483_647, 2_147_483_629
FIRST_FACTOR, SECOND_FACTOR = 48_271, 69_621
LAST, FIRST_HASH, SECOND_HASH, NODE = range(4)
"""Columns of a prefix: last label (-1 for none), both hashes, its node."""
SIZE, NODES = range(2)
"""What is counted for an utterance: prefixes in the beam, nodes of the tree."""
PARENT, TOKEN = range(2)


@cuda.jit(device=True)
def _log_add(a, b):  # type: ignore[no-untyped-def]
    if a < b:
        a, b = b, a
    if b == -math.inf:
        return a
    return a + math.log1p(math.exp(b - a))


@cuda.jit(device=True)
def _extends(prefix, parent, label):  # type: ignore[no-untyped-def]
    """Whether `prefix` is `parent` and then `label`."""
    if prefix[FIRST_HASH] != (parent[FIRST_HASH] * FIRST_FACTOR + label + 1) % FIRST_PRIME:
        return False
    return prefix[SECOND_HASH] == (parent[SECOND_HASH] * SECOND_FACTOR + label + 1) % SECOND_PRIME


@cuda.jit
def _advance(log_probs, labels, lengths, blank, prefixes, scores, counts, tree, tried, totals):  # type: ignore[no-untyped-def]
    """Take all frames.

    log_probs (N, T, V); labels (N, T, k) the best of each frame; prefixes (N, 2, beam, 4) and scores
    (N, 2, beam, 2), blank and label part, each twice: the beam and the next one; counts (N, 2); tree
    (N, nodes, 2); tried (N, beam + beam * k, 2) and totals (N, beam + beam * k): what is thrown away.
    """
    best_values = cuda.shared.array(THREADS, float32)
    best_indices = cuda.shared.array(THREADS, int64)
    n, me, step = cuda.blockIdx.x, cuda.threadIdx.x, cuda.blockDim.x
    beam, choices = prefixes.shape[2], labels.shape[2]
    now, after = prefixes[n, 0], prefixes[n, 1]
    score, later = scores[n, 0], scores[n, 1]
    for t in range(lengths[n]):
        size = counts[n, SIZE]
        frame = log_probs[n, t]
        for i in range(me, size, step):
            last = now[i, LAST]
            ends_blank = _log_add(score[i, 0], score[i, 1]) + frame[blank]
            ends_label = -math.inf
            if last >= 0:
                ends_label = score[i, 1] + frame[last]
                for j in range(size):
                    if _extends(now[i], now[j], last):
                        part = score[j, 0]
                        if now[j, LAST] != last:
                            part = _log_add(score[j, 0], score[j, 1])
                        ends_label = _log_add(ends_label, part + frame[last])
            tried[n, i, 0], tried[n, i, 1] = ends_blank, ends_label
            totals[n, i] = _log_add(ends_blank, ends_label)
        for e in range(me, size * choices, step):
            i, label = e // choices, labels[n, t, e % choices]
            total = -math.inf
            if label != blank:
                total = score[i, 0]
                if now[i, LAST] != label:
                    total = _log_add(score[i, 0], score[i, 1])
                total += frame[label]
                for j in range(size):
                    if _extends(now[j], now[i], label):
                        total = -math.inf  # it is in the beam, and has been given this already
            tried[n, size + e, 0], tried[n, size + e, 1] = -math.inf, total
            totals[n, size + e] = total
        cuda.syncthreads()
        candidates = size + size * choices
        kept = 0
        for rank in range(min(beam, candidates)):
            top, where = float32(-math.inf), candidates
            for c in range(me, candidates, step):
                if totals[n, c] > top:
                    top, where = totals[n, c], c
            best_values[me], best_indices[me] = top, where
            cuda.syncthreads()
            half = step // 2
            while half > 0:
                if me < half:
                    other = best_values[me + half]
                    if other > best_values[me] or (
                        other == best_values[me] and best_indices[me + half] < best_indices[me]
                    ):
                        best_values[me], best_indices[me] = other, best_indices[me + half]
                cuda.syncthreads()
                half //= 2
            where = best_indices[0]
            if where < candidates:
                kept = rank + 1
                if me == 0:
                    totals[n, where] = -math.inf
                    later[rank, 0], later[rank, 1] = tried[n, where, 0], tried[n, where, 1]
                    if where < size:
                        for column in range(4):
                            after[rank, column] = now[where, column]
                    else:
                        i = (where - size) // choices
                        label = labels[n, t, (where - size) % choices]
                        node = counts[n, NODES]
                        counts[n, NODES] = node + 1
                        tree[n, node, PARENT], tree[n, node, TOKEN] = now[i, NODE], label
                        after[rank, LAST], after[rank, NODE] = label, node
                        after[rank, FIRST_HASH] = (now[i, FIRST_HASH] * FIRST_FACTOR + label + 1) % FIRST_PRIME
                        after[rank, SECOND_HASH] = (now[i, SECOND_HASH] * SECOND_FACTOR + label + 1) % SECOND_PRIME
            cuda.syncthreads()
        for i in range(me, kept, step):
            score[i, 0], score[i, 1] = later[i, 0], later[i, 1]
            for column in range(4):
                now[i, column] = after[i, column]
        if me == 0:
            counts[n, SIZE] = kept
        cuda.syncthreads()


@cuda.jit
def _best_paths(prefixes, scores, counts, tree, tokens, lengths, found):  # type: ignore[no-untyped-def]
    """The most probable prefix of each utterance and its log-probability: one thread for each utterance."""
    n = cuda.grid(1)
    if n >= lengths.size:
        return
    best, total = 0, float32(-math.inf)
    for i in range(counts[n, SIZE]):
        here = _log_add(scores[n, 0, i, 0], scores[n, 0, i, 1])
        if here > total:
            best, total = i, here
    node = prefixes[n, 0, best, NODE]
    count = 0
    at = node
    while at > 0:
        count += 1
        at = tree[n, at, PARENT]
    lengths[n], found[n] = count, total
    for place in range(count):
        tokens[n, count - 1 - place] = tree[n, node, TOKEN]
        node = tree[n, node, PARENT]


class BeamSearch:
    """A batch of utterances, fed chunk by chunk; everything but the final tokens stays on the device.

    Args:
        batch: Utterances.
        max_frames: Frames that an utterance has at most, over all chunks.
        beam: Prefixes that are kept.
        choices: Labels that are tried in each frame.
        blank: The id of the blank.
    """

    def __init__(self, batch: int, max_frames: int, *, beam: int, choices: int, blank: int) -> None:
        if beam < 1 or choices < 1 or batch < 1:
            raise ValueError(f"batch, beam and choices must be 1 or more, got {batch}, {beam}, {choices}")
        self._batch, self._beam, self._choices, self._blank = batch, beam, choices, blank
        self._left = max_frames
        self._max_frames = max_frames
        prefixes = np.zeros((batch, 2, beam, 4), np.int64)
        prefixes[:, :, :, LAST] = -1
        scores = np.full((batch, 2, beam, 2), -np.inf, np.float32)
        scores[:, 0, 0, 0] = 0  # the empty prefix, which ends in a blank
        candidates = beam + beam * choices
        self._state = (
            cuda.to_device(prefixes),
            cuda.to_device(scores),
            cuda.to_device(np.ones((batch, 2), np.int64)),  # one prefix, one node: the root
            cuda.to_device(np.zeros((batch, max_frames * beam + 1, 2), np.int64)),
        )
        self._scratch = (
            cuda.device_array((batch, candidates, 2), np.float32),
            cuda.device_array((batch, candidates), np.float32),
        )

    def push(self, log_probs: Any, lengths: Any, stream: Any = 0) -> None:
        """Take a chunk: float32 (batch, T, V) and int64 (batch,) real frames, both on the device.

        Raises:
            ValueError: Another batch, fewer labels than choices, or more frames than there is room for.
        """
        batch, count, labels = log_probs.shape
        if batch != self._batch or self._choices > labels or count > self._left:
            raise ValueError(
                f"a chunk must be ({self._batch}, up to {self._left} frames, {self._choices} labels or more), "
                f"got {log_probs.shape}"
            )
        self._left -= count
        _, best = device.top_k(log_probs.reshape(batch * count, labels), self._choices, stream)
        _advance[batch, THREADS, stream](
            log_probs, best.reshape(batch, count, self._choices), lengths, self._blank, *self._state, *self._scratch
        )

    def finish(self, stream: Any = 0) -> tuple[list[list[int]], np.ndarray[Any, Any]]:
        """The best tokens of each utterance, and their log-probabilities, float32 (batch,); on the host."""
        tokens = cuda.device_array((self._batch, max(self._max_frames, 1)), np.int64, stream=stream)
        counts = cuda.device_array((self._batch,), np.int64, stream=stream)
        scores = cuda.device_array((self._batch,), np.float32, stream=stream)
        _best_paths[-(-self._batch // THREADS), THREADS, stream](*self._state, tokens, counts, scores)
        rows, lengths = tokens.copy_to_host(stream=stream), counts.copy_to_host(stream=stream)
        return [row[:n].tolist() for row, n in zip(rows, lengths, strict=True)], scores.copy_to_host(stream=stream)
