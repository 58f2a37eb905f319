"""The session logic compiled: made once, never of other sources, and the same to everything that tests it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines import compiled
from pipelines.errors import AmiraError
from pipelines.paths import home

ROOT = Path(__file__).resolve().parents[2]
TESTS = ("test_session.py", "test_batcher.py", "test_server_engine.py")
USE = "from pipelines import compiled; print(compiled.use({form!r}), compiled.active())"


def in_a_process(form: str, then: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", f"{USE.format(form=form)}\n{then}"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where nothing was compiled yet."""
    monkeypatch.setenv("AMIRA_HOME", str(tmp_path))
    return tmp_path / "build" / "sessions"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled form; that of the checkout where it is there."""
    if compiled.problem() is not None:
        if shutil.which("gcc") is None and shutil.which("cc") is None:
            pytest.skip("there is no C compiler")
        compiled.build(print)
    return compiled.folder()


def test_not_compiled_is_interpreted_unless_it_was_asked_for(elsewhere: Path) -> None:
    assert in_a_process("auto").stdout.split() == ["False", "False"]
    asked = in_a_process("compiled")
    assert asked.returncode == 1
    assert "sessions cannot run compiled: it is not compiled here. Compile it" in asked.stderr


def test_what_was_made_of_other_sources_is_not_used(elsewhere: Path) -> None:
    (elsewhere / "0123456789abcdef").mkdir(parents=True)
    problem = compiled.problem()
    assert problem is not None
    assert "other sources" in problem.reason
    assert in_a_process("auto").stdout.split() == ["False", "False"]


def test_folder_depends_on_every_source(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = {compiled.folder()}
    for name in compiled.MODULES:
        changed = tmp_path / f"{name}.py"
        changed.write_bytes(compiled._source(name).read_bytes() + b"\n")
        with monkeypatch.context() as patch:
            source = compiled._source
            patch.setattr(compiled, "_source", lambda other, n=name, c=changed, s=source: c if other == n else s(other))
            found.add(compiled.folder())
    assert len(found) == len(compiled.MODULES) + 1


def test_its_form_is_chosen_before_it_is_imported() -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"import pipelines.audio.tape\n{USE.format(form='auto')}"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "pipelines.audio.tape was imported before its form was chosen" in done.stderr
    with pytest.raises(ValueError, match="'quick' is none of"):
        compiled.use("quick")


def test_without_a_c_compiler_nothing_is_left(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "false")
    with pytest.raises(AmiraError, match=r"cannot be compiled: .*'false'.*apt-get install gcc"):
        compiled.build(lambda line: None)
    assert list(elsewhere.iterdir()) == []


def test_modules_are_all_compiled(made: Path) -> None:
    then = "import importlib\nfor name in compiled.MODULES: print(importlib.import_module(name).__file__)"
    words = in_a_process("auto", then).stdout.split()
    assert words[:2] == ["True", "True"]
    assert [Path(file).parts[: len(made.parts)] for file in words[2:]] == [made.parts] * len(compiled.MODULES)
    interpreted = in_a_process("interpreted", then).stdout.split()
    assert interpreted[0] == "False"
    assert {Path(file).suffix for file in interpreted[2:]} == {".py"}


def test_compiled_passes_the_tests_of_the_source(made: Path) -> None:
    files = [str(ROOT / "tests" / "unit" / name) for name in TESTS]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.compiled_sessions", "-p", "no:cacheprovider", *files]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed, 1 skipped" in done.stdout


def test_a_second_build_does_nothing(made: Path) -> None:
    said: list[str] = []
    before = made.stat().st_mtime_ns
    assert compiled.build(said.append) == made
    assert made.stat().st_mtime_ns == before
    assert said == [f"the compiled session logic is there: {made}"]
    assert made.is_relative_to(home())
