"""Finds a corpus by name or path."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from harness.corpus.folder import read_folder
from harness.corpus.manifest import read_manifest
from harness.corpus.model import Clip, Corpus
from pipelines import paths
from pipelines.errors import AmiraError, unknown

STARTER = "starter"
MANIFEST = "manifest.jsonl"
DESCRIPTION = "description.txt"
SHARED_VARIABLE = "AMIRA_CORPORA"
_SHARED = "shared:"
_REMEDY = "List them with: amira corpus list. A folder or a JSON Lines manifest is named by its path."


def load_corpus(name_or_path: str, *, split: str | None = None) -> Corpus:
    """Load a corpus.

    Args:
        name_or_path: One of

            - the name of a corpus in the build folder, such as `starter`;
            - a folder of audio (`X.txt` beside `X.wav`, or a LibriSpeech tree with `*.trans.txt`);
            - a JSON Lines manifest, or a folder with one;
            - `shared:dev`, or `shared:dev/an4` for one corpus of it: the manifest `dev.jsonl` in the folder that
              `AMIRA_CORPORA` names, else in `shared/corpora` beside the checkout.
        split: Which part: of a folder with several manifests the one of that name, of a tree that sub-folder, of
            a manifest the lines of that split.

    Raises:
        AmiraError: No such corpus, no usable clip in it, or something in it is broken.
    """
    if name_or_path.startswith(_SHARED):
        return _load_shared(name_or_path, split)
    built = paths.corpora_dir() / name_or_path
    if name_or_path == STARTER and not (built / MANIFEST).is_file():
        raise AmiraError(f"corpus 'starter' is not built: {built} is not there. Build it with: amira corpus build")
    if name_or_path in _built_names():
        return _load_path(name_or_path, built, split)
    path = Path(name_or_path).expanduser()
    if not path.exists():
        raise unknown("corpus", name_or_path, corpus_names(), _REMEDY)
    return _load_path(path.resolve().stem, path, split)


def corpus_names() -> list[str]:
    """The names that `load_corpus` knows here: `starter`, other built corpora, and the shared ones."""
    names = {STARTER, *_built_names()}
    for manifest in sorted(shared_dir().glob("*.jsonl")):
        names.add(f"{_SHARED}{manifest.stem}")
    return sorted(names)


def shared_dir() -> Path:
    """The folder of development corpora: `AMIRA_CORPORA`, else `shared/corpora` beside the home folder."""
    configured = os.environ.get(SHARED_VARIABLE)
    return Path(configured).expanduser() if configured else paths.home().parent / "shared" / "corpora"


def _built_names() -> list[str]:
    return [path.parent.name for path in paths.corpora_dir().glob(f"*/{MANIFEST}") if path.parent.name[0] != "."]


def _load_shared(name: str, split: str | None) -> Corpus:
    wanted, _, only = name.removeprefix(_SHARED).partition("/")
    folder = shared_dir()
    if not folder.is_dir():
        raise AmiraError(
            f"corpus '{name}' is not here: there is no folder {folder}. "
            f"Set {SHARED_VARIABLE} to the folder that holds its manifests, or use: {STARTER}"
        )
    manifest = folder / f"{wanted}.jsonl"
    if not manifest.is_file():
        have = [f"{_SHARED}{path.stem}" for path in folder.glob("*.jsonl")]
        raise unknown("corpus", f"{_SHARED}{wanted}", have, _REMEDY)
    clips = read_manifest(manifest, corpus=wanted, split=split)
    if only:
        have = sorted({clip.corpus for clip in clips})
        clips = [clip for clip in clips if clip.corpus == only]
        if not clips:
            raise unknown("corpus", name, [f"{_SHARED}{wanted}/{corpus}" for corpus in have], _REMEDY)
    return _corpus(name, clips, f"Lines of {manifest}")


def _load_path(name: str, path: Path, split: str | None) -> Corpus:
    if path.is_file():
        return _load_manifest(name, path, split)
    manifest = _manifest_in(path, split)
    if manifest is not None:
        return _load_manifest(name, manifest, split)
    root = path
    if split is not None:
        root = path / split
        if not root.is_dir():
            have = [entry.name for entry in path.iterdir() if entry.is_dir()]
            raise unknown(f"split of corpus {path}", split, have, "A split of a folder is a sub-folder.")
    clips, note = read_folder(root, corpus=name)
    return _corpus(name, clips, note)


def _manifest_in(folder: Path, split: str | None) -> Path | None:
    """The manifest of a folder, if it has one."""
    manifests = {path.stem: path for path in sorted(folder.glob("*.jsonl"))}
    if not manifests:
        return None
    if split in manifests:
        return manifests[split]
    if "manifest" in manifests or len(manifests) == 1:
        return manifests.get("manifest") or next(iter(manifests.values()))
    if split is not None:
        raise unknown(f"split of corpus {folder}", split, manifests, "A split is a manifest <split>.jsonl there.")
    raise AmiraError(
        f"folder {folder} has several manifests: {', '.join(sorted(manifests))}. "
        "Name one by its path, or choose with a split."
    )


def _load_manifest(name: str, manifest: Path, split: str | None) -> Corpus:
    # A manifest that is itself the split (dev.jsonl) holds nothing else.
    clips = read_manifest(manifest, corpus=name, split=None if manifest.stem == split else split)
    written = manifest.parent / DESCRIPTION
    description = written.read_text(encoding="utf-8").strip() if written.is_file() else f"Lines of {manifest}"
    of_split = "" if split is None else f" of split '{split}'"
    return _corpus(name, clips, description, f"manifest {manifest} has no line{of_split}")


def _corpus(name: str, clips: Iterable[Clip], description: str, why_empty: str = "") -> Corpus:
    clips = tuple(clips)
    if not clips:
        raise AmiraError(
            f"corpus '{name}' has no usable clip: {why_empty or description}. It needs audio files "
            "(WAV, FLAC, Ogg, Opus, MP3) with X.txt beside X.wav or *.trans.txt, or a JSON Lines manifest."
        )
    return Corpus(name, clips, description)
