"""`amira read` on recordings of any length: one text, with the recording's own times."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from harness.corpus import load_corpus
from pipelines import registry
from pipelines.contracts import SAMPLE_RATE

PAUSE_S = 70.0


@pytest.mark.models
def test_a_page_longer_than_any_model_takes_is_followed_to_its_end(tmp_path: Path) -> None:
    if problem := registry.get("decoder/reading").available():
        pytest.skip(f"{problem.reason} {problem.remedy}")
    by_id = {clip.id: clip for clip in load_corpus("starter").clips}
    read = [by_id["two-cities-1"], by_id["two-cities-2"]]
    sounds = [np.frombuffer(clip.pcm16(), "<i2") for clip in read]
    # The reader stops for more than a minute between two lines.
    page = np.concatenate([sounds[0], np.zeros(int(PAUSE_S * SAMPLE_RATE), np.int16), sounds[1]])
    soundfile.write(tmp_path / "page.wav", page, SAMPLE_RATE)
    expected = " ".join(clip.text for clip in read)
    command = [sys.executable, "-m", "harness.cli", "read", expected, str(tmp_path / "page.wav"), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    words = json.loads(done.stdout)["words"]
    first = len(read[0].text.split())
    assert len(words) == len(expected.split())
    assert sum(word["status"] in ("read", "repeated") for word in words) >= len(words) - 3
    second_line_s = len(sounds[0]) / SAMPLE_RATE + PAUSE_S
    heard = [word for word in words if word["start_s"] is not None]
    assert all(word["end_s"] < second_line_s - PAUSE_S + 1 for word in heard if words.index(word) < first - 1)
    assert abs(max(word["end_s"] for word in heard) - len(page) / SAMPLE_RATE) < 1.5
    assert any(second_line_s - 0.5 < word["start_s"] < second_line_s + 1.5 for word in words[first:] if word in heard)
