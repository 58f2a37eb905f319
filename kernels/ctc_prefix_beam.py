"""CTC prefix beam search, frame by frame, with an optional word n-gram.

After each frame the beam holds the most probable *prefixes* (label sequences with repeats collapsed and blanks
dropped); a prefix' probability is the sum over all its alignments, kept in two parts: alignments that end in a blank
and those that end in the prefix' last label. That is Hannun et al., "First-Pass Large Vocabulary Continuous Speech
Recognition using Bi-Directional Recurrent DNNs" (2014), algorithm 1, in log space.

Spaces that follow each other are one space, and at the start they are none: the root of the tree counts as one.

Prefixes are nodes of a tree, so what all of the beam agrees on is a common ancestor: no later frame can change it.
Nodes are made for survivors only: a prefix that was tried and dropped costs nothing. Two prefixes that differ in one
early label can stay in the beam side by side for ever, so nothing would ever become stable: with a `lag`, prefixes
that have differed from the best one for longer are dropped.

The word n-gram is a backoff automaton (`Ngram` says how it is laid out); a lexicon tree spells its words. A prefix is
charged for a word when its space comes, and at once for leaving the lexicon, so that pruning sees it in time.

Import this module only where a search is opened: it needs numba.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba.extending import register_jitable

from kernels.compile import Loop, compile_loop

PARENT, TOKEN, CHILD, SIBLING, SPELLING, CONTEXT, SINCE = range(7)
"""Columns of a node: parent node, last label, first child, next sibling, node of the lexicon tree (-1 outside the
lexicon), state of the n-gram, the frame in which it was made."""
NODES, BEAM, FRAMES = range(3)
"""What `state` holds: how many nodes there are, how many of them are in the beam, how many frames were taken."""
AGREE_EVERY = 8
"""Frames from one look at how far back the beam disagrees to the next."""

_LM = "int32[:, ::1], int32[::1], int64[::1], int32[::1], float32[::1], int32[::1], float32[::1], int32[::1]"
_SEARCH = "int32[:, ::1], float64[::1], int32[::1], float64[:, ::1], int64[::1]"


class Ngram(NamedTuple):
    """A word n-gram and the spelling of its words, as arrays.

    Attributes:
        children: int32 (spellings, labels): the lexicon tree; the node behind a label, -1 for none. Node 0 is its root.
        words: int32 (spellings,): the word that is spelt there, -1 for none.
        offsets: int64 (states + 1,): where each state's arcs start.
        labels: int32 (arcs,): word ids, rising within a state.
        scores: float32 (arcs,): natural log-probabilities, weights not applied.
        targets: int32 (arcs,): the state behind the arc.
        backoff_scores: float32 (states,).
        backoffs: int32 (states,): the state to back off to, -1 for none.
    """

    children: npt.NDArray[np.int32]
    words: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int32]
    scores: npt.NDArray[np.float32]
    targets: npt.NDArray[np.int32]
    backoff_scores: npt.NDArray[np.float32]
    backoffs: npt.NDArray[np.int32]


def no_ngram() -> Ngram:
    """Stands for having none."""
    none32, scores = np.empty(0, np.int32), np.empty(0, np.float32)
    return Ngram(np.empty((0, 0), np.int32), none32, np.zeros(1, np.int64), none32, scores, none32, scores, none32)


@register_jitable
def log_add(a: float, b: float) -> float:
    """log(exp(a) + exp(b))."""
    if a < b:
        a, b = b, a
    if b == -np.inf:
        return a
    return float(a + np.log1p(np.exp(b - a)))


@register_jitable
def follow(
    state: int, word: Any, offsets: Any, labels: Any, scores: Any, targets: Any, backoff_scores: Any, backoffs: Any
) -> Any:
    """The n-gram's log-probability of a word after a state, and the state behind it; -inf and the state if unknown."""
    total = 0.0
    at = state
    while at >= 0:
        low, high = offsets[at], offsets[at + 1]
        end = high
        while low < high:
            middle = (low + high) // 2
            if labels[middle] < word:
                low = middle + 1
            else:
                high = middle
        if low < end and labels[low] == word:
            return total + scores[low], targets[low]
        total += backoff_scores[at]
        at = backoffs[at]
    return -np.inf, state


