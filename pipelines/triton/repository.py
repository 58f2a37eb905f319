"""Filling the model repository: what `artefacts.toml` names goes into the version folders of its models."""

from __future__ import annotations

import os
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from pipelines.errors import AmiraError, unknown
from pipelines.paths import home
from pipelines.triton.model_config import parse

ARTEFACTS = "artefacts.toml"
VERSION = "1"
MODEL_FILE = "model.onnx"


class Artefact(BaseModel):
    """What a model of the repository is filled with.

    Attributes:
        model: A built model and `file` in it, which becomes the model's ONNX file; or
        graph: the name of a graph that is written on the spot.
        beside: Further files of the built model that go next to the ONNX file.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = ""
    file: str = ""
    graph: str = ""
    beside: tuple[str, ...] = ()


def artefacts(repository: Path) -> dict[str, Artefact]:
    """The artefacts of a repository, by model.

    Raises:
        AmiraError: The list is not there, is not TOML, or says something unknown.
    """
    path = repository / ARTEFACTS
    try:
        return {name: Artefact(**entry) for name, entry in tomllib.loads(path.read_text("utf-8")).items()}
    except (OSError, ValidationError, ValueError, TypeError) as error:
        raise AmiraError(
            f"the list of artefacts {path} cannot be used: {error}. Mend it, or check it out again"
        ) from error


def served() -> Path:
    """The repository that is served: the checkout's own, or its copy under `AMIRA_HOME` where that is elsewhere."""
    return home() / "model-repo"


def fill(committed: Path, repository: Path, models_dir: Path, progress: Callable[[str], None]) -> list[str]:
    """Fill a repository; models whose built model is not there are left out, and `progress` says so.

    Args:
        committed: The repository as it is committed.
        repository: The one to fill: the same, or a folder that becomes a copy of it.
        models_dir: The folder of built models.
        progress: Hears what happens.

    Returns:
        The models that are filled now.

    Raises:
        AmiraError: The list of artefacts is wrong.
    """
    if repository.resolve() != committed.resolve():
        shutil.copytree(
            committed,
            repository,
            dirs_exist_ok=True,
            ignore=shutil.ignore_patterns("*.onnx", "*.safetensors", "tokenizer.bin", "tokens.txt"),
        )
    filled = []
    for name, artefact in artefacts(repository).items():
        folder = repository / name / VERSION
        source = models_dir / artefact.model / artefact.file
        files = [*([artefact.file] if artefact.file else []), *artefact.beside]
        absent = [file for file in files if not (models_dir / artefact.model / file).is_file()]
        if absent:
            progress(f"Triton's {name}: left out, {artefact.model} has no {absent[0]} yet")
            continue
        folder.mkdir(parents=True, exist_ok=True)
        if artefact.graph:
            _write_graph(artefact.graph, folder / MODEL_FILE)
        elif artefact.file:
            _link(source, folder / MODEL_FILE)
        for extra in artefact.beside:
            _link(models_dir / artefact.model / extra, folder / extra)
        filled.append(name)
    progress(f"Triton's model repository: {len(filled)} models filled")
    return filled


def servable(repository: Path) -> list[str]:
    """The models of a repository that can be loaded: they have a configuration, what it runs and every part.

    Raises:
        AmiraError: The list of artefacts or a configuration is wrong.
    """
    wanted = artefacts(repository) if (repository / ARTEFACTS).is_file() else {}
    configs = {path.parent.name: parse(path) for path in sorted(repository.glob("*/config.pbtxt"))}
    whole = {name for name in configs if _is_whole(repository / name, wanted.get(name, Artefact()))}

    def runs(name: str) -> bool:
        steps = configs[name].ensemble_scheduling.step
        return all(step.model_name in whole for step in steps) if steps else name in whole

    return [name for name in configs if runs(name)]


def _is_whole(folder: Path, artefact: Artefact) -> bool:
    """Whether some version of a model has files, and the first one all that it is to be filled with."""
    versions = [path for path in folder.iterdir() if path.is_dir() and path.name.isdecimal() and any(path.iterdir())]
    needed = [*([MODEL_FILE] if artefact.file or artefact.graph else []), *artefact.beside]
    return bool(versions) and all((folder / VERSION / name).is_file() for name in needed)


def _link(source: Path, target: Path) -> None:
    """A second name for the same bytes where that is possible: a container that mounts the repository has them too."""
    if target.exists() and target.samefile(source):
        return
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        os.link(source, beside)
    except OSError:
        shutil.copy2(source, beside)
    beside.replace(target)


def _write_graph(name: str, path: Path) -> None:
    from pipelines.triton import graphs

    writers: dict[str, Callable[[], Any]] = {"preprocessor": graphs.preprocessor}
    if name not in writers:
        raise unknown("graph", name, writers, f"Mend it in {ARTEFACTS}.")
    path.write_bytes(writers[name]().SerializeToString())
