"""Assembles the starter corpus: a few minutes of real speech that every machine can have.

The recordings come out of packages (`starter.toml` says which, with hash, licence and transcript of each) and are
written as 16 kHz WAV files with a manifest. A stamp beside them tells whether all of it is in place.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.corpus.fetch import SourceMissingError, fetch, sha256_of
from harness.corpus.load import DESCRIPTION, MANIFEST, STARTER, load_corpus
from harness.corpus.model import Corpus
from harness.corpus.recipe import RECIPE, Cut, Recipe, Recording, Source, load_recipe
from pipelines import paths
from pipelines.contracts import SAMPLE_RATE

_STAMP = "stamp.json"


def build_starter(progress: Callable[[str], None], *, recipe: Path = RECIPE) -> Corpus:
    """Build the starter corpus, unless all of it is in place.

    It is built in a folder of its own and renamed when it is whole, so an interrupted build leaves none. Where apt
    cannot provide the Debian package, the corpus is built without those clips, and its description says so.

    Args:
        progress: Is told what goes on, a line each.
        recipe: The TOML file that says what it is made of.

    Raises:
        AmiraError: A package could not be fetched, or a recording is not the one that the recipe names.
    """
    target = paths.corpora_dir() / STARTER
    recipe_sha256 = sha256_of(recipe)
    problem = _problem(target, recipe_sha256)
    if problem is None:
        progress(f"starter corpus: in place at {target}")
        _remind(target, progress)
        return load_corpus(STARTER)
    progress(f"starter corpus: building, since {problem}")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".starter-") as scratch:
        fresh = Path(scratch) / STARTER
        _assemble(load_recipe(recipe), fresh, Path(scratch) / "packages", recipe_sha256, progress)
        if target.exists():
            target.rename(Path(scratch) / "old")
        fresh.rename(target)
    corpus = load_corpus(STARTER)
    progress(f"starter corpus: {len(corpus.clips)} clips, {sum(clip.duration_s for clip in corpus.clips):.0f} s")
    return corpus


def _problem(target: Path, recipe_sha256: str) -> str | None:
    """Why the corpus must be built; `None` if it is there as its stamp says."""
    stamp_path = target / _STAMP
    if not stamp_path.is_file():
        return f"{target} is not there"
    stamp = _read_stamp(stamp_path)
    if stamp.get("recipe_sha256") != recipe_sha256:
        return "its recipe has changed"
    for name, expected in stamp.get("files", {}).items():
        path = target / name
        if not path.is_file():
            return f"{path} is missing"
        if sha256_of(path) != expected:
            return f"{path} has changed"
    return None


def _read_stamp(path: Path) -> dict[str, Any]:
    try:
        stamp = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return {}
    return stamp if isinstance(stamp, dict) else {}


def _remind(target: Path, progress: Callable[[str], None]) -> None:
    for source, reason in _read_stamp(target / _STAMP).get("missing", {}).items():
        progress(f"starter corpus: without the clips of {source} ({reason}); to try again, delete {target}")


def _assemble(
    recipe: Recipe, folder: Path, packages: Path, recipe_sha256: str, progress: Callable[[str], None]
) -> None:
    """Write the corpus into `folder`, which does not exist yet."""
    folder.mkdir()
    rows: list[dict[str, Any]] = []
    missing: dict[str, str] = {}
    for source in recipe.sources:
        scratch = packages / source.id
        scratch.mkdir(parents=True)
        try:
            found = fetch(source, recipe.of(source), scratch, progress)
        except SourceMissingError as error:
            missing[source.id] = str(error)
            progress(f"starter corpus: going on without the clips of {source.id}: {error}")
            continue
        for recording in recipe.of(source):
            rows += [_write_clip(folder, source, recording, cut, found[recording.path]) for cut in recording.clips]
        shutil.rmtree(scratch)
    manifest = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (folder / MANIFEST).write_text(manifest, encoding="utf-8")
    (folder / DESCRIPTION).write_text(_description(missing), encoding="utf-8")
    files = {path.name: sha256_of(path) for path in sorted(folder.iterdir())}
    stamp = {"schema_version": 1, "recipe_sha256": recipe_sha256, "missing": missing, "files": files}
    (folder / _STAMP).write_text(json.dumps(stamp, indent=1) + "\n", encoding="utf-8")


def _write_clip(folder: Path, source: Source, recording: Recording, cut: Cut, path: Path) -> dict[str, Any]:
    """Write one clip as WAV and return its line of the manifest."""
    from pipelines.audio.read import read_audio

    audio = read_audio(path, start_s=cut.start_s, end_s=cut.end_s)
    name = f"{cut.id}.wav"
    with wave.open(str(folder / name), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(audio.pcm16)
    return {
        "id": cut.id,
        "audio": name,
        "text": cut.text,
        "speaker": recording.speaker,
        "age": None,
        "duration_s": audio.duration_s,
        "corpus": STARTER,
        "licence": source.licence,
        "source": f"{source.package} {source.version}: {recording.path}",
        "provenance": recording.provenance,
        "checked": cut.checked or recording.checked,
    }


def _description(missing: dict[str, str]) -> str:
    text = "Real recordings out of packages: read prose, card names, commands and digits, by several speakers."
    for source, reason in missing.items():
        text += f" Built without the clips of {source}: {reason}."
    return text + "\n"
