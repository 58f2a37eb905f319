"""The committed recipe of the starter corpus, and the corpus that was built from it where it was."""

import importlib.metadata
import json
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest

from harness.corpus import Corpus, load_corpus
from harness.corpus.fetch import REQUIREMENTS, fetch, sha256_of
from harness.corpus.recipe import RECIPE, Recipe, load_recipe
from harness.metrics.normalise import normalise
from pipelines import paths
from pipelines.audio.segments import speech_segments
from pipelines.audio.vad import speech_probabilities
from pipelines.errors import AmiraError


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return load_recipe()


def test_every_recording_has_its_source_and_every_clip_its_id(recipe: Recipe) -> None:
    sources = {source.id for source in recipe.sources}
    ids = [clip.id for file in recipe.files for clip in file.clips]
    assert len(set(ids)) == len(ids) >= 20
    for file in recipe.files:
        assert file.source in sources
        assert re.fullmatch(r"[0-9a-f]{64}", file.sha256)
        assert file.speaker and file.provenance and file.checked
    for source in recipe.sources:
        assert recipe.of(source), f"nothing is taken out of {source.id}"
        assert source.licence


def test_every_clip_has_words_and_the_cuts_of_a_file_follow_one_another(recipe: Recipe) -> None:
    for file in recipe.files:
        end_s = 0.0
        for clip in file.clips:
            assert normalise(clip.text)
            assert clip.start_s >= end_s
            if clip.end_s is not None:
                assert 1 <= clip.end_s - clip.start_s <= 15
                end_s = clip.end_s


def test_versions_are_those_of_the_requirements(recipe: Recipe) -> None:
    pinned = dict(re.findall(r"^([\w-]+)==([\w.]+)", REQUIREMENTS.read_text(), re.MULTILINE))
    for source in recipe.sources:
        if source.kind == "wheel":
            assert pinned[source.package] == source.version
        elif source.kind == "installed":
            assert importlib.metadata.version(source.package) == source.version
        else:
            assert source.sha256


def test_the_installed_recordings_are_those_of_the_recipe(recipe: Recipe, tmp_path: Path) -> None:
    for source in recipe.sources:
        if source.kind == "installed":
            found = fetch(source, recipe.of(source), tmp_path, print)
            assert all(path.is_file() for path in found.values())


def test_a_recipe_names_its_wrong_key(tmp_path: Path) -> None:
    text = RECIPE.read_text().replace("checked =", "cheked =")
    assert tomllib.loads(text)
    (tmp_path / "starter.toml").write_text(text)
    with pytest.raises(AmiraError, match="cheked"):
        load_recipe(tmp_path / "starter.toml")


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    if not (paths.corpora_dir() / "starter" / "manifest.jsonl").is_file():
        pytest.skip("the starter corpus is not built; build it with: amira corpus build")
    stamp = json.loads((paths.corpora_dir() / "starter" / "stamp.json").read_text())
    if stamp["recipe_sha256"] != sha256_of(RECIPE):
        pytest.skip("the starter corpus is of an older recipe; build it with: amira corpus build")
    return load_corpus("starter")


def test_the_built_corpus_is_what_the_recipe_says(corpus: Corpus, recipe: Recipe) -> None:
    texts = {clip.id: clip.text for file in recipe.files for clip in file.clips}
    assert {clip.id: clip.text for clip in corpus.clips}.items() <= texts.items()
    if "Built without" not in corpus.description:
        assert len(corpus.clips) == len(texts)
        assert len({clip.speaker for clip in corpus.clips}) >= 7


def test_every_clip_holds_speech_and_begins_and_ends_in_a_pause(corpus: Corpus) -> None:
    for clip in corpus.clips:
        pcm16 = clip.pcm16()
        assert len(pcm16) / 32_000 == pytest.approx(clip.duration_s, abs=1e-3)
        assert speech_segments(pcm16), f"{clip.id} holds no speech"
        if clip.id.startswith("two-cities"):  # the recording that is cut
            probabilities = speech_probabilities(pcm16)
            assert np.max(probabilities[[0, 1, -2]]) < 0.5, f"{clip.id} is cut inside a word"
