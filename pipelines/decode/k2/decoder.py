"""`decoder/k2`: the real k2, in this process where it imports, else in a worker process that has it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import Field

from pipelines.contracts import AcousticModel, Float32, Hypotheses, Partial
from pipelines.decode import openfst
from pipelines.decode.ctc import CtcDecoder, Frames, Search
from pipelines.decode.graph import GraphOptions, GraphReader, collapse, no_path, open_graph
from pipelines.decode.k2.client import Client, Grammar, WorkerSettings
from pipelines.decode.wfst import Tokens, WfstGraph
from pipelines.paths import home
from pipelines.registry import Context, Unavailable, Variant

PYTHON_VARIABLE = "AMIRA_K2_PYTHON"
TRACKING_MARGIN = 1.0
"""How much wider than k2's beam the search is that finds what is stable: it must lose no path that k2 keeps."""


class K2Options(GraphOptions):
    """Options of `decoder/k2`.

    Attributes:
        nbest: Readings that are returned; those behind the best are drawn from the lattice.
        lattice_beam: Scores below the best path that a path of the lattice may have.
        device: Where k2 searches, and where the lattice stays while it is rescored.
        rescore_lm: A second word n-gram that lattices are rescored with: an ARPA file, plain or gzip.
        rescore_weight: What its log-probabilities are multiplied by; they are added to those of the graph.
        timeout_s: Longest time for one call of the worker process.
    """

    nbest: int = Field(default=1, ge=1, le=100)
    lattice_beam: float = Field(default=6.0, gt=0, le=100, allow_inf_nan=False)
    device: Literal["cpu", "cuda"] = "cpu"
    rescore_lm: str | None = None
    rescore_weight: float = Field(default=0.5, ge=0, le=10, allow_inf_nan=False)
    timeout_s: float = Field(default=60.0, gt=0, le=3600, allow_inf_nan=False)


class Backend(Protocol):
    """k2, wherever it is."""

    def decode(
        self, log_probs: Float32, beam: float, lattice_beam: float, nbest: int
    ) -> list[tuple[list[int], list[int], float]]:
        """Labels (one a frame), output labels and score of the best readings of a clip."""
        ...

    def open_stream(self) -> int:
        """The number of a new stream."""
        ...

    def push(self, stream: int, log_probs: Float32, beam: float, replay: Callable[[], Float32 | None]) -> list[int]:
        """Search the next frames; the best output labels so far. `replay` gives all frames before them."""
        ...

    def close_stream(self, stream: int) -> None:
        """Forget a stream."""
        ...


class InProcess:
    """k2 in this process."""

    def __init__(self, graph: openfst.Transducer, grammar: Grammar | None, device: str, threads: int) -> None:
        from pipelines.decode.k2.engine import Engine

        def arrays(transducer: openfst.Transducer) -> dict[str, Any]:
            return {name: getattr(transducer, name) for name in transducer.__dataclass_fields__}

        acceptor, weight = (arrays(grammar.acceptor), grammar.weight) if grammar else (None, 0.0)
        self._engine = Engine(arrays(graph), device, threads, acceptor, weight)
        self._numbers = count()
        self.decode = self._engine.decode

    def open_stream(self) -> int:
        """See `Backend`."""
        return next(self._numbers)

    def push(self, stream: int, log_probs: Float32, beam: float, replay: Callable[[], Float32 | None]) -> list[int]:
        """See `Backend`."""
        return self._engine.push(stream, log_probs, beam)

    def close_stream(self, stream: int) -> None:
        """See `Backend`."""
        self._engine.close(stream)


