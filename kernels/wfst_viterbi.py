"""Viterbi beam search of CTC log-probabilities through a weighted finite-state transducer, frame by frame.

Token passing as in Kaldi's decoders: every active state has the best token that reaches it, tokens further than the
beam from the best of their frame are dropped. What a token has come through is a chain of links, one for each arc
that is not a plain repetition, so what all tokens agree on is a common ancestor: no later frame can change it.

An arc's input label is token id + 1, 0 stands for no input; weights are costs (negative log-probabilities).

Import this module only where a search is opened: it needs numba.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kernels.compile import Loop, compile_loop

PREVIOUS, INPUT, OUTPUT, FRAME = range(4)
"""Columns of a link: the link before, the arc's labels, the frame that it took (or the one before a free arc)."""
LINKS, ACTIVE, FRAMES = range(3)
"""What `state` holds: how many links there are, how many active states, how many frames were taken."""
NOWHERE = 1e300
"""The cost of a state without a token."""

_GRAPH = "int64[::1], int64[::1], int32[::1], int32[::1], float32[::1], int32[::1]"
_TOKENS = "float64[::1], float64[::1], int32[::1], int32[::1], int32[::1], int32[::1], int32[:, ::1], int64[::1]"
_SCRATCH = "int64[::1], uint8[::1]"


class Arcs(NamedTuple):
    """A transducer as arrays; each state's arcs that take a frame come before those that take none.

    Attributes:
        begins: int64 (states + 1,): where each state's arcs start.
        free: int64 (states,): where those start that take no frame.
        inputs, outputs: int32 (arcs,).
        costs: float32 (arcs,).
        targets: int32 (arcs,).
    """

    begins: npt.NDArray[np.int64]
    free: npt.NDArray[np.int64]
    inputs: npt.NDArray[np.int32]
    outputs: npt.NDArray[np.int32]
    costs: npt.NDArray[np.float32]
    targets: npt.NDArray[np.int32]


