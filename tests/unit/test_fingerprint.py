"""The fingerprint: what it holds, what it must never hold, and when it says that runs differ."""

from __future__ import annotations

import copy
import getpass
import hashlib
import json
import os
import platform
import subprocess
from pathlib import Path

import pytest

from harness.fingerprint import code, differences, environment, fingerprint, model_hashes
from harness.machine import cpu_info
from pipelines.errors import AmiraError

CPUINFO = (
    "processor\t: 0\nmodel name\t: Some CPU @ 2 GHz: fast\nflags\t\t: fpu avx2 fma\n\nprocessor\t: 1\nflags\t\t: x\n"
)


def _git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    root = tmp_path / "checkout"
    (root / "kernels").mkdir(parents=True)
    (root / "requirements").mkdir()
    (root / "kernels" / "loop.py").write_text("x = 1\n", encoding="utf-8")
    (root / "requirements" / "lock.txt").write_text("numpy==2\n", encoding="utf-8")
    _git(root, "init", "-q")
    _git(root, "add", ".")
    _git(root, "commit", "-q", "-m", "first")
    return root


def test_names_commit_and_lock_file(checkout: Path) -> None:
    found = code(checkout)

    assert found["commit"] == _git(checkout, "rev-parse", "HEAD")
    assert found["dirty"] is False
    assert found["lock"] == hashlib.sha256(b"numpy==2\n").hexdigest()


def test_changed_code_is_dirty_and_has_another_hash(checkout: Path) -> None:
    before = code(checkout)
    (checkout / "kernels" / "loop.py").write_text("x = 2\n", encoding="utf-8")

    after = code(checkout)

    assert after["dirty"] is True
    assert after["commit"] == before["commit"]
    assert after["sources"] != before["sources"]
    assert [line.split(":")[0] for line in differences({"code": before}, {"code": after})] == ["code.sources"]


def test_a_changed_text_is_dirty_and_comparable(checkout: Path) -> None:
    before = code(checkout)
    (checkout / "NOTES.md").write_text("a note", encoding="utf-8")

    after = code(checkout)

    assert (before["dirty"], after["dirty"]) == (False, True)
    assert differences({"code": before}, {"code": after}) == []


@pytest.mark.parametrize("where", ["outside", "inside"])
def test_code_without_a_checkout_of_its_own_has_no_commit(checkout: Path, tmp_path: Path, where: str) -> None:
    folder = (checkout if where == "inside" else tmp_path) / "elsewhere"
    folder.mkdir()

    assert code(folder)["commit"] == "not a git checkout"
    assert code(folder)["lock"] == "no requirements/lock.txt"


def test_a_checkout_without_a_commit_says_so(tmp_path: Path) -> None:
    _git(tmp_path, "init", "-q")

    assert code(tmp_path)["commit"] == "no commit yet"


def test_has_what_speed_depends_on_and_is_the_same_twice(tmp_path: Path) -> None:
    one = fingerprint(tmp_path, ["some-model"])

    assert one == fingerprint(tmp_path, ["some-model"])
    assert one["python"] == f"CPython {platform.python_version()}"
    assert one["cpu"]["model"]
    assert one["cpu"]["affinity"] == sorted(os.sched_getaffinity(0))
    assert one["libraries"]["numpy"][0].isdigit()
    assert one["models"] == {"some-model": "not built"}
    assert one["memory_gib"] > 0


def test_names_no_place_user_or_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_PRELOAD", "")
    monkeypatch.setenv("OMP_PLACES", f"{tmp_path}/places:/opt/secret/other")
    monkeypatch.setenv("AMIRA_HOME", str(tmp_path))
    monkeypatch.setenv("AMIRA_TOKEN", "hunter2")

    text = json.dumps(fingerprint(tmp_path, ["m"]))

    assert "places other" in text
    for private in (str(tmp_path), "/opt", "hunter2", str(Path.home()), f'"{getpass.getuser()}"', str(Path.cwd())):
        assert private not in text
    if len(platform.node()) > 3:
        assert platform.node() not in text


def test_keeps_the_variables_that_change_speed_alone() -> None:
    kept = environment({"OMP_NUM_THREADS": "2", "MALLOC_ARENA_MAX": "1", "PATH": "/bin", "LD_PRELOAD": "/x/libmi.so"})

    assert kept == {"LD_PRELOAD": "libmi.so", "MALLOC_ARENA_MAX": "1", "OMP_NUM_THREADS": "2"}


def test_a_model_is_known_by_its_card(tmp_path: Path) -> None:
    card = {"files": {"b.onnx": {"sha256": "bb", "bytes": 1}, "a.onnx": {"sha256": "aa", "bytes": 1}}}
    (tmp_path / "card.json").write_text(json.dumps(card), encoding="utf-8")

    assert model_hashes(tmp_path) == {"a.onnx": "aa", "b.onnx": "bb"}


def test_a_model_without_a_card_is_known_by_its_files(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "w.onnx").write_bytes(b"weights")

    assert model_hashes(tmp_path) == {"sub/w.onnx": hashlib.sha256(b"weights").hexdigest()}


def test_a_broken_card_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "card.json").write_text("{", encoding="utf-8")

    with pytest.raises(AmiraError, match=r"is not a model card.*amira models build"):
        model_hashes(tmp_path)


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("cpu", "model"), "cpu.model: "),
        (("libraries", "numpy"), "libraries.numpy: "),
        (("code", "commit"), "code.commit: "),
        (("os", "kernel"), "os.kernel: "),
        (("models", "m"), "models.m: "),
    ],
)
def test_each_thing_that_matters_is_a_difference(tmp_path: Path, path: tuple[str, str], line: str) -> None:
    one = fingerprint(tmp_path, ["m"])
    other = copy.deepcopy(one)
    other[path[0]][path[1]] = "something else"

    (found,) = differences(one, other)

    assert found.startswith(line)
    assert found.endswith("against something else")
    assert differences(one, one) == []


def test_a_missing_entry_is_a_difference_and_memory_is_none() -> None:
    assert differences({"a": {"b": 1}, "memory_gib": 1.0}, {"memory_gib": 2.0}) == ["a.b: 1 against nothing"]


def test_two_commits_can_be_compared_on_the_same_machine() -> None:
    one, other = {"code": {"commit": "a"}, "python": "3"}, {"code": {"commit": "b"}, "python": "3"}

    assert differences(one, other) == ["code.commit: a against b"]
    assert differences(one, other, same_code=False) == []


def test_cpu_info_is_that_of_the_first_processor() -> None:
    assert cpu_info(CPUINFO) == {"processor": "0", "model name": "Some CPU @ 2 GHz: fast", "flags": "fpu avx2 fma"}
