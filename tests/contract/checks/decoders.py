"""Decoders of both families, and peers, which are recognisers of their own."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import numpy as np

from pipelines import registry
from pipelines.config import default_config
from pipelines.contracts import AedDecoder, AudioBatch, Decoder, ExpectingDecoder, LogProbs, Recognizer, Trace
from pipelines.paths import models_dir
from pipelines.registry import Context
from tests.contract.opening import tone


def check_ctc_decoder(decoder: Decoder, vocabulary: Any) -> None:
    ids = [index for index in range(len(vocabulary)) if vocabulary.piece(index).isalpha()][:3]
    [space] = [index for index in range(len(vocabulary)) if vocabulary.piece(index) == " "]
    a, b, _ = ids
    path = [vocabulary.blank, a, a, vocabulary.blank, a, space, b, b]
    values = np.full((2, len(path), len(vocabulary)), np.log(0.001), np.float32)
    values[0, np.arange(len(path)), path] = np.log(0.95)
    values[1] = values[0]
    letter, other = vocabulary.piece(a), vocabulary.piece(b)
    if isinstance(decoder, ExpectingDecoder):
        decoder = decoder.expecting(f"{letter}{letter} {other}")
    both = decoder.decode(LogProbs(values, np.array([8, 3])))
    first, second = (hypotheses[0] for hypotheses in both)
    assert (first.text, second.text) == (f"{letter}{letter} {other}", letter)
    assert first.text == vocabulary.text(first.tokens)
    if first.words:
        assert [word.text for word in first.words] == first.text.split()
        assert all(0 <= word.start_s < word.end_s for word in first.words)
        assert all(0 < word.confidence <= 1 for word in first.words)
    [(empty, *_)] = decoder.decode(LogProbs(values[:1], np.array([0])))
    assert empty.text == ""


def check_decoder(decoder: AedDecoder) -> None:
    [acoustic] = {registry.get(default_config().variants["acoustic"])}
    parts: dict[str, Any] = {}
    context = Context(models_dir(), default_config().model, 1, parts)
    with ExitStack() as stack:
        parts["memory"] = stack.enter_context(registry.get("memory/fresh").open(context))
        model = stack.enter_context(acoustic.open(context))
        samples = (tone(2.0) / 32768).astype(np.float32)[None]
        encoded = stack.enter_context(model.encode(AudioBatch(samples, np.array([samples.shape[1]]))))
        [first, *_], steps = decoder.decode(encoded)
        [again, *_], _ = decoder.decode(encoded)
        assert first.text == again.text == model.vocabulary.text(first.tokens)
        assert model.end_token not in first.tokens
        assert 1 <= steps <= 2.0 * model.max_tokens_per_s + 1


def check_peer(recognizer: Recognizer) -> None:
    recognizer.warm_up()
    trace = Trace()
    [best, *_], steps = recognizer.recognize(tone(1.0).tobytes(), trace)
    assert isinstance(best.text, str)
    assert steps >= 0
    assert next(span.stage for span in trace) == "ingest"
    assert all(span.duration_ns > 0 for span in trace)
