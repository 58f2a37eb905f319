"""Where built things live. The repository root, unless `AMIRA_HOME` names another folder."""

import os
from pathlib import Path


def home() -> Path:
    """The folder that holds `build/` and `reports/`: `AMIRA_HOME`, else the checkout that this file is in."""
    configured = os.environ.get("AMIRA_HOME")
    return Path(configured).expanduser() if configured else Path(__file__).resolve().parent.parent


def models_dir() -> Path:
    """Folder of built models, one sub-folder each (`amira models build`)."""
    return home() / "build" / "models"


def model_repo_dir() -> Path:
    """Folder of the weights that come with the project, one sub-folder for each model."""
    return Path(__file__).resolve().parent.parent / "model-repo"


def engines_dir() -> Path:
    """Folder of TensorRT engines, one file for each model, version, GPU and profile."""
    return home() / "build" / "engines"


def corpora_dir() -> Path:
    """Folder of assembled corpora (`amira corpus build`)."""
    return home() / "build" / "corpora"


def graphs_dir() -> Path:
    """Folder of decoding graphs, one sub-folder each (`amira graph build`)."""
    return home() / "build" / "graphs"


def languages_dir() -> Path:
    """Folder of language models that were trained or converted here, one ARPA file each."""
    return home() / "build" / "languages"


def libraries_dir() -> Path:
    """Folder of native libraries that were fetched without installing them, one sub-folder each."""
    return home() / "build" / "libraries"


def sessions_dir() -> Path:
    """Folder of the compiled session logic, one sub-folder for each form of its sources (`amira setup sessions`)."""
    return home() / "build" / "sessions"


def runs_dir() -> Path:
    """Folder of benchmark runs, one sub-folder each."""
    return home() / "reports" / "runs"
