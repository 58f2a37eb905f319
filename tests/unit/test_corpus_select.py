"""Selecting a part of a corpus."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.corpus import Clip, Corpus
from pipelines.errors import AmiraError


def clip(number: int, corpus: str = "c", speaker: str | None = None, seconds: float = 2.0) -> Clip:
    return Clip(f"{corpus}-{number}", corpus, Path("a.wav"), "text", seconds, speaker=speaker)


def uneven() -> Corpus:
    """One corpus of 90 clips by two speakers, one of 10 clips by five."""
    large = [clip(n, "large", f"s{n % 10 == 0}") for n in range(90)]
    small = [clip(n, "small", f"t{n % 5}") for n in range(10)]
    return Corpus("both", (*large, *small))


def test_all_without_limits() -> None:
    corpus = uneven()
    assert corpus.select() == corpus


def test_spread_over_corpora_and_speakers() -> None:
    chosen = uneven().select(max_clips=20).clips
    assert Counter(one.corpus for one in chosen) == {"large": 10, "small": 10}
    assert Counter(one.speaker for one in chosen if one.corpus == "large") == {"sTrue": 5, "sFalse": 5}
    assert Counter(one.speaker for one in chosen if one.corpus == "small") == {f"t{n}": 2 for n in range(5)}


def test_same_seed_same_clips_in_the_order_of_the_corpus() -> None:
    corpus = uneven()
    first, again, other = corpus.select(12), corpus.select(12), corpus.select(12, seed=1)
    assert first == again
    assert first != other
    order = [one.id for one in corpus.clips]
    assert [order.index(one.id) for one in first.clips] == sorted(order.index(one.id) for one in first.clips)


def test_a_smaller_part_is_within_a_larger_one() -> None:
    few, many = ({one.id for one in uneven().select(count).clips} for count in (5, 15))
    assert few < many


@given(st.lists(st.floats(0.1, 30), min_size=1, max_size=30), st.integers(1, 40), st.floats(0.1, 200))
def test_limits_hold(seconds: list[float], max_clips: int, max_seconds: float) -> None:
    corpus = Corpus("c", tuple(clip(n, seconds=length) for n, length in enumerate(seconds)))
    if min(seconds) > max_seconds:
        with pytest.raises(AmiraError, match=r"no clip within .* its shortest is"):
            corpus.select(max_clips, max_seconds)
        return
    chosen = corpus.select(max_clips, max_seconds).clips
    assert 1 <= len(chosen) <= max_clips
    assert sum(one.duration_s for one in chosen) <= max_seconds + 1e-6
    if len(chosen) < min(max_clips, len(seconds)):  # then nothing that was left would have fitted
        left = min(one.duration_s for one in corpus.clips if one not in chosen)
        assert sum(one.duration_s for one in chosen) + left > max_seconds


def test_no_clip_at_all() -> None:
    with pytest.raises(AmiraError, match="Raise the limits"):
        uneven().select(max_clips=0)