@cache
def advance() -> Loop:
    """Compile the search over the frames of a chunk. Its arguments, in order.

    log_probs: float32 (T, V); with no rows, and no frames taken yet, only the arcs that take none are followed.
    beam: Costs above the best that a token may have.
    most: Active states that a frame may have.
    The fields of `Arcs`.
    costs, next_costs: float64 (states,), `NOWHERE` where there is no token; next_costs is left so.
    heads, next_heads: int32 (states,): the last link of each token, -1 for none.
    active, next_active: int32 (2 * states,): the states that have a token.
    links: int32 (capacity, 4).
    state: int64 (3,).
    arcs: int64 (states,), queued: uint8 (states,): scratch; queued is all zeros and is left so.

    Returns:
        How many of the frames were taken, each whole or not at all: less than T where `links` is full (compact it, or
        give it more room, and go on with the rest). At the start of a stream, 0 frames asked for: 0, or -1 if full.
    """

    @compile_loop(f"int64(float32[:, ::1], float64, int64, {_GRAPH}, {_TOKENS}, {_SCRATCH})", allocates=True)
    def loop(  # type: ignore[no-untyped-def]
        log_probs, beam, most, begins, free, inputs, outputs, costs_of, targets,
        costs, next_costs, heads, next_heads, active, next_active, links, state,
        arcs, queued,
    ):  # fmt: skip
        frames = log_probs.shape[0]
        count, size, taken = state[0], state[1], state[2]
        done = 0
        start = taken == 0 and frames == 0
        while done < frames or start:
            if start:
                next_costs[active[0]] = 0.0
                next_heads[active[0]] = -1
                next_active[0] = active[0]
                next_size = 1
            else:
                row = log_probs[done]
                best = np.inf
                for j in range(size):
                    best = min(best, costs[active[j]])
                cutoff = best + beam
                if size > most:
                    values = np.empty(size)
                    for j in range(size):
                        values[j] = costs[active[j]]
                    cutoff = min(cutoff, np.partition(values, most)[most])
                next_best = np.inf
                next_size = 0
                for j in range(size):
                    source = active[j]
                    cost = costs[source]
                    if cost > cutoff:
                        continue
                    for a in range(begins[source], free[source]):
                        reached = cost + costs_of[a] - row[inputs[a] - 1]
                        if reached > next_best + beam:
                            continue
                        next_best = min(next_best, reached)
                        target = targets[a]
                        if reached < next_costs[target]:
                            if next_costs[target] == 1e300:
                                next_active[next_size] = target
                                next_size += 1
                            next_costs[target] = reached
                            arcs[target] = a
                            next_heads[target] = source
                if count + next_size > links.shape[0]:
                    for j in range(next_size):
                        next_costs[next_active[j]] = 1e300
                    break
                kept = 0
                for j in range(next_size):
                    target = next_active[j]
                    if next_costs[target] > next_best + beam:
                        next_costs[target] = 1e300
                        continue
                    next_active[kept] = target
                    kept += 1
                    source, a = next_heads[target], arcs[target]
                    if source == target and outputs[a] == 0:
                        next_heads[target] = heads[source]
                        continue
                    links[count, 0] = heads[source]
                    links[count, 1] = inputs[a]
                    links[count, 2] = outputs[a]
                    links[count, 3] = taken
                    next_heads[target] = count
                    count += 1
                next_size = kept

            # arcs that take no frame, until nothing gets cheaper
            best = np.inf
            for j in range(next_size):
                best = min(best, next_costs[next_active[j]])
            waiting = np.empty(next_size + 64, np.int32)
            for j in range(next_size):
                waiting[j] = next_active[j]
                queued[next_active[j]] = 1
            pending = next_size
            full = False
            while pending > 0 and not full:
                pending -= 1
                source = waiting[pending]
                queued[source] = 0
                for a in range(free[source], begins[source + 1]):
                    reached = next_costs[source] + costs_of[a]
                    target = targets[a]
                    if reached > best + beam or reached >= next_costs[target]:
                        continue
                    if outputs[a] != 0:
                        if count == links.shape[0]:
                            full = True
                            break
                        links[count, 0] = next_heads[source]
                        links[count, 1] = 0
                        links[count, 2] = outputs[a]
                        links[count, 3] = max(0, taken)
                        next_heads[target] = count
                        count += 1
                    else:
                        next_heads[target] = next_heads[source]
                    if next_costs[target] == 1e300:
                        next_active[next_size] = target
                        next_size += 1
                    next_costs[target] = reached
                    if not queued[target]:
                        if pending == waiting.size:
                            longer = np.empty(2 * waiting.size, np.int32)
                            longer[:pending] = waiting
                            waiting = longer
                        waiting[pending] = target
                        queued[target] = 1
                        pending += 1

            if full:  # as if the frame had never come
                for j in range(next_size):
                    next_costs[next_active[j]] = 1e300
                    queued[next_active[j]] = 0
                if start:
                    return -1
                break
            for j in range(size):
                costs[active[j]] = 1e300
            for j in range(next_size):
                s = next_active[j]
                active[j] = s
                costs[s] = next_costs[s]
                heads[s] = next_heads[s]
                next_costs[s] = 1e300
            size = next_size
            if not start:
                taken += 1
                done += 1
            state[0] = count
            state[1] = size
            state[2] = taken
            if start:
                break
        return done

    return loop


@cache
def compact() -> Loop:
    """Compile dropping the links that no token has come through. Arguments: heads, active, links, state as above.

    Returns:
        How many links are left; their order stays.
    """

    @compile_loop("int64(int32[::1], int32[::1], int32[:, ::1], int64[::1])", allocates=True)
    def loop(heads, active, links, state):  # type: ignore[no-untyped-def]
        count = state[0]
        place = np.full(count, -1, np.int32)
        for j in range(state[1]):
            if heads[active[j]] >= 0:
                place[heads[active[j]]] = 0
        for i in range(count - 1, -1, -1):  # a link's number is above that of the link before it
            if place[i] == 0 and links[i, 0] >= 0:
                place[links[i, 0]] = 0
        kept = 0
        for i in range(count):
            if place[i] < 0:
                continue
            place[i] = kept
            before = links[i, 0]
            links[kept, 0] = place[before] if before >= 0 else -1
            for k in range(1, 4):
                links[kept, k] = links[i, k]
            kept += 1
        for j in range(state[1]):
            head = heads[active[j]]
            heads[active[j]] = place[head] if head >= 0 else -1
        state[0] = kept
        return kept

    return loop


@cache
def ancestor() -> Loop:
    """Compile finding the last link that all tokens have come through. Arguments: heads, active, links, state.

    Returns:
        Its number, or -1 if there is none.
    """

    @compile_loop("int64(int32[::1], int32[::1], int32[:, ::1], int64[::1])")
    def loop(heads, active, links, state):  # type: ignore[no-untyped-def]
        if state[1] == 0:
            return -1
        common = heads[active[0]]
        for j in range(1, state[1]):
            other = heads[active[j]]
            while common != other:
                if common > other:
                    common = links[common, 0]
                else:
                    other = links[other, 0]
        return common

    return loop