@register_jitable
def charge_word(
    spelling: int, context: int, unknown: Any, lm_weight: float, word_bonus: float,
    words: Any, offsets: Any, labels: Any, scores: Any, targets: Any, backoff_scores: Any, backoffs: Any,
) -> Any:  # fmt: skip
    """What a finished word adds to a prefix' score, and the n-gram's state behind it.

    Leaving the lexicon was charged when it happened; a word that stops inside the lexicon tree is charged here.
    `unknown` is (id of the unknown word or -1, penalty).
    """
    word = -1 if spelling < 0 else words[spelling]
    if word >= 0:
        score, target = follow(context, word, offsets, labels, scores, targets, backoff_scores, backoffs)
        return lm_weight * score + word_bonus, target
    penalty = 0.0 if spelling < 0 else unknown[1]
    if unknown[0] >= 0:
        score, target = follow(
            context, np.int32(unknown[0]), offsets, labels, scores, targets, backoff_scores, backoffs
        )
        if score > -np.inf:
            return lm_weight * score + word_bonus + penalty, target
    at = context
    while backoffs[at] >= 0:  # a word that the n-gram has never seen leaves no context
        at = backoffs[at]
    return word_bonus + penalty, at


@cache
def advance() -> Loop:
    """Compile the search over the frames of a chunk. Its arguments, in order.

    log_probs: float32 (T, V).
    blank, space: labels; `space` is -1 where no label is one.
    width: Prefixes that are kept.
    threshold: How far below the best a prefix may be, in natural log.
    floor: Labels below this log-probability are not tried in a frame; its best always is.
    lag: Frames for which a prefix may differ from the best one; 0 for any number.
    lm_weight, word_bonus: What the n-gram's log-probabilities are multiplied by, and what each word gets.
    unknown: float64 (2,): id of the unknown word or -1; what leaving the lexicon costs (negative).
    The fields of `Ngram`; no spellings: no n-gram.
    nodes: int32 (capacity, 7), node_scores: float64 (capacity,): the tree; room for T * width more. At first it is the
        root alone, its last label `space`.
    beam: int32 (width,): nodes in the beam; beam_scores: float64 (width, 2): their log-probability with and without
        a blank at the end.
    state: int64 (3,).

    Returns:
        How many nodes there are now; -1: the tree has no room.
    """

    @compile_loop(
        "int64(float32[:, ::1], int64, int64, int64, float64, float64, int64, float64, float64, float64[::1], "
        f"{_LM}, {_SEARCH})",
        allocates=True,
    )
    def loop(  # type: ignore[no-untyped-def]
        log_probs, blank, space, width, threshold, floor, lag, lm_weight, word_bonus, unknown,
        children, words, offsets, labels, scores, targets, backoff_scores, backoffs,
        nodes, node_scores, beam, beam_scores, state,
    ):  # fmt: skip
        frames, vocabulary = log_probs.shape
        count, size = state[0], state[1]
        if nodes.shape[0] < count + frames * width or beam.size < width:
            return -1
        with_lm = children.shape[0] > 0
        room = width * (vocabulary + 1)
        slots = np.full(nodes.shape[0], -1, np.int32)
        tried = np.empty(vocabulary, np.int32)
        merged = np.zeros((width, vocabulary), np.uint8)
        stay = np.empty((width, 2))
        total = np.empty(width)
        new_score = np.empty(room)
        new_label = np.empty(room)  # log-probability without a blank at the end
        new_lm = np.empty(room)
        new_from = np.empty((room, 4), np.int32)  # slot of the parent, label, spelling, context
        kept_beam = np.empty(width, np.int32)
        kept_scores = np.empty((width, 2))

        for t in range(frames):
            row = log_probs[t]
            best_label = -1
            for c in range(vocabulary):
                if c != blank and (best_label < 0 or row[c] > row[best_label]):
                    best_label = c
            some = 0
            for c in range(vocabulary):
                if c != blank and (row[c] >= floor or c == best_label):
                    tried[some] = c
                    some += 1

            for j in range(size):
                slots[beam[j]] = j
                total[j] = log_add(beam_scores[j, 0], beam_scores[j, 1])
            for j in range(size):
                stay[j, 0] = total[j] + row[blank]
                last = nodes[beam[j], 1]
                if last < 0:
                    stay[j, 1] = -np.inf
                elif last == space:  # another space behind a blank says no more
                    stay[j, 1] = total[j] + row[space]
                else:
                    stay[j, 1] = beam_scores[j, 1] + row[last]
            for j in range(size):  # a longer prefix of the beam that is a shorter one and a label
                node = beam[j]
                parent = nodes[node, 0]
                if parent >= 0 and slots[parent] >= 0:
                    i, c = slots[parent], nodes[node, 1]
                    before = beam_scores[i, 0] if nodes[parent, 1] == c else total[i]
                    stay[j, 1] = log_add(stay[j, 1], before + row[c])
                    merged[i, c] = 1
            best = -np.inf
            for j in range(size):
                best = max(best, log_add(stay[j, 0], stay[j, 1]) + node_scores[beam[j]])

            fresh = 0
            for i in range(size):
                node = beam[i]
                last = nodes[node, 1]
                for k in range(some):
                    c = tried[k]
                    if merged[i, c]:
                        merged[i, c] = 0
                        continue
                    if c == space and last == space:
                        continue
                    label_score = (beam_scores[i, 0] if last == c else total[i]) + row[c]
                    lm_score = node_scores[node]
                    if label_score + lm_score < best - threshold and not with_lm:
                        continue
                    spelling, context = nodes[node, 4], nodes[node, 5]
                    if with_lm:
                        if c == space:
                            if spelling != 0:
                                gain, context = charge_word(
                                    spelling, context, unknown, lm_weight, word_bonus,
                                    words, offsets, labels, scores, targets, backoff_scores, backoffs,
                                )  # fmt: skip
                                lm_score += gain
                            spelling = 0
                        elif spelling >= 0:
                            spelling = children[spelling, c]
                            if spelling < 0:
                                lm_score += unknown[1]
                    score = label_score + lm_score
                    if score < best - threshold or score == -np.inf:
                        continue
                    best = max(best, score)
                    new_score[fresh] = score
                    new_label[fresh] = label_score
                    new_lm[fresh] = lm_score
                    new_from[fresh, 0] = i
                    new_from[fresh, 1] = c
                    new_from[fresh, 2] = spelling
                    new_from[fresh, 3] = context
                    fresh += 1
            for j in range(size):  # labels that were merged but not tried leave their marks
                parent = nodes[beam[j], 0]
                if parent >= 0 and slots[parent] >= 0:
                    merged[slots[parent], nodes[beam[j], 1]] = 0
            for j in range(size):
                slots[beam[j]] = -1

            everything = np.empty(size + fresh)
            for j in range(size):
                everything[j] = log_add(stay[j, 0], stay[j, 1]) + node_scores[beam[j]]
            everything[size:] = new_score[:fresh]
            least = best - threshold
            above = size + fresh
            if above > width:
                least = max(least, np.partition(everything, above - width)[above - width])
            strictly = 0
            for value in everything:
                if value > least:
                    strictly += 1
            ties = width - strictly
            kept = 0
            for j in range(size + fresh):
                if everything[j] < least or everything[j] == -np.inf:
                    continue
                if everything[j] == least:
                    if ties <= 0:
                        continue
                    ties -= 1
                if j < size:
                    kept_beam[kept] = beam[j]
                    kept_scores[kept, 0] = stay[j, 0]
                    kept_scores[kept, 1] = stay[j, 1]
                    kept += 1
                    continue
                n = j - size
                parent, c = beam[new_from[n, 0]], new_from[n, 1]
                child = nodes[parent, 2]
                while child >= 0 and nodes[child, 1] != c:
                    child = nodes[child, 3]
                if child < 0:
                    child = count
                    count += 1
                    nodes[child, 0] = parent
                    nodes[child, 1] = c
                    nodes[child, 2] = -1
                    nodes[child, 3] = nodes[parent, 2]
                    nodes[parent, 2] = child
                    nodes[child, 4] = new_from[n, 2]
                    nodes[child, 5] = new_from[n, 3]
                    nodes[child, 6] = state[2]
                    node_scores[child] = new_lm[n]
                kept_beam[kept] = child
                kept_scores[kept, 0] = -np.inf
                kept_scores[kept, 1] = new_label[n]
                kept += 1
            size = kept
            beam[:size] = kept_beam[:size]
            beam_scores[:size] = kept_scores[:size]
            state[2] += 1
            if lag > 0 and state[2] % AGREE_EVERY == 0:
                top, top_score = 0, -np.inf
                for j in range(size):
                    score = log_add(beam_scores[j, 0], beam_scores[j, 1]) + node_scores[beam[j]]
                    if score > top_score:
                        top, top_score = j, score
                agreed = beam[top]
                while nodes[agreed, 0] >= 0 and nodes[agreed, 6] > state[2] - lag:
                    agreed = nodes[agreed, 0]
                kept = 0
                for j in range(size):
                    node = beam[j]
                    while node > agreed:  # a node's number is above its parent's
                        node = nodes[node, 0]
                    if node == agreed:
                        beam[kept] = beam[j]
                        beam_scores[kept] = beam_scores[j]
                        kept += 1
                size = kept
        state[0] = count
        state[1] = size
        return count

    return loop


