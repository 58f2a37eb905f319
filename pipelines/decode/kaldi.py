"""`decoder/kaldi-decoder`: Kaldi's decoders, without Kaldi, on a decoding graph."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from pydantic import Field

from pipelines.contracts import AcousticModel, Float32, Hypotheses, Hypothesis, Partial
from pipelines.decode import openfst
from pipelines.decode.alignment import Aligner
from pipelines.decode.ctc import CtcDecoder, Frames, Search
from pipelines.decode.graph import GraphOptions, GraphReader, collapse, no_path, open_graph
from pipelines.decode.wfst import Tokens, WfstGraph
from pipelines.registry import Context, Unavailable, Variant

PACKAGES = {"kaldi-decoder": "kaldi_decoder", "kaldifst": "kaldifst"}
TRACKING_MARGIN = 1.0
"""How much wider than Kaldi's beam the search is that finds what is stable: it must lose no path that Kaldi keeps."""
_ARC = re.compile(r"^(\d+ \d+ )\d+ (\d+ )([^,\n]+),.*$", re.MULTILINE)
_FINAL = re.compile(r"^(\d+ [^ ,\n]+),.*$", re.MULTILINE)


class KaldiOptions(GraphOptions):
    """Options of `decoder/kaldi-decoder`.

    Attributes:
        nbest: Readings that are returned; above 1 a lattice is made and determinised as well.
        lattice_beam: Costs above the best path that a path of the lattice may have.
    """

    nbest: int = Field(default=1, ge=1, le=1000)
    lattice_beam: float = Field(default=4.0, gt=0, le=20, allow_inf_nan=False)


class KaldiDecoder(CtcDecoder):
    """`FasterDecoder` for the best path, in chunks as well; `LatticeSimpleDecoder` for the other readings.

    The best path comes first whatever the lattice says, so that a stream keeps what it called stable.
    """

    def __init__(self, model: AcousticModel, options: KaldiOptions) -> None:
        super().__init__(model)
        self.options = options
        self.folder = open_graph(options.graph, model.vocabulary)
        self.reader = GraphReader(self.folder, model.vocabulary, model.frame_shift_s)
        self.fst = self.folder.read_fst()  # the decoders keep a reference without owning it
        self._aligner = Aligner(model.vocabulary, model.frame_shift_s)
        self._tracking: WfstGraph | None = None

    def tracker(self) -> Tokens:
        """A search beside Kaldi's that knows what all paths agree on; Kaldi shows its best path only."""
        if self._tracking is None:
            self._tracking = WfstGraph(openfst.read(self.folder.fst_path))
        return Tokens(self._tracking, self.options.beam + TRACKING_MARGIN, self._tracking.finals.size)

    def _open_search(self) -> Search:
        return _KaldiSearch(self, self.tracker())

    def _decode_impl(self, log_probs: Float32) -> Hypotheses:
        from kaldi_decoder import DecodableCtc

        search = self.best_path_search()
        search.advance_decoding(DecodableCtc(log_probs))
        return self.readings(search, log_probs)

    def best_path_search(self) -> Any:
        """A `FasterDecoder` at the start of a stream."""
        from kaldi_decoder import FasterDecoder, FasterDecoderOptions

        # The beam alone decides what is kept: with a limit on active states no tracker could vouch for anything.
        search = FasterDecoder(self.fst, FasterDecoderOptions(beam=self.options.beam, min_active=0))
        search.init_decoding()
        return search

    def readings(self, search: Any, log_probs: Float32) -> Hypotheses:
        """The n-best readings at the end."""
        labels, outputs, cost = best_path(search, self.options.beam, use_final=True)
        tokens, frames = collapse([label - 1 for label in labels], self.vocabulary.blank)
        best = self.reader.hypothesis(log_probs, tokens, frames, outputs, -cost)
        if self.options.nbest == 1:
            return (best,)
        others = (self._spelled(log_probs, words, cost) for words, cost in self._nbest(log_probs))
        return (best, *(other for other in others if other.text != best.text))[: self.options.nbest]

    def _nbest(self, log_probs: Float32) -> list[tuple[list[int], float]]:
        """Distinct output label sequences and their costs, cheapest first."""
        import kaldifst
        from kaldi_decoder import DecodableCtc, LatticeSimpleDecoder, LatticeSimpleDecoderConfig

        options = self.options
        config = LatticeSimpleDecoderConfig(beam=options.beam, lattice_beam=options.lattice_beam)
        decoder = LatticeSimpleDecoder(self.fst, config)
        decoder.decode(DecodableCtc(log_probs))
        found, lattice = decoder.get_raw_lattice()
        if not found:
            raise no_path(len(log_probs), options.beam)
        # Words alone, costs summed: an acceptor whose paths, determinised, are the distinct readings.
        kaldifst.scale_lattice([[1, 1], [0, 0]], lattice)
        text = lattice.to_str(show_weight_one=True, fst_field_separator=" ")
        words = kaldifst.compile(_FINAL.sub(r"\1", _ARC.sub(r"\1\2\3", text)), acceptor=True)
        kaldifst.rmepsilon(words)
        words = kaldifst.determinize(words, weight=str(options.lattice_beam))
        paths = kaldifst.convert_nbest_to_vector(kaldifst.shortest_path(words, n=options.nbest))
        linear = (kaldifst.get_linear_symbol_sequence(path) for path in paths)
        return [(outputs, weight.value) for _, _, outputs, weight in linear]

    def _spelled(self, log_probs: Float32, outputs: Sequence[int], cost: float) -> Hypothesis:
        """A reading of the lattice, its tokens those of the lexicon."""
        text = self.reader.text(outputs)
        table = self.folder.tokens
        tokens: list[int] = []
        for word in text.split():
            if tokens and table.separator is not None:
                tokens.append(table.separator)
            spelling = self.folder.lexicon.get(word)
            tokens += [table.symbols.index(symbol) for symbol in spelling] if spelling else table.spell(word) or ()
        return Hypothesis(text, tuple(tokens), -cost, self._aligner.words(log_probs, tokens))