class K2Decoder(CtcDecoder):
    """k2's pruned intersection and shortest path.

    k2's online search has no way to end a stream properly: at the end of every chunk it drops what could not end there.
    So it runs on a graph that may end anywhere and serves the partial texts; the end of a stream is a search of it all.
    """

    def __init__(
        self,
        model: AcousticModel,
        options: K2Options,
        open_backend: Callable[[openfst.Transducer, Grammar | None], Backend],
    ) -> None:
        super().__init__(model)
        self.options = options
        folder = open_graph(options.graph, model.vocabulary)
        self.reader = GraphReader(folder, model.vocabulary, model.frame_shift_s)
        self._transducer = openfst.read(folder.fst_path)
        self._tracking: WfstGraph | None = None
        grammar = None
        if options.rescore_lm is not None:
            from pipelines.decode.k2 import grammar as grammars

            grammar = Grammar(grammars.load(options.rescore_lm, folder), options.rescore_weight)
        self.backend = open_backend(self._transducer, grammar)

    def tracker(self) -> Tokens:
        """A search beside k2's that knows what all paths agree on."""
        if self._tracking is None:
            self._tracking = WfstGraph(self._transducer)
        return Tokens(self._tracking, self.options.beam + TRACKING_MARGIN, self._tracking.finals.size)

    def _open_search(self) -> Search:
        return _K2Search(self)

    def _decode_impl(self, log_probs: Float32) -> Hypotheses:
        options = self.options
        readings = self.backend.decode(log_probs, options.beam, options.lattice_beam, options.nbest)
        if not readings:
            raise no_path(len(log_probs), options.beam)
        found = []
        for labels, outputs, score in readings:
            tokens, frames = collapse(labels, self.vocabulary.blank)
            found.append(self.reader.hypothesis(log_probs, tokens, frames, outputs, score))
        return tuple(found)


class _K2Search:
    def __init__(self, decoder: K2Decoder) -> None:
        self._decoder, self._tracker = decoder, decoder.tracker()
        self._stream = decoder.backend.open_stream()
        self._frames = Frames()
        self._outputs: list[int] = []

    def push(self, log_probs: Float32) -> None:
        self._tracker.push(log_probs)
        before = self._frames
        self._outputs = self._decoder.backend.push(
            self._stream, log_probs, self._decoder.options.beam, lambda: before.all() if before else None
        )
        self._frames.add(log_probs)

    def partial(self) -> Partial:
        text, stable = self._decoder.reader.text, self._tracker.stable()
        return Partial(text(self._outputs), len(text(stable)))

    def finish(self) -> Hypotheses:
        self._decoder.backend.close_stream(self._stream)
        return self._decoder._decode_impl(self._frames.all())


class K2(Variant):
    """`decoder/k2`."""

    id = "decoder/k2"
    summary = "k2's pruned intersection of a decoding graph, in process or in a worker that has k2"
    options = K2Options
    families = ("ctc",)

    @classmethod
    def available(cls) -> Unavailable | None:
        """Where neither this Python nor another one has k2."""
        if imports() or python().is_file():
            return None
        return Unavailable(
            f"k2 does not import here, and there is no {python()}.",
            f"Set it up: make k2, or name a Python that has k2 in {PYTHON_VARIABLE}",
        )

    @classmethod
    @contextmanager
    def _open_impl(cls, context: Context, options: K2Options) -> Iterator[K2Decoder]:
        model: Any = context.parts["acoustic"]
        if imports():
            yield K2Decoder(
                model, options, lambda graph, grammar: InProcess(graph, grammar, options.device, context.threads)
            )
            return
        settings = WorkerSettings(python(), options.device, context.threads, options.timeout_s)
        clients: list[Client] = []

        def start(graph: openfst.Transducer, grammar: Grammar | None) -> Client:
            clients.append(Client(settings, graph, grammar))
            return clients[0]

        try:
            yield K2Decoder(model, options, start)
        finally:
            for client in clients:
                client.close()


def imports() -> bool:
    """Whether k2 and torch are installed here; nothing is imported."""
    return find_spec("k2") is not None and find_spec("torch") is not None


def python() -> Path:
    """The interpreter that the worker runs on."""
    named = os.environ.get(PYTHON_VARIABLE)
    return Path(named).expanduser() if named else home() / "build" / "k2" / "python"
