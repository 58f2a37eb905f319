"""What serves many streams: connections, speech detectors, first and second passes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pipelines.contracts import Hypothesis
from tests.contract.opening import tone


def check_connection(service: Any) -> None:
    from pipelines.resilience import Deadline, DeadlineExceededError, ServiceError

    service.need("preprocessor")
    pcm = tone(0.16)[None]
    for count in (1, 160, pcm.size):
        [waveform] = service.infer("preprocessor", {"pcm": pcm[:, :count].copy()}, ("waveform",)).outputs.values()
        np.testing.assert_array_equal(waveform, pcm[:, :count] / np.float32(32_768))
    reply = service.infer("preprocessor", {"pcm": pcm}, ("waveform",))
    service.infer("preprocessor", {"pcm": pcm // 2}, ("waveform",))
    np.testing.assert_array_equal(reply.outputs["waveform"], pcm / np.float32(32_768))  # not overwritten
    marks = [reply.marks_ns[name] for name in ("start", "leased", "serialised", "received", "end")]
    assert marks == sorted(marks)
    for model, name, value, message in (
        ("preprocessor", "wave", pcm, "unexpected inference input 'wave'"),
        ("preprocessor", "pcm", pcm.astype(np.float32), "expects 'INT16'"),
        ("preprocessor", "pcm", pcm[..., None], "unexpected shape for input 'pcm'"),
        ("preproc", "pcm", pcm, "has no model 'preproc'"),
    ):
        with pytest.raises(ServiceError, match=message) as told:
            service.infer(model, {name: value}, ("waveform",))
        assert not told.value.retryable
    with pytest.raises(ValueError, match="Send less at once"):
        service.infer("preprocessor", {"pcm": np.zeros((1, 40 << 20), np.int16)}, ("waveform",))
    with pytest.raises(DeadlineExceededError):
        service.infer("preprocessor", {"pcm": pcm}, ("waveform",), Deadline.after(0))
    service.infer("preprocessor", {"pcm": pcm}, ("waveform",))  # nothing of that broke it


def check_vad(detector: Any) -> None:
    """A stream's judgements depend neither on which others are in its batch, nor on how many chunks come at once."""
    rng = np.random.default_rng(0)
    speech = np.resize(tone(1.0), (4, detector.chunk_samples))
    noise = rng.integers(-3_000, 3_000, speech.shape).astype(np.int16)
    alone, first, second, whole = (detector.open() for _ in range(4))
    at_once = detector.probabilities([whole], [len(speech)], speech)
    assert len(at_once) == len(speech)
    for chunk, other, expected in zip(speech, noise, at_once, strict=True):
        [lone] = detector.probabilities([alone], [1], chunk[None])
        both = detector.probabilities([first, second], [1, 1], np.stack([chunk, other]))
        assert both.dtype == np.float32
        assert ((both >= 0) & (both <= 1)).all()
        np.testing.assert_allclose([both[0], expected], [lone, lone], atol=1e-5)


def check_partials(partials: Any) -> None:
    """A first pass hears segments in a batch as each alone; a growing one costs a bounded number of goes."""
    if partials.regrow is not None:
        length, goes = partials.regrow.step, 1
        while length < 20 * 16_000:
            length, goes = partials.regrow.next_length(length), goes + 1
        assert goes < 20
    passed = partials.first_pass
    if passed is None:
        return
    wave = tone(2.0)
    chunks = [wave[at : at + passed.chunk_samples].tobytes() for at in range(0, wave.size, passed.chunk_samples)]
    alone, one, other = (passed.open() for _ in range(3))
    for chunk in chunks:
        [lone] = passed.push([alone], [chunk])
        both = passed.push([one, other], [chunk, bytes(len(chunk))])
        assert both[0] == lone
        assert 0 <= lone.stable_chars <= len(lone.text)
    assert passed.finish(alone)[0].text == passed.finish(one)[0].text
    passed.close(other)


def check_finals(finals: Any) -> None:
    draft = (Hypothesis("a draft", (), 0.0),)
    assert isinstance(finals.settle(tone(1.0).tobytes(), draft).text, str)
