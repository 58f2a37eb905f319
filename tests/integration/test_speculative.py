"""Speculative decoding on the real model: the text is greedy's, token for token, whatever the draft."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import pytest

from harness.corpus import load_corpus
from harness.metrics.normalise import normalise
from pipelines import registry
from pipelines.contracts import AudioBatch, EncoderDecoderModel
from pipelines.decode.aed_greedy import GreedyDecoder
from pipelines.decode.speculative import SpeculativeDecoder
from pipelines.paths import models_dir
from pipelines.registry import Context

CLIPS = 3


@contextmanager
def model(variant: str) -> Iterator[EncoderDecoderModel]:
    parts: dict[str, Any] = {}
    context = Context(models_dir(), "moonshine-aed", 1, parts)
    with ExitStack() as stack:
        parts["memory"] = stack.enter_context(registry.get("memory/pooled").open(context))
        yield stack.enter_context(registry.get(variant).open(context))


def perturbed(text: str, rng: random.Random) -> list[str]:
    """What a CTC model might make of a text: every sixth word misspelled, left out or doubled."""
    words = []
    for word in normalise(text).split():
        kind = rng.randrange(18)
        words += {0: [], 1: [word[:-1] or word], 2: [word, word]}.get(kind, [word])
    return words


@pytest.mark.models
@pytest.mark.parametrize("variant", ["acoustic/ort-shortlist@fp32", "acoustic/simd@fp32", "acoustic/simd@int8"])
def test_text_is_greedys_token_for_token(variant: str) -> None:
    if problem := registry.get(variant).available():
        pytest.skip(f"{problem.reason} {problem.remedy}")
    rng = random.Random(7)
    clips = [clip for clip in load_corpus("starter").clips if clip.duration_s < 8][:CLIPS]
    assert clips
    steps = passes = 0
    with model(variant) as aed:
        for clip in clips:
            samples = np.frombuffer(clip.pcm16(), "<i2").astype(np.float32)[None] / 32768
            with aed.encode(AudioBatch(samples, np.array([samples.shape[1]]))) as encoded:
                [wanted], taken = GreedyDecoder(aed).decode(encoded)
                found = SpeculativeDecoder(aed, None, 7).checked(encoded, perturbed(wanted.text, rng))
            assert found.tokens == wanted.tokens, clip.id
            steps, passes = steps + taken, passes + found.passes
    assert passes < steps / 2


@pytest.mark.models
def test_the_model_writes_the_tokens_that_its_text_encodes_to() -> None:
    clip = min(load_corpus("starter").clips, key=lambda clip: abs(clip.duration_s - 6))
    with model("acoustic/ort@int8") as aed:
        samples = np.frombuffer(clip.pcm16(), "<i2").astype(np.float32)[None] / 32768
        with aed.encode(AudioBatch(samples, np.array([samples.shape[1]]))) as encoded:
            [best], _ = GreedyDecoder(aed).decode(encoded)
    assert aed.vocabulary.encode(best.text) == list(best.tokens)
