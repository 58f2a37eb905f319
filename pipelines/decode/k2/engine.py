"""k2 itself. This file and `worker.py` run on the Python that has k2, 3.9 on PyPI: they import nothing of ours.

The graph's costs become scores (k2 maximises), its arcs without input are removed (k2's search takes a frame for every
arc), and every state becomes final: those that were not, at a price that no path pays if it can end properly. Without
them a clip that stops inside a word would have no lattice, and so no text.
"""

from __future__ import annotations

from typing import Any, Dict, List, Tuple  # noqa: UP035  (Python 3.9)

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
    """

    def __init__(self, graph: Dict[str, Any], device: str, threads: int) -> None:  # noqa: UP006
        import k2
        import torch

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
        best = k2.shortest_path(lattice, use_double_scores=True)
        readings = [self._reading(best)]
        if nbest > 1:
            sampled = k2.Nbest.from_lattice(lattice, SAMPLED_PATHS, use_double_scores=True, nbest_scale=0.5)
            known = {tuple(readings[0][1])}
            others = []
            for index in range(sampled.fsa.shape[0]):
                reading = self._reading(k2.create_fsa_vec([sampled.fsa[index]]))
                if tuple(reading[1]) not in known:
                    known.add(tuple(reading[1]))
                    others.append(reading)
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

    def _reading(self, path: Any) -> Reading:
        outputs = path.aux_labels
        outputs = outputs.values if isinstance(outputs, self._k2.RaggedTensor) else outputs
        score = float(path.get_tot_scores(use_double_scores=True, log_semiring=False)[0])
        if score < -UNFINISHED / 2:
            score += UNFINISHED
        labels = [label for label in path.labels.tolist() if label >= 0]
        return labels, [label for label in outputs.tolist() if label > 0], score

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
