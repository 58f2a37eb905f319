"""Triton's private environment: the real server out of a package, its Python backend, ONNX Runtime for it.

It is separate because this version of the Python backend needs numpy 1, and everything else here runs on numpy 2.
`amira setup triton` makes it in `build/triton`, from `requirements/triton.txt`, every file checked by hash.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pipelines import debian
from pipelines.errors import AmiraError
from pipelines.paths import home
from pipelines.registry import Unavailable

SETUP = "amira setup triton"
LOCK = Path(__file__).resolve().parent.parent.parent / "requirements" / "triton.txt"
BACKEND = Path(__file__).parent / "backend" / "model.py"
PYTHONS = ((3, 11), (3, 12))
"""Versions for which the package has a stub and numpy 1.26 has a wheel."""
MIN_GLIBC = (2, 35)
_MARK = "environment.sha256"


@dataclass(frozen=True, slots=True)
class Environment:
    """Where the parts of the server lie.

    Attributes:
        server: The `tritonserver` program.
        backends: Its backends: `python`, and `onnxruntime` on top of it.
        caches: Its cache plug-ins.
        libraries: Folders for the dynamic linker, in order.
        programs: Folder that must come first in `PATH`: its `python3` is the interpreter of the backends.
    """

    server: Path
    backends: Path
    caches: Path
    libraries: tuple[Path, ...]
    programs: Path

    def variables(self) -> dict[str, str]:
        """The environment variables of the server's process."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
        # A preloaded allocator belongs to the pipeline that asked for it, not to the server.
        kept.pop("LD_PRELOAD", None)
        return {
            # A step reads all weights: on pages of 4 KiB it would empty the address cache for everything after it.
            "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
            **kept,
            "LD_LIBRARY_PATH": ":".join(map(str, self.libraries)),
            "PATH": f"{self.programs}:{os.environ.get('PATH', os.defpath)}",
        }


def folder() -> Path:
    """Where everything of Triton lies that is made here."""
    return home() / "build" / "triton"


def problem() -> Unavailable | None:
    """Why the server cannot run on this machine as it is; `None` if it can."""
    return _machine_problem() or _setup_problem()


def _machine_problem() -> Unavailable | None:
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return Unavailable(
            f"the server's package is for Linux on x86-64, this is {sys.platform} on {platform.machine()}",
            "Run it on such a machine, or name a Triton elsewhere: option url of the connection.",
        )
    name, version = platform.libc_ver()
    if name != "glibc" or tuple(map(int, version.split(".")[:2])) < MIN_GLIBC:
        wanted = ".".join(map(str, MIN_GLIBC))
        return Unavailable(f"the server needs glibc {wanted}, this is {name} {version}", "Debian 12 has it, and newer.")
    if sys.version_info[:2] not in PYTHONS:
        have = " or ".join(".".join(map(str, version)) for version in PYTHONS)
        return Unavailable(
            f"its Python backend needs Python {have}, this is {platform.python_version()}",
            f"Set up with another: make PYTHON=python3.{PYTHONS[0][1]} setup",
        )
    return None


def _setup_problem() -> Unavailable | None:
    mark = folder() / _MARK
    if not mark.is_file():
        return Unavailable("Triton's environment is not set up", f"Set it up (about a minute): {SETUP}")
    if mark.read_text("ascii").strip() != _digest():
        return Unavailable("Triton's environment is of another version of this checkout", f"Make it anew: {SETUP}")
    return None


def find() -> Environment:
    """The environment.

    Raises:
        AmiraError: It is not there, or cannot run here.
    """
    if (found := problem()) is not None:
        raise AmiraError(f"Triton cannot run here: {found.reason}. {found.remedy}")
    return _environment(folder())


def _environment(at: Path) -> Environment:
    packages = _site_packages(at)
    server = packages / "pytriton" / "tritonserver"
    libraries = (packages / "nvidia_pytriton.libs", at / "libraries", _library_folder())
    return Environment(
        server / "bin" / "tritonserver", at / "backends", server / "caches", libraries, at / "env" / "bin"
    )


def build(progress: Callable[[str], None], force: bool = False) -> Path:
    """Make the environment; one that is whole and of this version is left as it is.

    Raises:
        AmiraError: This machine cannot run it, or a package cannot be installed.
    """
    if (found := _machine_problem()) is not None:
        raise AmiraError(f"Triton cannot run here: {found.reason}. {found.remedy}")
    target = folder()
    if not force and _setup_problem() is None:
        progress(f"Triton's environment is there: {target}")
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    (target / _MARK).unlink(missing_ok=True)
    for part in ("env", "backends", "libraries"):
        shutil.rmtree(target / part, ignore_errors=True)
    # The environment knows its own path, so it is made in place; only the mark at the end says that it is whole.
    progress("installing Triton and its Python backend (about a minute)")
    _install(target / "env")
    _add_python_library(target / "libraries", progress)
    _add_backends(target)
    (target / _MARK).write_text(_digest() + "\n", "ascii")
    progress(f"Triton's environment: {target}")
    return target


def _install(env: Path) -> None:
    _run([sys.executable, "-m", "venv", str(env)], "a virtual environment cannot be made")
    pip = [str(env / "bin" / "python"), "-m", "pip", "--quiet", "--disable-pip-version-check"]
    install = ["install", "--no-deps", "--require-hashes", "--only-binary=:all:", "-r", str(LOCK)]
    _run([*pip, *install], "Triton's packages cannot be installed")


def _run(command: list[str], what: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise AmiraError(f"{what}: {debian.last_words(done)}. Look at the network and at disk space, then: {SETUP}")


def _add_backends(target: Path) -> None:
    server = _site_packages(target) / "pytriton" / "tritonserver"
    python = target / "backends" / "python"
    shutil.copytree(server / "backends" / "python", python)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = python / "triton_python_backend_stub"
    shutil.copy2(server / "python_backend_stubs" / version / stub.name, stub)
    stub.chmod(0o755)
    runtime = target / "backends" / "onnxruntime"
    runtime.mkdir()
    (runtime / "model.py").symlink_to(BACKEND)  # ours, of this very checkout


def _add_python_library(target: Path, progress: Callable[[str], None]) -> None:
    """See that the interpreter's own shared library is at hand: without it the stub takes another one, or none."""
    target.mkdir(parents=True)
    name = f"libpython{sys.version_info.major}.{sys.version_info.minor}.so.1.0"
    if (_library_folder() / name).is_file():
        return
    if sys.base_prefix != "/usr":
        raise AmiraError(
            f"this Python ({sys.base_prefix}) was built without its shared library {name}, which Triton's Python "
            "backend needs. Use one that has it: Debian's python3, or a build with --enable-shared"
        )
    package = name.partition(".so")[0]
    progress(f"fetching the package {package}")
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".fetch-") as scratch:
        archive = debian.download(package, Path(scratch), progress)
        root = Path(scratch) / "root"
        root.mkdir()
        debian.unpack(archive, root)
        inside = next((path for path in root.rglob(name) if path.is_file()), None)
        if inside is None:
            raise debian.UnobtainableError(f"{archive.name} holds no {name}. Install {package} yourself")
        shutil.copy2(inside, target / name)


def _library_folder() -> Path:
    return Path(sysconfig.get_config_var("LIBDIR") or "/usr/lib")


def _site_packages(at: Path) -> Path:
    return at / "env" / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"


def _digest() -> str:
    """What the environment is made from: the lock file, the interpreter, the place of the checkout."""
    digest = hashlib.sha256(LOCK.read_bytes())
    digest.update(f"{sys.base_prefix} {platform.python_version()} {BACKEND}".encode())
    return digest.hexdigest()
