"""The compiled form of the session logic: what every message goes through, made into machine code by mypyc.

The same source runs in two forms. Interpreted it is what a checkout has. Compiled (`build`, half a minute, needs a C
compiler) it lies in a folder that is named for the sources that it was made of, so an edited source never meets machine
code of an older one. A process chooses before it imports any of the modules, and has one form until it ends.
"""

from __future__ import annotations

import hashlib
import importlib.util
import platform
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader, ModuleSpec
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType

from pipelines import debian
from pipelines.errors import AmiraError
from pipelines.paths import sessions_dir
from pipelines.registry import Unavailable

MODULES = (
    "pipelines.agreement",
    "pipelines.audio.endpoint",
    "pipelines.audio.ingest",
    "pipelines.audio.tape",
    "pipelines.batcher",
    "pipelines.session",
    "server.engine",
)
GROUP = "amira"
"""Machine code of all of them is in one library, so that they call each other directly; this names it."""
SETUP = "amira setup sessions"
FORMS = ("auto", "compiled", "interpreted")
_ROOT = Path(__file__).resolve().parent.parent
_COMPILE = Path(__file__).with_name("compiled_setup.py")


class _Finder(MetaPathFinder):
    """Finds the compiled modules before the path is looked at."""

    def __init__(self, files: dict[str, Path]) -> None:
        self.files = files

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        file = self.files.get(fullname)
        if file is None:
            return None
        return importlib.util.spec_from_file_location(fullname, file, loader=ExtensionFileLoader(fullname, str(file)))


def folder() -> Path:
    """Where the compiled form of these very sources lies, for this very interpreter, or would."""
    digest = hashlib.sha256(f"{sysconfig.get_config_var('EXT_SUFFIX')} {platform.machine()}".encode())
    for name in MODULES:
        digest.update(_source(name).read_bytes())
    digest.update(_COMPILE.read_bytes())
    return sessions_dir() / digest.hexdigest()[:16]


def problem() -> Unavailable | None:
    """Why the compiled form cannot be used as things are; `None` if it can."""
    if folder().is_dir():
        return None
    others = sessions_dir().is_dir() and any(sessions_dir().iterdir())
    reason = "the compiled session logic is of other sources or another Python" if others else "it is not compiled here"
    return Unavailable(reason, f"Compile it (half a minute): {SETUP}")


def use(form: str) -> bool:
    """Have this process take one form of the modules.

    Args:
        form: `compiled`, `interpreted`, or `auto`: compiled if it is there.

    Returns:
        Whether they are compiled.

    Raises:
        AmiraError: It is to be compiled, and is not.
        RuntimeError: One of the modules is imported already.
    """
    if form not in FORMS:
        raise ValueError(f"'{form}' is none of {', '.join(FORMS)}")
    if early := [name for name in MODULES if name in sys.modules]:
        raise RuntimeError(f"{early[0]} was imported before its form was chosen")
    found = None if form == "interpreted" else problem()
    if form == "compiled" and found is not None:
        raise AmiraError(f"sessions cannot run compiled: {found.reason}. {found.remedy}")
    if form == "interpreted" or found is not None:
        return False
    sys.meta_path.insert(0, _Finder(_files(folder())))
    return True


def active() -> bool:
    """Whether this process runs the compiled form."""
    return any(isinstance(finder, _Finder) for finder in sys.meta_path)


def build(progress: Callable[[str], None], force: bool = False) -> Path:
    """Compile; what is there already is left as it is, what was made of other sources goes.

    Raises:
        AmiraError: There is no C compiler or no mypyc, or they fail.
    """
    target = folder()
    if target.is_dir() and not force:
        progress(f"the compiled session logic is there: {target}")
        return target
    if importlib.util.find_spec("mypyc") is None or importlib.util.find_spec("setuptools") is None:
        raise AmiraError("sessions cannot be compiled: mypyc is missing. Install it: pip install 'amira-asr[compile]'")
    sessions_dir().mkdir(parents=True, exist_ok=True)
    progress("compiling the session logic (half a minute)")
    with TemporaryDirectory(dir=sessions_dir(), prefix=".making-") as scratch:
        made = Path(scratch) / "made"
        command = [
            sys.executable,
            str(_COMPILE),
            GROUP,
            str(made),
            *(str(_source(name).relative_to(_ROOT)) for name in MODULES),
        ]
        done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            raise AmiraError(
                f"sessions cannot be compiled: {debian.last_words(done)}. It takes a C compiler and Python's headers "
                f"(Debian and Ubuntu: apt-get install gcc libc6-dev python3-dev), then: {SETUP}"
            )
        for old in (path for path in sessions_dir().iterdir() if path != Path(scratch)):
            shutil.rmtree(old, ignore_errors=True)
        made.rename(target)
    progress(f"the compiled session logic: {target}")
    return target


def _source(name: str) -> Path:
    return _ROOT.joinpath(*name.split(".")).with_suffix(".py")


def _files(at: Path) -> dict[str, Path]:
    suffix = EXTENSION_SUFFIXES[0]
    files = {name: at.joinpath(*name.split(".")[:-1], name.rpartition(".")[2] + suffix) for name in MODULES}
    return {f"{GROUP}__mypyc": at / f"{GROUP}__mypyc{suffix}"} | files
