"""`decoder/pyctcdecode` and `decoder/flashlight-text`: what others search the same log-probabilities with.

Neither is in the project's lock file: pyctcdecode asks for NumPy 1, though it runs on NumPy 2.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any, ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from pipelines.contracts import AcousticModel, Float32, Hypotheses, Hypothesis, Partial
from pipelines.decode.alignment import Aligner
from pipelines.decode.ctc import CtcDecoder, Frames, Search
from pipelines.decode.graph import collapse
from pipelines.errors import AmiraError
from pipelines.graphs.tokens import TokenSet
from pipelines.registry import Context, Unavailable, Variant

INSTALL = "Install the peers: .venv/bin/pip install --no-deps --require-hashes -r requirements/peers.txt"


class PeerOptions(BaseModel):
    """Options of the peers, those of `decoder/beam` that they share.

    Attributes:
        width: Prefixes that are kept from frame to frame.
        threshold: How far below the best a prefix may fall, in natural log.
        token_floor: Labels below this log-probability are not tried in a frame.
        nbest: Readings that are returned.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    width: int = Field(default=32, ge=1, le=4096)
    threshold: float = Field(default=10.0, gt=0, le=1000, allow_inf_nan=False)
    token_floor: float = Field(default=-5.0, lt=0, ge=-1000, allow_inf_nan=False)
    nbest: int = Field(default=1, ge=1, le=1000)


class PeerDecoder(CtcDecoder):
    """Decodes whole clips; a stream is decoded at its end."""

    incremental = False

    def __init__(self, model: AcousticModel, options: PeerOptions) -> None:
        super().__init__(model)
        self.options = options
        self.aligner = Aligner(model.vocabulary, model.frame_shift_s)

    def _decode_impl(self, log_probs: Float32) -> Hypotheses:
        found: dict[str, Hypothesis] = {}
        for tokens, score in self.readings(log_probs):
            text = self.vocabulary.text(tokens)
            if text not in found:
                found[text] = Hypothesis(text, tuple(tokens), score, self.aligner.words(log_probs, tokens))
        return tuple(found.values())[: self.options.nbest]

    def _open_search(self) -> Search:
        return _AtTheEnd(self)

    @abstractmethod
    def readings(self, log_probs: Float32) -> Iterator[tuple[list[int], float]]:
        """Tokens and scores, best first."""


class _AtTheEnd:
    def __init__(self, decoder: PeerDecoder) -> None:
        self._decoder, self._frames = decoder, Frames()

    def push(self, log_probs: Float32) -> None:
        self._frames.add(log_probs)

    def partial(self) -> Partial:
        return Partial("", 0)

    def finish(self) -> Hypotheses:
        return self._decoder._decode_impl(self._frames.all())


class PyctcdecodeDecoder(PeerDecoder):
    """pyctcdecode without a language model."""

    def __init__(self, model: AcousticModel, options: PeerOptions) -> None:
        super().__init__(model, options)
        self._table = TokenSet.of(model.vocabulary)
        mark = "\u2581" if self._table.marked else " "
        self._decoder = import_module("pyctcdecode").build_ctcdecoder(
            [piece.replace(" ", mark) for piece in self._table.pieces]
        )

    def readings(self, log_probs: Float32) -> Iterator[tuple[list[int], float]]:
        """See `PeerDecoder.readings`."""
        options = self.options
        for beam in self._decoder.decode_beams(
            log_probs, beam_width=options.width, beam_prune_logp=-options.threshold,
            token_min_logp=options.token_floor,
        ):  # fmt: skip
            tokens: list[int] = []
            for word in beam[0].split():
                if tokens and self._table.separator is not None:
                    tokens.append(self._table.separator)
                tokens += self._table.spell(word) or ()
            yield tokens, float(beam[3])


class FlashlightDecoder(PeerDecoder):
    """flashlight-text's lexicon-free decoder without a language model."""

    def __init__(self, model: AcousticModel, options: PeerOptions) -> None:
        decoder = import_module("flashlight.lib.text.decoder")
        super().__init__(model, options)
        table = TokenSet.of(model.vocabulary)
        if table.separator is None:
            raise AmiraError("flashlight-text needs a label for the space between words. Use decoder/beam")
        settings = decoder.LexiconFreeDecoderOptions(
            beam_size=options.width, beam_size_token=len(table), beam_threshold=options.threshold, lm_weight=0.0,
            sil_score=0.0, log_add=True, criterion_type=decoder.CriterionType.CTC,
        )  # fmt: skip
        self._decoder = decoder.LexiconFreeDecoder(settings, decoder.ZeroLM(), table.separator, table.blank, [])

    def readings(self, log_probs: Float32) -> Iterator[tuple[list[int], float]]:
        """See `PeerDecoder.readings`."""
        values = np.ascontiguousarray(log_probs)
        for result in self._decoder.decode(values.ctypes.data, *values.shape):
            tokens, _ = collapse(result.tokens[1:-1], self.vocabulary.blank)  # its own start and end around them
            yield tokens, float(result.score)


class _Peer(Variant):
    options = PeerOptions
    families = ("ctc",)
    module: ClassVar[str]
    decoder: ClassVar[type[PeerDecoder]]

    @classmethod
    def available(cls) -> Unavailable | None:
        """Whether its package is not installed."""
        top = cls.module.partition(".")[0]
        return None if find_spec(top) is not None else Unavailable(f"{cls.id[8:]} is not installed.", INSTALL)

    @classmethod
    @contextmanager
    def _open_impl(cls, context: Context, options: Any) -> Iterator[PeerDecoder]:
        yield cls.decoder(context.parts["acoustic"], options)


class Pyctcdecode(_Peer):
    """`decoder/pyctcdecode`."""

    id = "decoder/pyctcdecode"
    summary = "peer: pyctcdecode's prefix beam search in Python, without a language model"
    module = "pyctcdecode"
    decoder = PyctcdecodeDecoder


class Flashlight(_Peer):
    """`decoder/flashlight-text`."""

    id = "decoder/flashlight-text"
    summary = "peer: flashlight-text's lexicon-free beam search in C++, without a language model"
    module = "flashlight.lib.text"
    decoder = FlashlightDecoder
