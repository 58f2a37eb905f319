"""From a configuration to a running pipeline."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from pipelines import registry
from pipelines.config import ENGINE_AXIS, PipelineConfig
from pipelines.contracts import (
    SAMPLE_RATE,
    AcousticModel,
    AedDecoder,
    AudioBatch,
    Buffers,
    Decoder,
    DraftingDecoder,
    EncoderDecoderModel,
    ExpectingDecoder,
    Float32,
    Hypotheses,
    Hypothesis,
    Kernels,
    Recognizer,
    Trace,
    Transcript,
)
from pipelines.errors import AmiraError
from pipelines.models import model_card
from pipelines.models.locate import model_folder
from pipelines.registry import Context, Unavailable
from pipelines.wishes import Wishes, decoder_for, unable

MAX_AUDIO_S = 64.0
"""Longest clip for a whole-utterance pipeline: attention is quadratic and the model was trained on less than 30 s."""
SILENT = -20.0
"""Log-probability of every label but the blank where nobody spoke."""
ORDER = ("memory", "kernel", "acoustic", "decoder")
"""The axes of a pipeline in the order in which they are opened: each may use those before it."""
ON_DEMAND = ("connection",)
"""Axes that a pipeline has only if a variant of another one needs them; opened before `ORDER`."""
BEFOREHAND = ("allocator",)
"""Axes of the whole process, which are in it from its start: opened first, for that only checks that they are."""
AFTERWARDS = ("pages",)
"""Axes that change a whole loaded pipeline, whatever it is made of."""
OPTIONAL = (*BEFOREHAND, *AFTERWARDS)
"""Axes that go with any pipeline; none of them is needed."""


class AedRecognizer:
    """PCM to text by an attention encoder-decoder."""

    def __init__(self, buffers: Buffers, kernels: Kernels, model: EncoderDecoderModel, decoder: AedDecoder) -> None:
        self._buffers, self._kernels, self._model, self._decoder = buffers, kernels, model, decoder

    def warm_up(self) -> None:
        """Warm the model up."""
        self._model.warm_up()

    def recognize(
        self, pcm: bytes | memoryview, trace: Trace, draft: Hypothesis | None = None
    ) -> tuple[Hypotheses, int]:
        """See `pipelines.contracts.Recognizer`; a decoder that checks drafts takes `draft` in place of its own."""
        count = len(pcm) // 2
        with (
            self._buffers.lease((1, max(count, self._model.min_samples)), np.float32) as leased,
            ExitStack() as stack,
        ):
            samples: Float32 = leased  # type: ignore[assignment]
            with trace.span("ingest"):
                self._kernels.pcm16_to_float32(pcm, samples[0, :count])
                samples[0, count:] = 0  # a clip shorter than the encoder takes is followed by silence
            batch = AudioBatch(samples, np.array([samples.shape[1]]))
            drafts: Hypotheses = () if draft is None else (draft,)
            if draft is None and isinstance(self._decoder, DraftingDecoder):
                with trace.span("draft"):
                    drafts = self._decoder.draft(batch)
            with trace.span("acoustic"):
                encoded = stack.enter_context(self._model.encode(batch))
            with trace.span("decode"):
                if drafts and isinstance(self._decoder, DraftingDecoder):
                    return self._decoder.check(encoded, drafts)
                return self._decoder.decode(encoded)


class CtcRecognizer:
    """PCM to text by a CTC model and a decoder of its log-probabilities."""

    def __init__(self, buffers: Buffers, kernels: Kernels, model: AcousticModel, decoder: Decoder) -> None:
        self._buffers, self._kernels, self._model, self._decoder = buffers, kernels, model, decoder

    def warm_up(self) -> None:
        """Warm the model up."""
        self._model.warm_up()

    def recognize(self, pcm: bytes | memoryview, trace: Trace) -> tuple[Hypotheses, int]:
        """See `pipelines.contracts.Recognizer`; there are no decoder passes to count."""
        count = len(pcm) // 2
        with self._buffers.lease((1, count), np.float32) as leased:
            samples: Float32 = leased  # type: ignore[assignment]
            with trace.span("ingest"):
                self._kernels.pcm16_to_float32(pcm, samples[0])
            with trace.span("acoustic"):
                log_probs = self._model.infer(AudioBatch(samples, np.array([count])))
            with trace.span("decode"):
                [hypotheses] = self._decoder.decode(log_probs)
                return hypotheses, 0

    def recognize_pieces(self, pcm: memoryview, pieces: Iterable[tuple[int, int]]) -> Hypotheses:
        """One text from pieces of a recording, in order, with silence between them; times are the recording's.

        Args:
            pcm: PCM16 little-endian mono at 16 kHz.
            pieces: First and last sample (exclusive) of each; none may be longer than `MAX_AUDIO_S`.
        """
        stream = self._decoder.stream()
        blank, shift = self._model.vocabulary.blank, self._model.frame_shift_s * SAMPLE_RATE
        frames = 0
        for first, last in pieces:
            silent = np.full((max(0, round(first / shift) - frames), len(self._model.vocabulary)), SILENT, np.float32)
            silent[:, blank] = 0
            with self._buffers.lease((1, last - first), np.float32) as leased:
                samples: Float32 = leased  # type: ignore[assignment]
                self._kernels.pcm16_to_float32(pcm[2 * first : 2 * last], samples[0])
                found = self._model.infer(AudioBatch(samples, np.array([last - first])))
            for part in (silent, found.values[0, : found.lengths[0]]):
                if len(part):
                    stream.push(part)
                    frames += len(part)
        return stream.finish()

    @property
    def follows_text(self) -> bool:
        """Whether its decoder can be told what is going to be read."""
        return isinstance(self._decoder, ExpectingDecoder)

    def personal(self, wishes: Wishes) -> CtcRecognizer:
        """The same recogniser for one session.

        Raises:
            AmiraError: The decoder cannot do what the session wishes.
        """
        return CtcRecognizer(self._buffers, self._kernels, self._model, decoder_for(self._decoder, wishes))


def _follows_no_text() -> AmiraError:
    return AmiraError(
        "this pipeline's decoder cannot follow an expected text. Use a CTC model with --variant decoder=reading"
    )


RECOGNIZERS: Mapping[str, Callable[..., Recognizer]] = {"aed": AedRecognizer, "ctc": CtcRecognizer}
"""By family of model."""


class Pipeline:
    """A recogniser behind the checks that every input goes through."""

    def __init__(self, recognizer: Recognizer) -> None:
        self._recognizer = recognizer

    def warm_up(self) -> None:
        """Pay every first-time cost now."""
        self._recognizer.warm_up()

    @property
    def follows_text(self) -> bool:
        """Whether it can be told what is going to be read."""
        return isinstance(self._recognizer, CtcRecognizer) and self._recognizer.follows_text

    def expecting(self, text: str) -> Pipeline:
        """This pipeline for somebody who reads a known text; its transcripts say how each word was read.

        Raises:
            AmiraError: Its decoder cannot follow a text, or not this one.
        """
        if not self.follows_text:
            raise _follows_no_text()
        return self.personal(Wishes(expected_text=text))

    def personal(self, wishes: Wishes) -> Pipeline:
        """This pipeline for one session.

        Raises:
            AmiraError: It cannot do what the session wishes.
        """
        if not isinstance(self._recognizer, CtcRecognizer):
            raise unable(wishes, "the model that recognises whole segments in the pipeline")
        return Pipeline(self._recognizer.personal(wishes))

    def transcribe(self, pcm: bytes | memoryview) -> Transcript:
        """Recognise PCM16 little-endian mono at 16 kHz.

        Raises:
            AmiraError: No audio, half a sample, or more than `MAX_AUDIO_S`.
        """
        size = pcm.nbytes if isinstance(pcm, memoryview) else len(pcm)
        if size == 0:
            raise AmiraError(
                "there is no audio: the clip has 0 samples. Remove it from the corpus, or check its source"
            )
        if size % 2:
            raise AmiraError(f"PCM16 needs an even number of bytes, got {size}: the last sample is cut in half")
        seconds = size / 2 / SAMPLE_RATE
        if seconds > MAX_AUDIO_S:
            raise AmiraError(
                f"the clip is {seconds:.1f} s long, a whole-utterance pipeline takes at most {MAX_AUDIO_S:.0f} s. "
                "Cut it at pauses first; `amira transcribe` does so by itself"
            )
        trace = Trace()
        hypotheses, steps = self._recognizer.recognize(pcm, trace)
        return Transcript(hypotheses, tuple(trace.spans), steps)

    def follow(self, pcm: bytes, pieces: Iterable[tuple[int, int]]) -> Hypotheses:
        """One text from pieces of a recording of any length (see `CtcRecognizer.recognize_pieces`).

        Raises:
            AmiraError: This pipeline's decoder does not decode frame by frame.
        """
        if not isinstance(self._recognizer, CtcRecognizer):
            raise _follows_no_text()
        return self._recognizer.recognize_pieces(memoryview(pcm), pieces)


def unavailable(config: PipelineConfig) -> tuple[str, Unavailable] | None:
    """The first variant of a configuration that cannot run here, with the reason and the remedy."""
    for variant_id in config.variants.values():
        problem = registry.get(variant_id).available()
        if problem is not None:
            return variant_id, problem
    return None


def process_environment(config: PipelineConfig, environment: Mapping[str, str]) -> dict[str, str]:
    """What the variants of a configuration want set before the process starts that opens it.

    Args:
        config: The configuration.
        environment: What the process would have otherwise.
    """
    changes: dict[str, str] = {}
    for variant_id in config.variants.values():
        changes |= registry.get(variant_id).process_environment({**environment, **changes})
    return changes


@contextmanager
def open_pipeline(config: PipelineConfig, models_dir: Path, parts: dict[str, Any] | None = None) -> Iterator[Pipeline]:
    """Open every part of a pipeline, and close them all when the block ends.

    Args:
        config: The pipeline.
        models_dir: Folder of built models.
        parts: Becomes the opened parts by axis, for those who want to look at one.

    Raises:
        AmiraError: An axis is missing or one too many, two parts do not fit each other, or a part cannot be opened.
    """
    _check(config)
    family = None if ENGINE_AXIS in config.variants else _family(config, models_dir)
    parts = {} if parts is None else parts
    context = Context(models_dir, config.model, config.threads, parts)
    with ExitStack() as stack:
        for axis in (*BEFOREHAND, ENGINE_AXIS, *ON_DEMAND, *ORDER, *AFTERWARDS):
            if axis in config.variants:
                variant = registry.get(config.variants[axis])
                parts[axis] = stack.enter_context(variant.open(context, **config.options.get(axis, {})))
        if family is None:
            yield Pipeline(parts[ENGINE_AXIS])
        else:
            yield Pipeline(RECOGNIZERS[family](*(parts[axis] for axis in ORDER)))


def _check(config: PipelineConfig) -> None:
    axes = set(config.variants) - set(OPTIONAL)
    wanted = {ENGINE_AXIS} if ENGINE_AXIS in axes else set(ORDER)
    for axis in wanted & axes:
        wanted = wanted | set(registry.get(config.variants[axis]).needs)
    if missing := wanted - axes:
        raise AmiraError(
            f"the pipeline has no variant for: {', '.join(sorted(missing))}. List what there is with: amira variants"
        )
    if extra := axes - wanted:
        raise AmiraError(
            f"the pipeline does not use: {', '.join(sorted(extra))}. "
            + (f"'{ENGINE_AXIS}' is a whole engine and stands alone" if ENGINE_AXIS in axes else "Remove it")
        )
    if stray := set(config.options) - set(config.variants):
        raise AmiraError(f"options are given for axes without a variant: {', '.join(sorted(stray))}")


def _family(config: PipelineConfig, models_dir: Path) -> str:
    """The family of the configured model, which its acoustic and decoder variants must be made for."""
    family = model_card.family(model_folder(models_dir, config.model))
    for axis in ("acoustic", "decoder"):
        variant = registry.get(config.variants[axis])
        if family not in variant.families:
            fitting = [name for name in registry.ids(axis) if family in registry.get(name).families]
            raise AmiraError(
                f"model '{config.model}' is of family '{family}', and '{variant.id}' is for: "
                f"{', '.join(variant.families) or 'none'}. Variants for it: {', '.join(fitting)}"
            )
    return family
