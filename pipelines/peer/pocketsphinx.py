"""`peer/pocketsphinx`: CMU Sphinx's decoder with the model that its package ships, the floor that any model must beat.

Gaussian mixtures, a pronunciation dictionary and a trigram: what ran on a CPU before neural networks did.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from pipelines.contracts import ENGINE_STAGE, Hypotheses, Hypothesis, Recognizer, Trace, Word
from pipelines.registry import Context, Unavailable, Variant

FRAME_RATE_HZ = 100
_FILLERS = ("<", "[", "+")
"""What the names of silences and noises begin with."""


class _Engine:
    """Implements `pipelines.contracts.Recognizer`."""

    def __init__(self, decoder: Any) -> None:
        self._decoder = decoder

    def warm_up(self) -> None:
        """Recognise a second of silence."""
        self.recognize(bytes(32_000), Trace())

    def recognize(self, pcm: bytes | memoryview, trace: Trace) -> tuple[Hypotheses, int]:
        """See `pipelines.contracts.Recognizer`; the engine counts no decoder passes."""
        decoder = self._decoder
        with trace.span("ingest"):
            data = bytes(pcm)
        with trace.span(ENGINE_STAGE):
            decoder.start_utt()
            decoder.process_raw(data, full_utt=True)
            decoder.end_utt()
            best = decoder.hyp()
        if best is None:
            return (Hypothesis("", (), float("nan")),), 0
        words = tuple(
            # A pronunciation other than the first is `word(2)`.
            Word(
                segment.word.partition("(")[0],
                segment.start_frame / FRAME_RATE_HZ,
                (segment.end_frame + 1) / FRAME_RATE_HZ,
                min(max(float(segment.prob), 0.0), 1.0),
            )
            for segment in decoder.seg()
            if not segment.word.startswith(_FILLERS)
        )
        return (Hypothesis(best.hypstr, (), float("nan"), words),), 0


class PocketSphinx(Variant):
    """`peer/pocketsphinx`."""

    id = "peer/pocketsphinx"
    summary = "CMU Sphinx with its package's own English model: the floor without neural networks"

    @classmethod
    def available(cls) -> Unavailable | None:
        """The package is optional."""
        if find_spec("pocketsphinx") is None:
            return Unavailable(
                "the package pocketsphinx is not installed", "Install it: pip install pocketsphinx==5.1.1"
            )
        return None

    @classmethod
    @contextmanager
    def _open_impl(cls, context: Context, options: Any) -> Iterator[Recognizer]:
        import pocketsphinx

        yield _Engine(pocketsphinx.Decoder(lm=pocketsphinx.get_model_path("en-us/en-us.lm.bin"), loglevel="FATAL"))
