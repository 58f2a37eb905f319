"""`decoder/wfst`: our own search of a decoding graph, made for streams."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy

import numpy as np
import numpy.typing as npt
from pydantic import Field

from pipelines.contracts import AcousticModel, Float32, Hypotheses, Partial
from pipelines.decode import openfst
from pipelines.decode.ctc import CtcDecoder, Frames, Search
from pipelines.decode.graph import GraphOptions, GraphReader, no_path, open_graph
from pipelines.errors import AmiraError
from pipelines.registry import Context, Variant

FIRST_LINKS = 1 << 14
"""Room for links that a search starts with."""


class WfstOptions(GraphOptions):
    """Options of `decoder/wfst`.

    Attributes:
        max_active: States that may be active in a frame.
        hot_bonus: Added to the log-probability of each word that a session prefers.
    """

    max_active: int = Field(default=10_000, ge=1, le=100_000_000)
    hot_bonus: float = Field(default=3.0, ge=0, le=100, allow_inf_nan=False)


class WfstGraph:
    """A graph as the search wants it, shared by all streams. Opening one compiles the search or loads it."""

    def __init__(self, graph: openfst.Transducer) -> None:
        from kernels import wfst_viterbi

        order = np.lexsort((graph.inputs == 0, graph.sources))  # arcs that take no frame last; stable
        states = graph.finals.size
        counts = np.bincount(graph.sources, minlength=states)
        takes = np.bincount(graph.sources[graph.inputs != 0], minlength=states)
        begins = np.concatenate([[0], np.cumsum(counts)])
        self.start, self.finals = graph.start, graph.finals
        self.arcs = wfst_viterbi.Arcs(
            begins, begins[:-1] + takes, graph.inputs[order], graph.outputs[order], graph.costs[order],
            graph.targets[order],
        )  # fmt: skip
        self.advance = wfst_viterbi.advance().call
        self.compact = wfst_viterbi.compact().call
        self.ancestor = wfst_viterbi.ancestor().call

    def cheaper(self, outputs: npt.NDArray[np.int64], by: float) -> WfstGraph:
        """The same graph with `by` less on the arcs of these output labels; all other arrays are shared."""
        graph = copy(self)
        costs = np.where(np.isin(self.arcs.outputs, outputs), self.arcs.costs - by, self.arcs.costs)
        graph.arcs = self.arcs._replace(costs=costs.astype(self.arcs.costs.dtype))
        return graph

    @property
    def nbytes(self) -> int:
        """Memory of the graph."""
        return self.finals.nbytes + sum(array.nbytes for array in self.arcs)


class Tokens:
    """The active tokens of one stream."""

    def __init__(self, graph: WfstGraph, beam: float, max_active: int) -> None:
        from kernels.wfst_viterbi import ACTIVE, NOWHERE

        states = graph.finals.size
        self._graph, self._beam, self._max_active = graph, beam, max_active
        self._costs, self._next_costs = np.full(states, NOWHERE), np.full(states, NOWHERE)
        self._heads, self._next_heads = np.empty(states, np.int32), np.empty(states, np.int32)
        self._active, self._next_active = np.empty(states, np.int32), np.empty(states, np.int32)
        self._links = np.empty((FIRST_LINKS, 4), np.int32)
        self._state = np.zeros(3, np.int64)
        self._scratch = np.empty(states, np.int64), np.zeros(states, np.uint8)
        self._active[0] = graph.start
        self._state[ACTIVE] = 1
        while self._advance(np.empty((0, 1), np.float32)) < 0:
            self._make_room(grow=True)

    def push(self, log_probs: Float32) -> None:
        """Take frames, float32 (frames, vocabulary), contiguous."""
        done = 0
        while done < len(log_probs):
            taken = self._advance(log_probs[done:])
            done += taken
            if done < len(log_probs):
                self._make_room(grow=not taken)
        if not self._state[1]:
            raise no_path(self.frames, self._beam)

    @property
    def frames(self) -> int:
        """Frames that were taken."""
        return int(self._state[2])

    def stable(self) -> list[int]:
        """Output labels that every token has come through: no later frame changes them."""
        return self._outputs(self._graph.ancestor(self._heads, self._active, self._links, self._state))

    def best(self) -> list[int]:
        """Output labels of the best token."""
        return self._outputs(self._best_head()[0])

    def best_path(self) -> tuple[list[tuple[int, int]], list[int], float]:
        """The best token at the end of the stream: one that may end, where there is any.

        Returns:
            (label, frame) of each arc that is not a plain repetition, blanks included; output labels; the cost.
        """
        head, cost = self._best_head(final=True)
        chain = self._chain(head)
        labels = [(int(link[1]) - 1, int(link[3])) for link in chain if link[1]]
        return labels, [int(link[2]) for link in chain if link[2]], cost

    def best_links(self) -> list[tuple[int, int, int]]:
        """(label, output label, frame) of the best token's arcs that take a frame and are no plain repetition."""
        return self._taken(self._best_head()[0])

    def stable_links(self) -> list[tuple[int, int, int]]:
        """The same of what every token has come through."""
        return self._taken(self._graph.ancestor(self._heads, self._active, self._links, self._state))

    def final_links(self) -> tuple[list[tuple[int, int, int]], float]:
        """The same of the best token at the end of the stream, and its cost."""
        head, cost = self._best_head(final=True)
        return self._taken(head), cost

    def _taken(self, head: int) -> list[tuple[int, int, int]]:
        return [(int(link[1]) - 1, int(link[2]), int(link[3])) for link in self._chain(head) if link[1]]

    def _advance(self, log_probs: Float32) -> int:
        taken: int = self._graph.advance(
            log_probs, self._beam, self._max_active, *self._graph.arcs, self._costs, self._next_costs,
            self._heads, self._next_heads, self._active, self._next_active, self._links, self._state, *self._scratch,
        )  # fmt: skip
        return taken

    def _make_room(self, *, grow: bool) -> None:
        left = self._graph.compact(self._heads, self._active, self._links, self._state)
        if grow or left > len(self._links) // 2:
            self._links = np.concatenate([self._links, np.empty_like(self._links)])

    def _best_head(self, *, final: bool = False) -> tuple[int, float]:
        active = self._active[: self._state[1]]
        costs = self._costs[active]
        if final:
            ending = costs + self._graph.finals[active]
            if np.isfinite(ending).any():
                costs = ending
        index = int(costs.argmin())
        return int(self._heads[active[index]]), float(costs[index])

    def _chain(self, head: int) -> list[np.ndarray]:
        found = []
        while head >= 0:
            link = self._links[head]
            found.append(link)
            head = int(link[0])
        return found[::-1]

    def _outputs(self, head: int) -> list[int]:
        return [int(link[2]) for link in self._chain(head) if link[2]]


