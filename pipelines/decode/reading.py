"""`decoder/reading`: what somebody read who was to read a known text, and how each word of it fared."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from pipelines.contracts import AcousticModel, Decoder, Float32, Hypotheses, Hypothesis, Partial, ReadWord, Word
from pipelines.decode import openfst
from pipelines.decode.ctc import CtcDecoder, Frames, Search
from pipelines.decode.kaldi import Kaldi
from pipelines.decode.wfst import Tokens, WfstGraph
from pipelines.errors import AmiraError
from pipelines.graphs.reading import ReadingCosts, ReadingGraph, reading_graph
from pipelines.graphs.tokens import TokenSet
from pipelines.registry import Context, Unavailable, Variant

KEPT_GRAPHS = 32
"""Graphs of texts that are kept for the next reader of the same text."""
Status = Literal["read", "repeated", "misread", "skipped"]


class ReadingOptions(BaseModel):
    """Options of `decoder/reading`; the costs are those of `pipelines.graphs.reading.ReadingCosts`.

    Attributes:
        text: The expected text, where it is the same for every clip; else `expecting` gives it.
        beam: Costs above the best path of a frame that another path may have before it is dropped.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    text: str = ""
    beam: float = Field(default=16.0, gt=0, le=1000, allow_inf_nan=False)
    skip: float = Field(default=ReadingCosts.skip, ge=0)
    misread: float = Field(default=ReadingCosts.misread, ge=0)
    insert: float = Field(default=ReadingCosts.insert, ge=0)
    letter: float = Field(default=ReadingCosts.letter, ge=0)
    false_start: float = Field(default=ReadingCosts.false_start, ge=0)

    def costs(self) -> ReadingCosts:
        """The costs of departing from the text."""
        return ReadingCosts(
            skip=self.skip,
            misread=self.misread,
            insert=self.insert,
            letter=self.letter,
            false_start=self.false_start,
        )


class _Searchable(NamedTuple):
    graph: ReadingGraph
    search: WfstGraph


class ReadingGraphs:
    """Builds the graphs of texts, in the background where asked early enough, and keeps the latest by content.

    Args:
        tokens: The model's token table.
        costs: What departing from a text costs.
    """

    def __init__(self, tokens: TokenSet, costs: ReadingCosts) -> None:
        self._tokens, self._costs = tokens, costs
        self._builder = ThreadPoolExecutor(1, "reading-graphs")
        self._kept: OrderedDict[str, Future[_Searchable]] = OrderedDict()
        self._lock = threading.Lock()

    def prepare(self, text: str) -> Future[_Searchable]:
        """Begin to build the graph of a text, unless that is done or under way."""
        with self._lock:
            found = self._kept.get(text)
            if found is None:
                found = self._kept[text] = self._builder.submit(self._build, text)
                while len(self._kept) > KEPT_GRAPHS:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(text)
            return found

    def get(self, text: str) -> _Searchable:
        """The graph of a text.

        Raises:
            AmiraError: The text has no words, too many, or words that the model cannot spell.
        """
        return self.prepare(text).result()

    def close(self) -> None:
        """Stop building."""
        self._builder.shutdown(cancel_futures=True)

    def _build(self, text: str) -> _Searchable:
        graph = reading_graph(text, self._tokens, self._costs)
        with TemporaryDirectory() as folder:
            path = Path(folder) / "reading.fst"
            graph.fst.write(str(path))
            return _Searchable(graph, WfstGraph(openfst.read(path)))


class ReadingDecoder:
    """Makes a decoder for each expected text (see `pipelines.contracts.ExpectingDecoder`)."""

    def __init__(self, model: AcousticModel, options: ReadingOptions) -> None:
        self._model, self._options = model, options
        self.graphs = ReadingGraphs(TokenSet.of(model.vocabulary), options.costs())
        if options.text:
            self.graphs.get(options.text)

    def expecting(self, text: str) -> Decoder:
        """See `pipelines.contracts.ExpectingDecoder`."""
        return TextDecoder(self._model, self.graphs.get(text), self._options.beam)

    def decode(self, log_probs: object) -> list[Hypotheses]:
        """See `pipelines.contracts.Decoder`; needs the option `text`."""
        return self._default().decode(log_probs)  # type: ignore[arg-type]

    def stream(self) -> object:
        """See `pipelines.contracts.Decoder`; needs the option `text`."""
        return self._default().stream()

    def _default(self) -> Decoder:
        if not self._options.text:
            raise AmiraError(
                "decoder/reading follows an expected text, and none was given. Set its option 'text', give one with "
                "each clip, or use another decoder: amira variants"
            )
        return self.expecting(self._options.text)


class TextDecoder(CtcDecoder):
    """Decodes the reading of one text."""

    def __init__(self, model: AcousticModel, searchable: _Searchable, beam: float) -> None:
        super().__init__(model)
        self.graph, self.search = searchable
        self.beam = beam

    def _open_search(self) -> Search:
        return _ReadingSearch(self)


