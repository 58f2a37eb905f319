"""Listening conditions: what they do to a clip, and that a plan can ask for them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from harness.corpus.condition import Condition, pink_noise
from harness.corpus.model import Clip, Corpus
from harness.plan import parse_plan
from pipelines.errors import AmiraError

PCM = (3_000 * np.sin(np.arange(16_000) / 9)).astype("<i2").tobytes()


def numbers(pcm: bytes) -> np.ndarray:
    return np.frombuffer(pcm, "<i2").astype(float)


@pytest.mark.parametrize("snr_db", [20.0, 5.0, -5.0])
def test_noise_is_as_far_below_the_clip_as_it_says(snr_db: float) -> None:
    noisy = Condition(name="n", snr_db=snr_db).apply(PCM, "clip")
    noise = numbers(noisy) - numbers(PCM)
    found = 10 * np.log10(np.mean(numbers(PCM) ** 2) / np.mean(noise**2))
    assert found == pytest.approx(snr_db, abs=0.05)


def test_each_clip_has_its_own_noise_and_always_the_same() -> None:
    condition = Condition(name="n", snr_db=10)
    assert condition.apply(PCM, "a") == condition.apply(PCM, "a") != condition.apply(PCM, "b")


def test_the_noise_is_pink() -> None:
    power = np.abs(np.fft.rfft(pink_noise(1 << 16, 0))) ** 2
    octaves = [power[1 << k : 2 << k].mean() for k in range(6, 14)]
    falls = 10 * np.log10(np.array(octaves[:-1]) / octaves[1:])
    np.testing.assert_allclose(falls, 3.01, atol=1)


def test_level_and_clipping() -> None:
    soft = numbers(Condition(name="s", level_db=-20).apply(PCM, "a"))
    np.testing.assert_allclose(soft, numbers(PCM) / 10, atol=0.51)
    loud = numbers(Condition(name="l", level_db=40).apply(PCM, "a"))
    assert (loud.min(), loud.max()) == (-32_768, 32_767)
    assert Condition(name="c").apply(PCM, "a") is PCM
    assert Condition(name="n", snr_db=0).apply(b"", "a") == b""


def test_a_corpus_under_conditions() -> None:
    clip = Clip(id="a", corpus="c", audio=Path("a.wav"), text="x", duration_s=1.0, age=9)
    corpus = Corpus("c", (clip,))
    under = corpus.under([Condition(name="clean"), Condition(name="noise", snr_db=5)])
    assert under.clips[0] is clip
    assert (under.clips[1].id, under.clips[1].corpus, under.clips[1].age) == ("a@noise", "c@noise", 9)
    assert corpus.under([]) is corpus


PLAN = """
name = "p"
title = "P"
corpus = "starter"
[[condition]]
name = "clean"
[[condition]]
{noise}
[[case]]
id = "a"
title = "A"
variants = {{ peer = "moonshine-cpp" }}
"""


def test_a_plan_with_conditions() -> None:
    plan = parse_plan(PLAN.format(noise='name = "noise-10db"\nsnr_db = 10'), Path("plan.toml"))
    assert plan.condition == (Condition(name="clean"), Condition(name="noise-10db", snr_db=10))


@pytest.mark.parametrize(
    ("noise", "message"),
    [
        ('name = "clean"', "two conditions have the same name"),
        ('name = "x"\nsnr = 3', "key 'snr' does not exist; have: level_db, name, snr_db"),
        ('name = "x"\nsnr_db = 500', "condition.1.snr_db = 500"),
    ],
)
def test_conditions_that_cannot_be(noise: str, message: str) -> None:
    with pytest.raises(AmiraError, match=message):
        parse_plan(PLAN.format(noise=noise), Path("plan.toml"))


def test_names_are_plain() -> None:
    with pytest.raises(ValidationError):
        Condition(name="No/slash")