def best_path(search: Any, beam: float, *, use_final: bool) -> tuple[list[int], list[int], float]:
    """Input labels (one a frame), output labels and cost of the best path of a `FasterDecoder`.

    Raises:
        AmiraError: No path was left.
    """
    import kaldifst

    found, path = search.get_best_path(use_final_probs=use_final)
    if not found:
        raise no_path(search.num_frames_decoded(), beam)
    _, labels, outputs, weight = kaldifst.get_linear_symbol_sequence(path)
    return labels, outputs, weight.value1 + weight.value2


class _KaldiSearch:
    def __init__(self, decoder: KaldiDecoder, tracker: Tokens) -> None:
        self._decoder, self._tracker = decoder, tracker
        self._search = decoder.best_path_search()
        self._frames = Frames()
        self._taken = 0

    def push(self, log_probs: Float32) -> None:
        from kaldi_decoder import DecodableCtc

        self._search.advance_decoding(DecodableCtc(log_probs, self._taken))
        self._tracker.push(log_probs)
        self._frames.add(log_probs)
        self._taken += len(log_probs)

    def partial(self) -> Partial:
        text = self._decoder.reader.text
        _, outputs, _ = best_path(self._search, self._decoder.options.beam, use_final=False)
        return Partial(text(outputs), len(text(self._tracker.stable())))

    def finish(self) -> Hypotheses:
        return self._decoder.readings(self._search, self._frames.all())


class Kaldi(Variant):
    """`decoder/kaldi-decoder`."""

    id = "decoder/kaldi-decoder"
    summary = "Kaldi's token passing on a decoding graph: best path or a lattice's n-best"
    options = KaldiOptions
    families = ("ctc",)

    @classmethod
    def available(cls) -> Unavailable | None:
        """The packages that are not installed."""
        missing = [name for name, module in PACKAGES.items() if find_spec(module) is None]
        if missing:
            return Unavailable(f"not installed: {', '.join(missing)}.", "Install them: pip install 'amira-asr[wfst]'")
        return None

    @classmethod
    @contextmanager
    def _open_impl(cls, context: Context, options: KaldiOptions) -> Iterator[KaldiDecoder]:
        yield KaldiDecoder(context.parts["acoustic"], options)