@dataclass(frozen=True, slots=True)
class _Event:
    """Something that was said: a word of the text or another, with first and last frame."""

    kind: str
    position: int
    said: str
    first: int
    last: int
    confidence: float


class _ReadingSearch:
    def __init__(self, decoder: TextDecoder) -> None:
        self._decoder = decoder
        states = decoder.search.finals.size
        self._tokens = Tokens(decoder.search, decoder.beam, states)
        self._frames = Frames()

    def push(self, log_probs: Float32) -> None:
        self._frames.add(log_probs)
        self._tokens.push(log_probs)

    def partial(self) -> Partial:
        said = self._text(self._tokens.best_links())
        # The last word of what is certain may still get letters.
        stable = self._text(self._tokens.stable_links()).rpartition(" ")[0]
        return Partial(said, len(stable))

    def finish(self) -> Hypotheses:
        links, cost = self._tokens.final_links()
        log_probs = self._frames.all()
        events = self._events(links, log_probs)
        shift = self._decoder.frame_shift_s
        words = tuple(
            Word(event.said, event.first * shift, (event.last + 1) * shift, event.confidence) for event in events
        )
        blank = self._decoder.vocabulary.blank
        tokens = tuple(label for label, _ in _collapsed(links, blank))
        text = " ".join(word.text for word in words)
        return (Hypothesis(text, tokens, -cost, words, self._read_words(events)),)

    def _text(self, links: list[tuple[int, int, int]]) -> str:
        return " ".join(said for _, _, said, _ in self._said(links))

    def _said(self, links: list[tuple[int, int, int]]) -> Iterator[tuple[str, int, str, list[tuple[int, int, int]]]]:
        """What was said, word by word: kind, position, text, and the links of its tokens."""
        vocabulary, graph = self._decoder.vocabulary, self._decoder.graph
        groups: list[tuple[int, list[tuple[int, int, int]]]] = []
        for label, output, frame in links:
            if output:
                groups.append((output, []))
            if groups:
                groups[-1][1].append((label, output, frame))
        for output, members in groups:
            kind, position = graph.meaning(output)
            labels = [(label, frame) for label, _, frame in members]
            if kind == "read":
                said = graph.spelled[position]
            else:
                pieces = (vocabulary.piece(label) for label, _ in _unrepeated(labels, vocabulary.blank))
                said = "".join(pieces).strip()
            yield kind, position, said, members

    def _events(self, links: list[tuple[int, int, int]], log_probs: Float32) -> list[_Event]:
        vocabulary = self._decoder.vocabulary
        events = []
        for kind, position, said, members in self._said(links):
            voiced = [
                (label, frame)
                for label, _, frame in members
                if label != vocabulary.blank and vocabulary.piece(label).strip()
            ]
            first, last = voiced[0][1], voiced[-1][1]
            sure = min(float(np.exp(log_probs[frame, label])) for label, frame in voiced)
            events.append(_Event(kind, position, said, first, last, sure))
        return events

    def _read_words(self, events: list[_Event]) -> tuple[ReadWord, ...]:
        shift = self._decoder.frame_shift_s
        found = []
        for position, word in enumerate(self._decoder.graph.words):
            here = [event for event in events if event.position == position and event.kind != "inserted"]
            tries = [event for event in here if event.kind != "begun"]
            right = [event for event in tries if event.kind == "read"]
            status: Status = "skipped"
            if right:
                status = "repeated" if len(right) > 1 else "read"
            elif tries:
                status = "misread"
            shown = (right or tries)[-1] if tries else None
            found.append(
                ReadWord(
                    word,
                    status,
                    shown.said if shown else "",
                    shown.first * shift if shown else float("nan"),
                    (shown.last + 1) * shift if shown else float("nan"),
                    shown.confidence if shown else 0.0,
                    len(here),
                    tuple(event.said for event in events if event.kind == "inserted" and event.position == position),
                )
            )
        return tuple(found)


def _unrepeated(labels: list[tuple[int, int]], blank: int) -> list[tuple[int, int]]:
    """(label, frame) of the tokens: repeats collapsed, blanks dropped."""
    kept = []
    before = blank
    for label, frame in labels:
        if label not in (blank, before):
            kept.append((label, frame))
        before = label
    return kept


def _collapsed(links: list[tuple[int, int, int]], blank: int) -> list[tuple[int, int]]:
    return _unrepeated([(label, frame) for label, _, frame in links], blank)


class Reading(Variant):
    """`decoder/reading`."""

    id = "decoder/reading"
    summary = "follows an expected text: what was read, skipped, repeated and misread of it, with times"
    options = ReadingOptions
    families = ("ctc",)

    @classmethod
    def available(cls) -> Unavailable | None:
        """Graphs are composed with the packages that Kaldi's decoder needs, too."""
        return Kaldi.available()

    @classmethod
    @contextmanager
    def _open_impl(cls, context: Context, options: ReadingOptions) -> Iterator[ReadingDecoder]:
        decoder = ReadingDecoder(context.parts["acoustic"], options)
        try:
            yield decoder
        finally:
            decoder.graphs.close()
