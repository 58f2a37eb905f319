"""The speech detector of many streams, beside the one of a whole recording."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.audio.vad import CHUNK_SAMPLES, VadWeights, load_weights, speech_probabilities
from pipelines.audio.vad_loop import BLOCK_CHUNKS
from pipelines.audio.vad_stream import CompiledSilero, StreamingSilero
from pipelines.vectors import LANES, without_vectors
from tests.unit.test_simd_dense import each_width

STREAMS, CHUNKS = 4, 24


@cache
def weights() -> VadWeights:
    return load_weights()


@cache
def recordings() -> tuple[np.ndarray, np.ndarray]:
    """Noise at several levels, and the probabilities of the whole recordings."""
    rng = np.random.default_rng(0)
    size = STREAMS, CHUNKS * CHUNK_SAMPLES
    audio = (rng.standard_normal(size) * rng.uniform(100, 9_000, (STREAMS, 1))).astype(np.int16)
    return audio, np.array([speech_probabilities(each.tobytes(), weights()) for each in audio])


def agree(detector: Any, cuts: list[list[int]]) -> None:
    """Hear the recordings in rounds of so many chunks of each stream, and compare."""
    audio, exact = recordings()
    states, at = [detector.open() for _ in audio], [0] * STREAMS
    for counts in cuts:
        among = [k for k, count in enumerate(counts) if count and at[k] + count <= CHUNKS]
        if not among:
            continue
        parts = [audio[k, at[k] * CHUNK_SAMPLES : (at[k] + counts[k]) * CHUNK_SAMPLES] for k in among]
        chunks = np.concatenate(parts).reshape(-1, CHUNK_SAMPLES)
        found = detector.probabilities([states[k] for k in among], [counts[k] for k in among], chunks)
        assert found.dtype == np.float32
        wanted = [exact[k, at[k] : at[k] + counts[k]] for k in among]
        np.testing.assert_allclose(found, np.concatenate(wanted), atol=1e-4)
        for k in among:
            at[k] += counts[k]


def test_chunk_by_chunk_gives_the_numbers_of_the_whole_recording() -> None:
    agree(StreamingSilero(weights()), [[1] * STREAMS] * CHUNKS)


@settings(deadline=None, max_examples=25)
@given(st.lists(st.lists(st.integers(0, 5), min_size=STREAMS, max_size=STREAMS), max_size=12))
def test_numbers_do_not_depend_on_how_audio_is_cut(cuts: list[list[int]]) -> None:
    agree(StreamingSilero(weights()), cuts)


@each_width
def test_the_compiled_loop_gives_the_same_numbers(lanes: int) -> None:
    detector = CompiledSilero(weights(), lanes)
    agree(detector, [[1] * STREAMS] * CHUNKS)
    agree(detector, [[5, 1, 0, 3], [0, 2, 7, 1], [BLOCK_CHUNKS + 1, 1, 2, 0], [1, 0, 15, 15]])
    agree(detector, [[CHUNKS] * STREAMS])


@pytest.mark.skipif(without_vectors("") is not None, reason="this CPU lacks AVX2")
def test_the_compiled_loop_refuses_chunks_that_nobody_counted() -> None:
    detector = CompiledSilero(weights(), LANES["avx2"])
    with pytest.raises(RuntimeError, match="refused its arrays"):
        detector.probabilities([detector.open()], [2], np.zeros((1, CHUNK_SAMPLES), np.int16))
