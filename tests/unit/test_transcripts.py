"""Transcripts as text, JSON, SRT and WebVTT."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.contracts import Word
from pipelines.errors import AmiraError
from pipelines.transcripts import FileTranscript, TimedText, as_srt, as_vtt, render, timestamp

HELLO = [TimedText(0.0, 1.5, "Hello there."), TimedText(3723.0, 3725.25, "An hour later.")]


def of(*segments: TimedText) -> FileTranscript:
    return FileTranscript("a.wav", 1.0, 2.0, segments)


def test_text_is_one_line_a_file() -> None:
    one = of(TimedText(0, 1, " One\ntwo "), TimedText(1, 2, ""), TimedText(2, 3, "three."))
    assert render([one], "text") == "One two three.\n"
    assert render([of()], "text") == "\n"
    assert render([one, of()], "text") == "a.wav: One two three.\na.wav: \n"


def test_srt() -> None:
    assert as_srt(HELLO) == (
        "1\n00:00:00,000 --> 00:00:01,500\nHello there.\n\n2\n01:02:03,000 --> 01:02:05,250\nAn hour later.\n"
    )


def test_vtt() -> None:
    assert as_vtt(HELLO) == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:01.500\nHello there.\n\n01:02:03.000 --> 01:02:05.250\nAn hour later.\n"
    )


def test_silence_is_an_empty_transcript() -> None:
    for segments in ([], [TimedText(0.0, 1.0, " \n ")]):
        assert as_srt(segments) == ""
        assert as_vtt(segments) == "WEBVTT\n"
        assert of(*segments).to_json()["segments"] == []


def test_numbering_has_no_gap_where_a_segment_is_empty() -> None:
    segments = [TimedText(0, 1, "a"), TimedText(1, 2, ""), TimedText(2, 3, "b")]
    assert re.findall(r"^\d+$", as_srt(segments), re.MULTILINE) == ["1", "2"]


def test_marks_of_the_formats_inside_the_text() -> None:
    segments = [TimedText(0, 1, "a <b> & c --> d\n\ne")]
    assert as_vtt(segments).splitlines()[-1] == "a &lt;b&gt; &amp; c --&gt; d e"
    assert as_srt(segments).splitlines()[-1] == "a <b> & c -> d e"


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "00:00:00.000"),
        (0.0004, "00:00:00.000"),
        (59.9996, "00:01:00.000"),
        (3599.9999, "01:00:00.000"),
        (3661.001, "01:01:01.001"),
        (360_000, "100:00:00.000"),
    ],
)
def test_timestamps(seconds: float, expected: str) -> None:
    assert timestamp(seconds) == expected


@given(st.floats(0, 400_000))
def test_a_timestamp_says_the_time_to_the_millisecond(seconds: float) -> None:
    match = re.fullmatch(r"(\d{2,}):([0-5]\d):([0-5]\d),(\d{3})", timestamp(seconds, ","))
    assert match is not None
    hours, minutes, whole, thousandths = map(int, match.groups())
    assert hours * 3600 + minutes * 60 + whole + thousandths / 1000 == pytest.approx(seconds, abs=0.00051)


@pytest.mark.parametrize("seconds", [-0.1, float("nan"), float("inf")])
def test_no_time(seconds: float) -> None:
    with pytest.raises(ValueError, match="no time"):
        timestamp(seconds)


def test_a_cue_lasts_at_least_a_millisecond() -> None:
    assert "00:00:01.000 --> 00:00:01.001" in as_vtt([TimedText(1.0, 1.0001, "a")])


def test_json_has_the_documented_keys_and_keeps_unicode() -> None:
    segments, words = (TimedText(0, 0.5, "café"),), (Word("café", 0.0, 0.5, 0.9),)
    text = render([FileTranscript("a.wav", 0.5, 12.5, segments, words)], "json")
    assert "café" in text
    assert json.loads(text) == [
        {
            "file": "a.wav",
            "text": "café",
            "duration_s": 0.5,
            "latency_ms": 12.5,
            "words": [{"text": "café", "start_s": 0.0, "end_s": 0.5, "confidence": 0.9}],
            "segments": [{"start_s": 0, "end_s": 0.5, "text": "café"}],
        }
    ]
    assert json.loads(render([], "json")) == []


def test_subtitles_are_for_one_recording() -> None:
    assert render([of(*HELLO)], "srt") == as_srt(HELLO)
    assert render([of(*HELLO)], "vtt") == as_vtt(HELLO)
    with pytest.raises(AmiraError, match="subtitles are for one recording, but there are 2"):
        render([of(), of()], "srt")


def test_unknown_format() -> None:
    with pytest.raises(AmiraError, match="transcript format 'doc' does not exist; have: json, srt, text, vtt"):
        render([of()], "doc")
