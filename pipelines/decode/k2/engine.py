"""k2 itself. This file and `worker.py` run on the Python that has k2, 3.9 on PyPI: they import nothing of ours.

The graph's costs become scores (k2 maximises), its arcs without input are removed (k2's search takes a frame for every
arc), and every state becomes final: those that were not, at a price that no path pays if it can end properly. Without
them a clip that stops inside a word would have no lattice, and so no text.
"""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Tuple  # noqa: UP035  (Python 3.9)

import numpy as np

UNFINISHED = 1e4
"""What it costs to end where the graph does not."""
SAMPLED_PATHS = 300
"""Paths that are drawn from a lattice to find the n best; k2 has no exact search for them."""
NO_LIMIT = 1 << 30

Reading = Tuple[List[int], List[int], float]  # noqa: UP006
"""Labels, one a frame; output labels; score."""


class Engine:
    """A decoding graph in k2.

    Args:
        graph: `start`, `finals`, `sources`, `inputs`, `outputs`, `costs`, `targets` as in
            `pipelines.decode.openfst.Transducer`.
        device: `cpu` or `cuda`; the lattice stays where the graph is.
        threads: For torch.
        grammar: A word n-gram, an acceptor with back-offs as label 0, that lattices are rescored with; `None` for none.
        weight: What its log-probabilities are multiplied by; they are added to the graph's own.
    """

    def __init__(
        self,
        graph: Dict[str, Any],  # noqa: UP006
        device: str,
        threads: int,
        grammar: Optional[Dict[str, Any]] = None,  # noqa: UP006, UP045
        weight: float = 0.0,
    ) -> None:
        import k2
        import torch

        if device == "cuda" and not (k2.with_cuda and torch.cuda.is_available()):
            has = "torch sees no GPU" if k2.with_cuda else "this k2 was built without CUDA"
            raise RuntimeError(f"device 'cuda' cannot be had: {has}. Use device 'cpu'")
        self._k2, self._torch = k2, torch
        torch.set_num_threads(threads)
        torch.set_grad_enabled(False)
        self._device = torch.device(device)
        ends = np.where(np.isfinite(graph["finals"]), -graph["finals"], -UNFINISHED)
        self._graph = self._converted(graph, ends)
        self._source = graph
        self._unended = None  # type: Any
        self._streams = {}  # type: Dict[int, Any]
        self._online = {}  # type: Dict[float, Any]
        self._silent = 0
        self._grammar = None if grammar is None else self._acceptor(grammar, weight)

    def decode(self, log_probs: Any, beam: float, lattice_beam: float, nbest: int) -> List[Reading]:  # noqa: UP006
        """The best readings of one clip, best first; none if no path was left.

        Args:
            log_probs: float32 (frames, labels).
            beam: Scores below the best of a frame that a path may have.
            lattice_beam: The same at the end.
            nbest: Readings that are wanted.
        """
        k2 = self._k2
        lattice = k2.intersect_dense_pruned(
            self._graph, self._dense(log_probs), search_beam=beam, output_beam=lattice_beam, min_active_states=0,
            max_active_states=NO_LIMIT,
        )  # fmt: skip
        if lattice.arcs.values().shape[0] == 0:
            return []
        if self._grammar is not None:
            lattice = self._rescored(lattice)
        best = k2.shortest_path(lattice, use_double_scores=True)
        readings = [self._reading(best)]
        if nbest > 1:
            drawn = k2.Nbest.from_lattice(lattice, SAMPLED_PATHS, use_double_scores=True, nbest_scale=0.5)
            known = {tuple(readings[0][1])}
            words = []
            for index in range(drawn.fsa.shape[0]):
                outputs = self._outputs(drawn.fsa[index])
                if tuple(outputs) not in known:
                    known.add(tuple(outputs))
                    words.append(outputs)
            others = self._best_alignments(lattice, words) if words else []
            others.sort(key=lambda reading: -reading[2])
            readings += others[: nbest - 1]
        return readings

    def push(self, stream: int, log_probs: Any, beam: float) -> List[int]:  # noqa: UP006
        """Search the next frames of a stream, which is new if it was not heard of; the best output labels so far."""
        if self._unended is None:
            # At the end of each chunk k2 drops what could not end there within the beam: here everything can, free.
            self._unended = self._converted(self._source, np.zeros(len(self._source["finals"])))
        online = self._online.get(beam)
        if online is None:
            online = self._online[beam] = self._k2.OnlineDenseIntersecter(self._unended, 1, beam, beam, 0, NO_LIMIT)
        lattice, [self._streams[stream]] = online.decode(self._dense(log_probs), [self._streams.get(stream)])
        if lattice.arcs.values().shape[0] == 0:
            return []
        return self._reading(self._k2.shortest_path(lattice, use_double_scores=True))[1]

    def close(self, stream: int) -> None:
        """Forget a stream."""
        self._streams.pop(stream, None)

    def _dense(self, log_probs: Any) -> Any:
        torch = self._torch
        values = torch.from_numpy(np.ascontiguousarray(log_probs))[None].to(self._device)
        segment = torch.tensor([[0, 0, values.shape[1]]], dtype=torch.int32)
        return self._k2.DenseFsaVec(values, segment)

    def _best_alignments(self, lattice: Any, words: List[List[int]]) -> List[Reading]:  # noqa: UP006
        """A drawn path says these words in some way; find the best way in the lattice."""
        k2, torch = self._k2, self._torch
        by_word = k2.arc_sort(k2.connect(k2.invert(lattice)))
        lines = k2.add_epsilon_self_loops(k2.linear_fsa(words).to(self._device))
        first = torch.zeros(len(words), dtype=torch.int32, device=self._device)
        both = k2.intersect_device(by_word, lines, b_to_a_map=first, sorted_match_a=True)
        best = k2.shortest_path(k2.top_sort(k2.connect(both)), use_double_scores=True)
        scores = best.get_tot_scores(use_double_scores=True, log_semiring=False).tolist()
        readings = []
        for index in range(len(words)):
            labels = best[index].aux_labels
            labels = labels.values if isinstance(labels, k2.RaggedTensor) else labels
            readings.append(
                ([label for label in labels.tolist() if label >= 0], words[index], self._score(scores[index]))
            )
        return readings

    def _rescored(self, lattice: Any) -> Any:
        """The lattice with the grammar's scores added, on the device that it is on.

        k2 composes without epsilons. So in the lattice, frames without a word get a label of their own, which loops
        at every state of the grammar; and every state gets a loop of label 0, on which the grammar backs off.
        """
        k2, torch = self._k2, self._torch
        by_word = k2.invert(lattice)
        by_word.aux_labels = torch.where(by_word.aux_labels >= 0, by_word.aux_labels + 1, by_word.aux_labels)
        by_word.labels = torch.where(by_word.labels == 0, self._silent, by_word.labels).to(torch.int32)
        by_word = k2.arc_sort(k2.add_epsilon_self_loops(k2.connect(by_word)))
        first = torch.zeros(1, dtype=torch.int32, device=self._device)
        both = k2.intersect_device(self._grammar, by_word, b_to_a_map=first, sorted_match_a=True)
        both.labels = torch.where(both.labels == self._silent, 0, both.labels).to(torch.int32)
        by_token = k2.remove_epsilon(k2.invert(k2.top_sort(k2.connect(both))))
        by_token.labels = torch.where(by_token.labels > 0, by_token.labels - 1, by_token.labels).to(torch.int32)
        return k2.top_sort(k2.connect(by_token))

    def _score(self, total: float) -> float:
        return total + UNFINISHED if total < -UNFINISHED / 2 else total

    def _outputs(self, path: Any) -> List[int]:  # noqa: UP006
        outputs = path.aux_labels
        outputs = outputs.values if isinstance(outputs, self._k2.RaggedTensor) else outputs
        return [label for label in outputs.tolist() if label > 0]

    def _reading(self, path: Any) -> Reading:
        score = self._score(float(path.get_tot_scores(use_double_scores=True, log_semiring=False)[0]))
        labels = [label for label in path.labels.tolist() if label >= 0]
        return labels, self._outputs(path), score

    def _acceptor(self, grammar: Dict[str, Any], weight: float) -> Any:  # noqa: UP006
        k2, torch = self._k2, self._torch
        self._silent = int(grammar["inputs"].max()) + 1
        states = len(grammar["finals"])
        every = np.arange(states)
        place = every.copy()
        place[[0, grammar["start"]]] = place[[grammar["start"], 0]]  # k2 starts at state 0
        ends = np.flatnonzero(np.isfinite(grammar["finals"]))
        sources = np.concatenate([place[grammar["sources"]], every, place[ends]])
        targets = np.concatenate([place[grammar["targets"]], every, np.full(ends.size, states)])
        labels = np.concatenate([grammar["inputs"], np.full(states, self._silent), np.full(ends.size, -1)])
        costs = np.concatenate([grammar["costs"], np.zeros(states), grammar["finals"][ends]])
        order = np.lexsort((labels, sources))
        scores = (-weight * costs[order]).astype(np.float32)
        columns = [sources[order], targets[order], labels[order], scores.view(np.int32)]
        fsa = k2.Fsa(torch.from_numpy(np.stack(columns, axis=1).astype(np.int32)))
        return k2.create_fsa_vec([k2.arc_sort(fsa)]).to(self._device)

    def _converted(self, graph: Dict[str, Any], ends: Any) -> Any:  # noqa: UP006
        k2, torch = self._k2, self._torch
        states = len(graph["finals"])
        place = np.arange(states)
        place[[0, graph["start"]]] = place[[graph["start"], 0]]  # k2 starts at state 0
        minus = np.full(states, -1)
        sources = np.concatenate([place[graph["sources"]], place])
        targets = np.concatenate([place[graph["targets"]], np.full(states, states)])
        labels = np.concatenate([graph["inputs"], minus])
        outputs = np.concatenate([graph["outputs"], minus])
        scores = np.concatenate([-graph["costs"], ends]).astype(np.float32)
        order = np.lexsort((labels, sources))
        columns = [sources[order], targets[order], labels[order], scores[order].view(np.int32)]
        fsa = k2.Fsa(torch.from_numpy(np.stack(columns, axis=1).astype(np.int32)))
        fsa.aux_labels = torch.from_numpy(outputs[order].astype(np.int32))
        fsa = k2.remove_epsilon(k2.connect(fsa))
        shifted = fsa.labels.clone()  # the labels are a view of the arcs
        shifted[shifted > 0] -= 1
        fsa.labels = shifted
        return k2.create_fsa_vec([k2.arc_sort(k2.connect(fsa))]).to(self._device)