@cache
def close() -> Loop:
    """Compile the end of a search. Its arguments, in order.

    lm_weight, word_bonus, unknown, end: as for `advance`; `end` is the n-gram's end of sentence or -1.
    The fields of `Ngram`.
    nodes, node_scores, beam, beam_scores, state: as `advance` left them.
    totals: float64 (>= beam,): the score of each prefix of the beam, its last word and the end charged.

    Returns:
        The size of the beam.
    """

    @compile_loop(f"int64(float64, float64, float64[::1], int64, {_LM}, {_SEARCH}, float64[::1])")
    def loop(  # type: ignore[no-untyped-def]
        lm_weight, word_bonus, unknown, end,
        children, words, offsets, labels, scores, targets, backoff_scores, backoffs,
        nodes, node_scores, beam, beam_scores, state, totals,
    ):  # fmt: skip
        for j in range(state[1]):
            node = beam[j]
            total = log_add(beam_scores[j, 0], beam_scores[j, 1]) + node_scores[node]
            if children.shape[0] > 0:
                spelling, context = nodes[node, 4], nodes[node, 5]
                if spelling != 0:
                    gain, context = charge_word(
                        spelling, context, unknown, lm_weight, word_bonus,
                        words, offsets, labels, scores, targets, backoff_scores, backoffs,
                    )  # fmt: skip
                    total += gain
                if end >= 0:
                    score, _ = follow(
                        context, np.int32(end), offsets, labels, scores, targets, backoff_scores, backoffs
                    )
                    if score > -np.inf:
                        total += lm_weight * score
            totals[j] = total
        return state[1]

    return loop


def ancestor(nodes: npt.NDArray[np.int32], beam: npt.NDArray[np.int32]) -> int:
    """The deepest node that every node of the beam descends from (a node's number is above its parent's)."""
    remaining = {int(node) for node in beam}
    while len(remaining) > 1:
        deepest = max(remaining)
        remaining.remove(deepest)
        remaining.add(int(nodes[deepest, PARENT]))
    return remaining.pop()


def path(nodes: npt.NDArray[np.int32], node: int) -> list[int]:
    """The labels from the root to a node."""
    found: list[Any] = []
    while nodes[node, PARENT] >= 0:
        found.append(int(nodes[node, TOKEN]))
        node = int(nodes[node, PARENT])
    return found[::-1]
