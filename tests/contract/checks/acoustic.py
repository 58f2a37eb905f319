"""Acoustic models of every family."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pipelines.contracts import AcousticModel, AudioBatch, CtcVocabulary, EncoderDecoderModel, StreamingAcousticModel
from tests.contract.opening import tone


def check_ctc_acoustic(model: Any) -> None:
    assert isinstance(model, AcousticModel)
    assert isinstance(model.vocabulary, CtcVocabulary)
    assert model.vocabulary.piece(model.vocabulary.blank) == ""
    model.warm_up()
    voice = (tone(1.0) / 32768).astype(np.float32)
    lengths = np.array([16_000, 9_000, 100])
    samples = np.zeros((3, 16_000), np.float32)
    for row, length in enumerate(lengths):
        samples[row, :length] = voice[:length]
    found = model.infer(AudioBatch(samples, lengths))
    values, frames = found.values.copy(), found.lengths.copy()
    assert values.dtype == np.float32
    assert values.shape == (3, frames[0], len(model.vocabulary))
    assert frames[0] == pytest.approx(1.0 / model.frame_shift_s, abs=3)
    assert frames[2] == 0
    np.testing.assert_allclose(np.exp(values[0]).sum(axis=1), 1, rtol=1e-4)
    for row, length in enumerate(lengths):
        alone = model.infer(AudioBatch(np.ascontiguousarray(samples[row : row + 1, :length]), lengths[row : row + 1]))
        assert alone.lengths.tolist() == [frames[row]]
        np.testing.assert_allclose(alone.values[0, : frames[row]], values[row, : frames[row]], atol=1e-3)


def check_streaming(model: Any) -> None:
    """For acoustic variants of CTC models, on one with a streaming card."""
    assert isinstance(model, StreamingAcousticModel)
    assert model.lookahead_samples >= 0
    model.warm_up()
    size = model.chunk_samples
    voice = (tone(1.0) / 32768).astype(np.float32)
    states = [model.open(), model.open()]
    whole = AudioBatch(np.stack([voice[:size], voice[size : 2 * size]]), np.array([size, size]))
    first = model.infer_chunk(states, whole).values.copy()
    assert first.shape == (2, round(size / 16_000 / model.frame_shift_s), len(model.vocabulary))
    np.testing.assert_allclose(np.exp(first).sum(axis=2), 1, rtol=1e-4)
    alone = model.open()
    for row, expected in ((0, first[0]), (1, None)):
        found = model.infer_chunk([alone], AudioBatch(whole.samples[row : row + 1], np.array([size])))
        if expected is not None:
            np.testing.assert_allclose(found.values[0], expected, atol=1e-3)
    assert not np.allclose(found.values[0], first[1], atol=1e-3)  # it remembers what came before
    last = model.infer_chunk(states[:1], AudioBatch(whole.samples[:1, :100], np.array([100])))
    assert last.lengths.tolist() == [1]
    with pytest.raises(ValueError, match="last chunk"):
        model.infer_chunk(states, whole)
    with pytest.raises(ValueError, match="twice"):
        model.infer_chunk([states[1], states[1]], whole)
    for state in (*states, alone):
        state.close()


def check_acoustic(model: Any) -> None:
    assert isinstance(model, EncoderDecoderModel)
    assert model.frame_shift_s == pytest.approx(0.024)
    model.warm_up()
    samples = (tone(1.0) / 32768).astype(np.float32)[None]
    logits = []
    for _ in range(2):
        batch = AudioBatch(samples, np.array([samples.shape[1]]))
        with model.encode(batch) as encoded, model.open(encoded, 3) as state:
            assert encoded.hidden.shape[:2] == (1, encoded.lengths[0])
            assert encoded.hidden.shape[1] == pytest.approx(1.0 / model.frame_shift_s, abs=3)
            assert encoded.audio_s == (1.0,)
            assert np.isfinite(encoded.hidden).all()
            rows = [model.step(state, [token])[-1].copy() for token in (model.start_token, 5, 6)]
            assert all(row.dtype == np.float32 and row.ndim == 1 and np.isfinite(row).all() for row in rows)
            assert rows[0].size >= len(model.vocabulary)
            with pytest.raises(ValueError, match="state holds 3"):
                model.step(state, [7])
            model.rewind(state, 1)
            np.testing.assert_allclose(model.step(state, [5])[-1], rows[1], atol=1e-4)
            with pytest.raises(ValueError, match="2 were fed"):
                model.rewind(state, 3)
        logits.append(np.stack(rows))
    np.testing.assert_array_equal(*logits)  # a clip does not depend on the one before it
    with pytest.raises(ValueError, match="samples"), model.encode(AudioBatch(samples[:, :100], np.array([100]))):
        pass