class WfstDecoder(CtcDecoder):
    """Viterbi search of a graph; what is stable is known exactly, from the tokens themselves."""

    def __init__(self, model: AcousticModel, options: WfstOptions) -> None:
        super().__init__(model)
        self.options = options
        folder = open_graph(options.graph, model.vocabulary)
        self.reader = GraphReader(folder, model.vocabulary, model.frame_shift_s)
        self.graph = WfstGraph(openfst.read(folder.fst_path))

    def preferring(self, words: Sequence[str]) -> WfstDecoder:
        """See `pipelines.contracts.BiasedDecoder`: the option `hot_bonus` off the cost of each of these words.

        It is the graph that would be built with them as hot words, without building it: only costs are copied.
        """
        known = {word: label for label, word in enumerate(self.reader.folder.words)}
        found = {word: known.get(word) or known.get(word.lower()) or known.get(word.upper()) or 0 for word in words}
        if self.reader.folder.card.kind != "words":
            raise AmiraError(f"graph '{self.reader.folder.path.name}' is one of tokens: it has no words to prefer")
        if missing := [word for word, label in found.items() if not label]:
            raise AmiraError(
                f"graph '{self.reader.folder.path.name}' does not know: {', '.join(missing[:10])}. "
                "Leave them out, or build it with them: amira graph build --words"
            )
        biased = copy(self)
        biased.graph = self.graph.cheaper(np.array(sorted(set(found.values()))), self.options.hot_bonus)
        return biased

    def _open_search(self) -> Search:
        return _WfstSearch(self)


class _WfstSearch:
    def __init__(self, decoder: WfstDecoder) -> None:
        self._decoder = decoder
        self._tokens = Tokens(decoder.graph, decoder.options.beam, decoder.options.max_active)
        self._frames = Frames()

    def push(self, log_probs: Float32) -> None:
        self._frames.add(log_probs)
        self._tokens.push(log_probs)

    def partial(self) -> Partial:
        text = self._decoder.reader.text
        return Partial(text(self._tokens.best()), len(text(self._tokens.stable())))

    def finish(self) -> Hypotheses:
        labels, outputs, cost = self._tokens.best_path()
        tokens, frames = _spans(labels, self._tokens.frames, self._decoder.vocabulary.blank)
        return (self._decoder.reader.hypothesis(self._frames.all(), tokens, frames, outputs, -cost),)


def _spans(labels: list[tuple[int, int]], frames: int, blank: int) -> tuple[list[int], list[tuple[int, int]]]:
    """The tokens of a chain of (label, first frame), and the first and last frame of each."""
    tokens: list[int] = []
    spans: list[tuple[int, int]] = []
    before = blank
    for index, (label, start) in enumerate(labels):
        end = labels[index + 1][1] - 1 if index + 1 < len(labels) else frames - 1
        if label != blank:
            if label == before:
                spans[-1] = (spans[-1][0], end)
            else:
                tokens.append(label)
                spans.append((start, end))
        before = label
    return tokens, spans


class Wfst(Variant):
    """`decoder/wfst`."""

    id = "decoder/wfst"
    summary = "our own Viterbi beam search of a decoding graph in numba, with an exact stable prefix"
    options = WfstOptions
    families = ("ctc",)

    @classmethod
    @contextmanager
    def _open_impl(cls, context: Context, options: WfstOptions) -> Iterator[WfstDecoder]:
        yield WfstDecoder(context.parts["acoustic"], options)
